"""Short-time Fourier transform there and back, for damage and masks: Hann 2048, hop 512."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import istft, stft

from tests.benchmarks.quality.audio import Audio

SIZE = 2048
HOP = 512

Spectra = NDArray[np.complex128]


def spectra(audio: Audio) -> Spectra:
    """(2, samples) to (2, bins, frames)."""
    return np.asarray(stft(audio, nperseg=SIZE, noverlap=SIZE - HOP)[2])


def signal(bins: Spectra, samples: int) -> Audio:
    """The inverse, cut or padded to the given length."""
    audio = np.asarray(istft(bins, nperseg=SIZE, noverlap=SIZE - HOP)[1])[:, :samples]
    return np.pad(audio, ((0, 0), (0, samples - audio.shape[1])))


def smooth_noise(
    shape: tuple[int, ...], spread: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float64]:
    """A random field over (bins, frames) of unit variance, correlated over `spread`."""
    field = gaussian_filter(rng.standard_normal(shape[-2:]), spread)
    return np.asarray(field / field.std())
