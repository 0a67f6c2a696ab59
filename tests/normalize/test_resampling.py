"""Resampling keeps length, pitch and level, and leaves no aliases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.normalize.resampling import Block, resample, resampled_length
from tests.normalize.files import RATE, Samples, mix, noise, samples_of, snr_db, tone


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 48_000, 88_200, 96_000, 192_000])
def test_a_tone_stays_the_same_tone(tmp_path: Path, rate: int) -> None:
    frames = 2 * rate + 7
    soundfile.write(tmp_path / "a.wav", tone(frames, 1000.0, rate), rate, subtype="DOUBLE")

    mixture = mix(tmp_path / "a.wav")

    assert mixture.frames == round(frames * RATE / rate)
    ideal = tone(mixture.frames, 1000.0)
    # The ends ring: there the tone begins and stops.
    inner = slice(2000, -2000)
    assert snr_db(ideal[inner], samples_of(mixture)[inner]) > 120
    assert mixture.source.sample_rate_hz == rate


def _loudest_db(samples: Samples) -> float:
    windowed = samples[4000:-4000, 0] * np.blackman(len(samples) - 8000)
    spectrum = np.abs(np.fft.rfft(windowed)) / (0.42 * len(windowed) / 2)
    return float(20 * np.log10(spectrum.max() + 1e-30))


@pytest.mark.parametrize("hz", [24_000.0, 30_000.0, 40_000.0, 60_000.0, 90_000.0])
def test_what_lies_above_the_new_band_leaves_no_alias(tmp_path: Path, hz: float) -> None:
    rate = 192_000
    soundfile.write(tmp_path / "a.wav", tone(rate, hz, rate), rate, subtype="DOUBLE")
    mixture = mix(tmp_path / "a.wav", bit_depth="32f")
    assert _loudest_db(samples_of(mixture)) < -120


def test_an_8_khz_mono_file_becomes_stereo(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(8000, 300.0, 8000, channels=1), 8000)
    mixture = mix(tmp_path / "a.wav")
    samples = samples_of(mixture)
    assert mixture.frames == RATE
    assert np.array_equal(samples[:, 0], samples[:, 1])
    assert mixture.notes == ("Its one channel was copied to both.",)


@pytest.mark.parametrize("frames", [1, 2, 999, 4097, 100_003])
@pytest.mark.parametrize("rate", [8_000, 44_056, 48_000, 192_000])
def test_length_is_exact_however_the_blocks_fall(frames: int, rate: int) -> None:
    signal = noise(frames)
    whole = np.concatenate(list(resample([Block(signal, rate)], RATE)))
    parts = [Block(signal[at : at + 777], rate) for at in range(0, frames, 777)]
    pieces = np.concatenate(list(resample(parts, RATE)))
    assert len(whole) == resampled_length(frames, rate, RATE)
    assert np.array_equal(whole, pieces)


def test_a_rate_that_changes_on_the_way_is_followed() -> None:
    blocks = [Block(tone(48_000, rate=48_000), 48_000), Block(tone(RATE), RATE)]
    out = np.concatenate(list(resample(blocks, RATE)))
    assert len(out) == 2 * RATE
    assert np.array_equal(out[RATE:], blocks[1].samples)


def test_another_rate_can_be_asked_for(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(RATE), RATE)
    mixture = mix(tmp_path / "a.wav", sample_rate_hz=48_000)
    assert (mixture.sample_rate_hz, mixture.frames) == (48_000, 48_000)
