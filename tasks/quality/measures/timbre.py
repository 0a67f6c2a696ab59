"""What a stem sounds like: where its energy lies and how it begins. Tells drums from a voice."""

from __future__ import annotations

import numpy as np

from tasks.audio.decibels import Float64
from tasks.quality.measure import Measure, Measured, register
from tasks.quality.spectra import Block, FrameSteps

LOW_HZ = 200.0
HIGH_HZ = 4000.0


@register
class Timbre(Measure):
    """Where a stem's energy lies, and how it begins; NaN where silent.

    centroid_hz: Σ f √P / Σ √P of the long-term spectrum, 0 to half the sample rate.
    low_share, high_share: Share of energy under 200 Hz and above 4 kHz, 0 to 1.
    percussiveness: Rise of the mel bands' amplitudes from frame to frame over their sum,
        Σ max(Δ√P_b, 0) / Σ √P_b, 0 (steady) to 1 (every frame an onset out of silence).

    References: the spectral centroid of Grey and Gordon, JASA 63(5), 1978; half-wave rectified
    spectral flux, Dixon, "Onset detection revisited", DAFx 2006.
    """

    name = "timbre"

    def __init__(self, stems: int) -> None:
        self._bins: Float64 | None = None
        self._rate_hz = 0
        self._rise = np.zeros(stems)
        self._sum = np.zeros(stems)
        self._steps = FrameSteps()

    def update(self, block: Block) -> None:
        power = block.bin_energy[1:].astype(np.float64)
        self._bins = power if self._bins is None else self._bins + power
        self._rate_hz = block.rate_hz
        bands = np.sqrt(block.stem_mel_power).astype(np.float64)
        self._rise += np.maximum(self._steps(bands), 0).sum(axis=(1, 2))
        self._sum += bands.sum(axis=(1, 2))

    def result(self) -> Measured:
        assert self._bins is not None
        hz = np.linspace(0, self._rate_hz / 2, self._bins.shape[1])
        total = self._bins.sum(axis=1)
        heard = np.where(total > 0, 1.0, np.nan)
        energy, amplitude = np.maximum(total, 1e-30), np.sqrt(self._bins)
        centroid = (amplitude @ hz) / np.maximum(amplitude.sum(axis=1), 1e-30)
        return Measured(
            stems={
                "centroid_hz": heard * centroid,
                "low_share": heard * self._bins[:, hz < LOW_HZ].sum(axis=1) / energy,
                "high_share": heard * self._bins[:, hz > HIGH_HZ].sum(axis=1) / energy,
                "percussiveness": heard * self._rise / np.maximum(self._sum, 1e-30),
            }
        )
