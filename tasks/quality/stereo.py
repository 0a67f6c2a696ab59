"""Levels and stereo width, in time."""

from __future__ import annotations

import numpy as np

from tasks.audio.decibels import decibels
from tasks.quality.spans import Span, WorstSpan
from tasks.quality.spectra import Block, Float64

MONO_DB = -40.0


class Levels:
    """Energy and side-to-mid ratio of each signal, in time, over all channels."""

    def __init__(self, stems: int) -> None:
        self._energy = np.zeros(1 + stems)
        self._mid = np.zeros(1 + stems)
        self._samples = 0

    def update(self, block: Block) -> None:
        self._energy += block.squares.sum(axis=1)
        self._mid += np.square(block.mono).sum(axis=1) * block.samples.shape[1]
        self._samples += block.samples[0].size

    @property
    def energy(self) -> Float64:
        """Sum of squared samples, (signals,)."""
        return self._energy

    @property
    def rms_dbfs(self) -> Float64:
        """(signals,), -200 and up."""
        return decibels(self._energy, max(self._samples, 1), floor_db=-200.0)

    def side_mid_db(self) -> Float64:
        """Energy of what differs between the channels over what they share, (signals,)."""
        side = np.maximum(self._energy - self._mid, 0)
        return np.clip(decibels(side, np.maximum(self._mid, 1e-30)), -100, 100)


class StereoCollapse:
    """The mixture's width that is in no stem, laid to the stems that have none.

    In each block, the energy that the residual has between the channels, Σ |x_side - Σ s_side|²,
    is shared out by energy to the stems whose side is 40 dB under their mid; over the track, in dB
    of the stem's energy, -100 and up. True mono stems leave no width unexplained, so they read
    -100 among true stems; a mono stem beside a collapsed one may be blamed with it.
    """

    def __init__(self, stems: int) -> None:
        self._lost = np.zeros(stems)
        self._energy = np.zeros(stems)
        self._worst = WorstSpan(stems)

    def update(self, block: Block) -> None:
        channels = block.samples.shape[1]
        lost = np.square(block.rest - block.rest.mean(axis=0)).sum(dtype=np.float64)
        energy = block.squares[1:].sum(axis=1, dtype=np.float64)
        mid = channels * np.square(block.mono[1:]).sum(axis=1, dtype=np.float64)
        mono = energy - mid < 10 ** (MONO_DB / 10) * mid
        blamed = np.where(mono, energy, 0.0)
        share = lost * blamed / max(float(blamed.sum()), 1e-30)
        self._lost += share
        self._energy += energy
        self._worst.update(share, block.start_s, block.end_s)

    def result(self) -> tuple[Float64, list[Span | None]]:
        """(stems,), and where most of it is; NaN where silent."""
        return decibels(self._lost, self._energy), self._worst.result()
