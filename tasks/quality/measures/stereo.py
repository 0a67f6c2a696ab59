"""Levels and stereo width, in time."""

from __future__ import annotations

import numpy as np

from tasks.audio.decibels import Float64, decibels
from tasks.quality.measure import Measure, Measured, Others, Scope, register
from tasks.quality.spans import WorstSpan
from tasks.quality.spectra import Block

MONO_DB = -40.0


@register
class Levels(Measure):
    """Energy and side-to-mid ratio of each signal, in time, over all channels."""

    name = "levels"

    def __init__(self, stems: int) -> None:
        self._energy = np.zeros(1 + stems)
        self._mid = np.zeros(1 + stems)
        self._samples = 0

    def update(self, block: Block) -> None:
        self._energy += block.time_energy
        self._mid += block.mono_energy
        self._samples += block.samples[0].size

    def relative_energy_db(self) -> Float64:
        """Return each stem's energy relative to the mixture's, dB, (stems,)."""
        return decibels(self._energy[1:], self._energy[0])

    def side_mid_db(self) -> Float64:
        """Return the energy that differs between the channels over what they share, (signals,)."""
        side = np.maximum(self._energy - self._mid, 0)
        return np.clip(decibels(side, np.maximum(self._mid, 1e-30)), -100, 100)

    def result(self) -> Measured:
        rms_dbfs = decibels(self._energy, max(self._samples, 1), floor_db=-200.0)
        width = self.side_mid_db()
        return Measured(
            track={"rms_dbfs": rms_dbfs[0], "side_mid_db": width[0]},
            stems={
                "relative_energy_db": self.relative_energy_db(),
                "rms_dbfs": rms_dbfs[1:],
                "side_mid_db": width[1:],
                "d_side_mid_db": width[1:] - width[0],
            },
        )


@register
class StereoCollapse(Measure):
    """The mixture's width that is in no stem, laid to the stems that have none.

    In each block, the energy that the residual has between the channels, Σ |x_side - Σ s_side|²,
    is shared out by energy to the stems whose side is 40 dB under their mid; over the track, in dB
    of the stem's energy, -100 and up. True mono stems leave no width unexplained, so they read
    -100 among reference stems; a mono stem beside a collapsed one may be blamed with it.
    """

    name = "stereo_collapse"

    def __init__(self, stems: int) -> None:
        self._lost = np.zeros(stems)
        self._energy = np.zeros(stems)
        self._worst = WorstSpan(stems)

    @classmethod
    def of(cls, scope: Scope, others: Others) -> StereoCollapse | None:
        return cls(scope.stems) if scope.all_stems else None

    def update(self, block: Block) -> None:
        energy, mid = block.time_energy[1:], block.mono_energy[1:]
        mono = energy - mid < 10 ** (MONO_DB / 10) * mid
        blamed = np.where(mono, energy, 0.0)
        lost = np.square(block.rest - block.rest.mean(axis=0)).sum() if mono.any() else 0.0
        share = lost * blamed / max(float(blamed.sum()), 1e-30)
        self._lost += share
        self._energy += energy
        self._worst.update(share, block.start_s, block.end_s)

    def result(self) -> Measured:
        return Measured(
            stems={"collapse_db": decibels(self._lost, self._energy)},
            spans={"collapse_db": self._worst.result()},
        )
