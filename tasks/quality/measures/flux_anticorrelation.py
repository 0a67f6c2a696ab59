"""Energy that goes to and fro between a stem and the rest of the mixture."""

from __future__ import annotations

import numpy as np

from tasks.audio.decibels import Float64
from tasks.audio.stft import Real
from tasks.quality.measure import Measure, Measured, register
from tasks.quality.spans import WorstSpan
from tasks.quality.spectra import Block, FrameSteps


@register
class FluxAnticorrelation(Measure):
    """How far a stem's partials fall where the rest's rise, and rise where they fall.

    With a = Δ|S_i| and b = Δ|X - S_i|, the changes from one frame to the next, over the bins of
    the lower half of the spectrum: ½ Σ (|a - b| - |a + b|) / Σ |a|, which is -Σ sgn(ab) min(|a|,
    |b|) / Σ |a|: 1 if all that leaves the stem turns up in the rest, -1 if they move as one.
    Sources move independently, if not together; a separator that decides bin by bin whose a partial
    is moves it from one to the other and back. The side signal is left out. Its value is
    called `contrary_motion`, as it was first.
    """

    name = "flux_anticorrelation"

    def __init__(self, stems: int) -> None:
        self._excess = np.zeros(stems)
        self._motion = np.zeros(stems)
        self._steps = FrameSteps(), FrameSteps()
        self._worst = WorstSpan(stems)

    def update(self, block: Block) -> None:
        bins = block.spectra.shape[2] // 2
        rest = np.abs(block.spectra[:1, :, :bins] - block.spectra[1:, :, :bins])
        of_stem = self._steps[0](block.amplitude[1:, :, :bins])
        of_rest = self._steps[1](rest)
        excess = (_size(of_stem - of_rest) - _size(of_stem + of_rest)) / 2
        self._excess += excess
        self._motion += _size(of_stem)
        self._worst.update(excess, block.start_s, block.end_s)

    def result(self) -> Measured:
        motion = np.where(self._motion > 0, self._motion, np.nan)
        return Measured(
            stems={"contrary_motion": self._excess / motion},
            spans={"contrary_motion": self._worst.result()},
        )


def _size(changes: Real) -> Float64:
    """Sum of the absolute values of each stem, (stems,); the values are lost."""
    return np.asarray(np.abs(changes, out=changes).sum(axis=(1, 2)), dtype=np.float64)
