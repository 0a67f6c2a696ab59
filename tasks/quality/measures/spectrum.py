"""Long-term spectrum (bandwidth, low-pass cliff), and roughness."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.audio.decibels import Float64, decibels
from tasks.audio.stft import Real
from tasks.quality.measure import Measure, Measured, register
from tasks.quality.spans import WorstSpan
from tasks.quality.spectra import Block

CLIFF_BINS = 24
CLIFF_DB = 25.0
BANDWIDTH_DB = -80.0
DB_PER_NEPER = 10 / np.log(10)


class LongTerm(NamedTuple):
    """Attributes:
    bandwidth_hz: Highest frequency within 80 dB of the spectrum's peak, (signals,).
    cliff_db: Largest drop over 24 bins (517 Hz) above 500 Hz, (signals,).
    cliff_rel_db: Largest drop of the stem less the mixture's at the same place, (stems,).
    ends_at_bin: The middle of that cliff, (stems,); -1 where it is under 25 dB.
    end_level: Mean power a bin over the 24 bins under it, (stems,).
    """

    bandwidth_hz: Float64
    cliff_db: Float64
    cliff_rel_db: Float64
    ends_at_bin: npt.NDArray[np.int64]
    end_level: Float64


@register
class LongTermSpectrum(Measure):
    """Mean power spectrum of each signal over the track, smoothed."""

    name = "long_term_spectrum"

    def __init__(self, stems: int) -> None:
        self._power: Float64 | None = None
        self._rate_hz = 0

    def update(self, block: Block) -> None:
        power = block.bin_energy.astype(np.float64)
        self._power = power if self._power is None else self._power + power
        self._rate_hz = block.rate_hz

    def result(self) -> Measured:
        found = self.summary()
        return Measured(
            track={"bandwidth_hz": found.bandwidth_hz[0], "cliff_db": found.cliff_db[0]},
            stems={
                "bandwidth_hz": found.bandwidth_hz[1:],
                "cliff_db": found.cliff_db[1:],
                "cliff_rel_db": found.cliff_rel_db,
            },
        )

    def summary(self) -> LongTerm:
        """Return where the signals' spectra end, and how."""
        assert self._power is not None
        level = self._smoothed_db(self._power)
        hz_per_bin = self._rate_hz / 2 / (self._power.shape[1] - 1)
        inside = level > BANDWIDTH_DB
        highest = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
        start = round(500 / hz_per_bin)
        drop = level[:, start:-CLIFF_BINS] - level[:, start + CLIFF_BINS :]
        relative = (drop[1:] - np.maximum(drop[0], 0)).clip(0)
        deepest = relative.max(axis=1, initial=0.0)
        edges = start + (relative.argmax(axis=1) if relative.size else np.zeros(len(drop) - 1, int))
        under = [
            power[max(edge - CLIFF_BINS, 0) : max(edge, 1)].mean()
            for power, edge in zip(self._power[1:], edges, strict=True)
        ]
        heard = np.where(self._power.max(axis=1) > 0, 1.0, np.nan)
        return LongTerm(
            highest * hz_per_bin * heard,
            drop.max(axis=1, initial=0.0) * heard,
            deepest * heard[1:],
            np.where(deepest >= CLIFF_DB, edges + CLIFF_BINS // 2, -1),
            np.array(under),
        )

    @staticmethod
    def _smoothed_db(power: Float64) -> Float64:
        """dB relative to each signal's highest, floored at -100, median of 25 bins.

        A median follows the ground between partials, so that the end of a series of partials is
        no cliff: that is how organs and simple synthesizers end.
        """
        from scipy.ndimage import median_filter

        smooth = median_filter(power, size=(1, CLIFF_BINS + 1), mode="nearest")
        return decibels(smooth, np.maximum(smooth.max(axis=1, keepdims=True), 1e-30))


def _ragged(gain: Real, power: Real) -> float:
    """Σ |Δ_f gain| P over (frames, bins), of nepers in dB."""
    steps = np.diff(gain, axis=1)
    np.abs(steps, out=steps)
    # Each step between two bins counts with half the energy of both.
    sums = np.vecdot(steps, power[:, 1:]) + np.vecdot(steps, power[:, :-1])
    return float(sums.sum(dtype=np.float64) * DB_PER_NEPER / 2)


@register
class Roughness(Measure):
    """Energy-weighted mean of |Δ_f (20 log|S| - 20 log|X|)|, dB a bin, 0 and up.

    A reference stem's gain over the mixture runs smoothly from bin to bin; musical noise and holes
    make it ragged.
    """

    name = "roughness"

    def __init__(self, stems: int) -> None:
        self._rough = np.zeros(stems)
        self._energy = np.zeros(stems)
        self._worst = WorstSpan(stems)

    def update(self, block: Block) -> None:
        level, power = block.log_power, block.power
        rough = np.array([_ragged(level[k] - level[0], power[k]) for k in range(1, len(level))])
        self._rough += rough
        self._energy += block.energy[1:]
        self._worst.update(rough, block.start_s, block.end_s)

    def result(self) -> Measured:
        rough = self._rough / np.where(self._energy > 0, self._energy, np.nan)
        return Measured(stems={"rough_db": rough}, spans={"rough_db": self._worst.result()})
