"""Flat tops at a stem's own peak."""

from __future__ import annotations

import numpy as np

from tasks.audio.stft import Real
from tasks.quality.measure import Measure, Measured, register
from tasks.quality.spans import WorstSpan
from tasks.quality.spectra import Block

NEAR_PEAK = 0.985
FLAT = 1e-4
CORNER = 1.5e-3


def flat_top_samples(x: Real, peak: float) -> int:
    """Samples in flat tops of three and more: at 98.5 % of the peak or above, equal to within
    1e-4 of it, and entered or left by a corner: 1.5e-3 of the peak and more in two samples.

    The corner tells clipping from the crest of a low note, whose samples are as equal but whose
    slope is continuous.

    Args:
        x: One channel's absolute samples, (samples,).
        peak: The signal's largest absolute sample.
    """
    near = x >= NEAR_PEAK * peak
    step = np.abs(np.diff(x))
    flat = (step <= FLAT * peak) & near[1:] & near[:-1]
    edges = np.diff(np.concatenate([[0], flat.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    before, after = np.maximum(starts - 2, 0), np.minimum(ends + 2, len(x) - 1)
    edge = np.maximum(np.abs(x[starts] - x[before]), np.abs(x[ends] - x[after]))
    corner = edge >= CORNER * peak
    runs = (ends - starts)[(ends - starts >= 2) & corner]
    return int(runs.sum() + len(runs))


@register
class Clipping(Measure):
    """Clipped samples a million, over blocks; a higher peak than before starts the count anew."""

    name = "clipping"

    def __init__(self, stems: int) -> None:
        self._peak = np.zeros(stems)
        self._clipped = np.zeros(stems)
        self._samples = 0
        self._worst = [WorstSpan(1) for _ in range(stems)]

    def update(self, block: Block) -> None:
        self._samples += block.samples[0].size
        for i, stem in enumerate(block.samples[1:]):
            highest = float(block.peaks[1 + i])
            if highest < NEAR_PEAK * self._peak[i] or highest == 0:
                continue
            if self._peak[i] < NEAR_PEAK * highest:
                self._clipped[i], self._worst[i] = 0, WorstSpan(1)
            self._peak[i] = max(self._peak[i], highest)
            count = sum(flat_top_samples(channel, self._peak[i]) for channel in np.abs(stem))
            self._clipped[i] += count
            self._worst[i].update([count], block.start_s, block.end_s)

    def result(self) -> Measured:
        ppm = 1e6 * self._clipped / max(self._samples, 1)
        return Measured(
            stems={"clip_ppm": ppm, "clip_log_ppm": np.log10(1 + ppm)},
            spans={"clip_log_ppm": [worst.result()[0] for worst in self._worst]},
        )
