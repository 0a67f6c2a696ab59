"""Damage to one stem on its own: each function takes (2, samples), a strength and a generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, uniform_filter
from scipy.signal import butter, fftconvolve, sosfilt

from tests.benchmarks.quality.audio import Audio
from tests.benchmarks.quality.short_time import signal, spectra
from tests.data.studio.score import SAMPLE_RATE

Generator = np.random.Generator


def musical_noise(stem: Audio, level_db: float, rng: Generator) -> Audio:
    """Isolated tonal blips: two of a hundred bins ring, at `level_db` of the stem in all."""
    bins = spectra(stem)
    envelope = _rms(np.abs(bins) ** 2, (1, 15, 9))
    phases = np.exp(2j * np.pi * rng.random(bins.shape[-2:]))
    blips = signal((rng.random(bins.shape[-2:]) < 0.02) * phases * envelope, stem.shape[1])
    return stem + at_level(blips, stem, level_db)


def holes(stem: Audio, share: float, rng: Generator) -> Audio:
    """Patches of the spectrogram (an octave's third by 0.2 s) are silent, `share` of them."""
    bins = spectra(stem)
    return signal(bins * ~patches(bins.shape[-2:], share, rng), stem.shape[1])


def dropouts(stem: Audio, share: float, rng: Generator) -> Audio:
    """Gaps of 30 to 300 ms with hard edges, until `share` of the time is gone."""
    out = stem.copy()
    while (out[0] == 0).mean() - (stem[0] == 0).mean() < share * (stem[0] != 0).mean():
        length = round(rng.uniform(0.03, 0.3) * SAMPLE_RATE)
        start = int(rng.integers(stem.shape[1] - length))
        out[:, start : start + length] = 0
    return out


def truncation(stem: Audio, share: float, rng: Generator) -> Audio:
    """The last `share` of the stem is digital silence."""
    out = stem.copy()
    out[:, round((1 - share) * stem.shape[1]) :] = 0
    return out


def lowpass(stem: Audio, hertz: float, rng: Generator) -> Audio:
    """Nothing above `hertz`: a 12th-order Butterworth, run both ways so that time stays put."""
    sos = butter(12, hertz, fs=SAMPLE_RATE, output="sos")
    return np.asarray(sosfilt(sos, sosfilt(sos, stem)[:, ::-1])[:, ::-1])


def clipping(stem: Audio, drive_db: float, rng: Generator) -> Audio:
    """Clipped `drive_db` under its peak."""
    ceiling = np.abs(stem).max() * 10 ** (-drive_db / 20)
    return np.clip(stem, -ceiling, ceiling)


def gain(stem: Audio, gain_db: float, rng: Generator) -> Audio:
    """Too loud or too quiet, by `gain_db`."""
    return np.asarray(stem * 10 ** (gain_db / 20))


def polarity(stem: Audio, share: float, rng: Generator) -> Audio:
    """Upside down: both channels (1), the right one (0.5), or all above 1 kHz (0.25)."""
    if share == 1:
        return -stem
    if share == 0.5:
        return np.asarray(stem * np.array([[1], [-1]]))
    return 2 * lowpass_gently(stem, 1000) - stem


def time_shift(stem: Audio, milliseconds: float, rng: Generator) -> Audio:
    """Late by `milliseconds`."""
    late = round(milliseconds / 1000 * SAMPLE_RATE)
    return np.pad(stem, ((0, 0), (late, 0)))[:, : stem.shape[1]]


def phase_smear(stem: Audio, radians: float, rng: Generator) -> Audio:
    """Each bin's phase is off by a normal deviate of `radians`, alike in both channels."""
    bins = spectra(stem)
    off = rng.normal(0, radians, bins.shape[-2:])
    return signal(bins * np.exp(1j * off), stem.shape[1])


def mono_collapse(stem: Audio, width: float, rng: Generator) -> Audio:
    """The side signal is scaled by `width`: 0 leaves mono."""
    middle = stem.mean(axis=0)
    return np.asarray(middle + width * (stem - middle))


def silence(stem: Audio, level_db: float, rng: Generator) -> Audio:
    """The stem is gone but for a trace at `level_db`; at -100 it is digital silence."""
    return np.asarray(stem * (0.0 if level_db <= -100 else 10 ** (level_db / 20)))


def reverb(stem: Audio, level_db: float, rng: Generator) -> Audio:
    """A room of 0.8 s that isn't in the mixture, at `level_db` of the stem."""
    length = round(0.8 * SAMPLE_RATE)
    tail = rng.standard_normal((2, length)) * np.exp(-6.9 * np.arange(length) / length)
    tail[:, : round(0.01 * SAMPLE_RATE)] = 0
    wet = np.asarray(fftconvolve(stem, tail, axes=-1))[:, : stem.shape[1]]
    return stem + at_level(wet, stem, level_db)


def dry_out(stem: Audio, floor_db: float, rng: Generator) -> Audio:
    """Tails and quiet detail are lost: bins this far under their band's recent peak are gone."""
    bins = spectra(stem)
    level = _rms(np.abs(bins).mean(axis=0) ** 2, (9, 3))
    recent = gaussian_filter1d(level, 40, axis=-1) * 2
    gate = level / (recent + 1e-9)
    closed = 1 / (1 + (10 ** (floor_db / 20) / np.maximum(gate, 1e-9)) ** 6)
    return signal(bins * closed, stem.shape[1])


def noise(stem: Audio, level_db: float, rng: Generator) -> Audio:
    """White noise all along, at `level_db` of the stem."""
    return stem + at_level(rng.standard_normal(stem.shape), stem, level_db)


def patches(shape: tuple[int, ...], share: float, rng: Generator) -> NDArray[np.bool_]:
    """Which of (bins, frames) lie in a random choice of patches: a third of an octave by 0.2 s."""
    bins, frames = shape
    octave = np.log2(np.maximum(np.arange(bins), 1)) * 3
    band = octave.astype(int)[:, None]
    spell = (np.arange(frames) // 17)[None, :]
    chosen = rng.random((band.max() + 1, spell.max() + 1)) < share
    return np.asarray(chosen[band, spell])


def lowpass_gently(stem: Audio, hertz: float) -> Audio:
    """A 2nd-order Butterworth, run both ways."""
    sos = butter(2, hertz, fs=SAMPLE_RATE, output="sos")
    return np.asarray(sosfilt(sos, sosfilt(sos, stem)[:, ::-1])[:, ::-1])


def at_level(audio: Audio, reference: Audio, level_db: float) -> Audio:
    """The audio scaled to `level_db` of the reference's energy."""
    energy = (audio**2).sum()
    scale = np.sqrt((reference**2).sum() / energy) if energy > 0 else 0.0
    return audio * scale * 10 ** (level_db / 20)


def _rms(power: NDArray[np.float64], window: tuple[int, ...]) -> NDArray[np.float64]:
    """Root of the local mean; a running mean of nothing may read a hair under zero."""
    return np.asarray(np.sqrt(np.maximum(uniform_filter(power, size=window), 0)))
