"""Noise that swells in a band of the spectrum: wind, surf, a bowed cymbal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft, rfftfreq

from tests.data.studio.score import SAMPLE_RATE, Texture


def breathe(texture: Texture, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The texture as stereo audio (2, samples), its level being the RMS at full swell.

    The band is a bell in log frequency; each side has noise of its own beside what both share.
    """
    samples = round(seconds * SAMPLE_RATE)
    hertz = np.maximum(rfftfreq(samples, 1 / SAMPLE_RATE), 1.0)
    bell = np.exp(-0.5 * (np.log2(hertz / texture.centre_hz) / (texture.octaves / 2)) ** 2)
    shared = rng.standard_normal(samples)
    sides = np.sqrt(0.5) * (shared + rng.standard_normal((2, samples)))
    coloured = irfft(rfft(sides) * bell, n=samples)
    coloured /= np.sqrt((coloured**2).mean())
    pans = np.sqrt(np.array([[1 - texture.pan], [1 + texture.pan]]))
    return np.asarray(texture.level * pans * coloured * _swell(texture, samples, rng), np.float32)


def _swell(texture: Texture, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A slow curve between 0.05 and 1, rising and falling about once in `swell_s`."""
    knots = int(np.ceil(samples / SAMPLE_RATE / (texture.swell_s / 2))) + 2
    heights = np.where(np.arange(knots) % 2 == 0, 0.05, 1.0) * rng.uniform(0.6, 1.0, knots)
    at = np.arange(samples) / SAMPLE_RATE / (texture.swell_s / 2) + rng.uniform(0, 1)
    low = np.floor(at).astype(int)
    ease = 0.5 - 0.5 * np.cos(np.pi * (at - low))
    return np.asarray(heights[low] * (1 - ease) + heights[np.minimum(low + 1, knots - 1)] * ease)
