"""Overs are scaled to fit and silence is told, both measured over the whole track."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.normalize.files import RATE, integers_of, mix, music, noise, samples_of, snr_db, tone


def test_float_overs_are_scaled_to_just_fit(tmp_path: Path) -> None:
    original = tone(2 * RATE, level=0.5)
    original[70_000] = (1.6, -1.7)
    soundfile.write(tmp_path / "a.wav", original, RATE, subtype="DOUBLE")

    mixture = mix(tmp_path / "a.wav")
    samples = samples_of(mixture)

    assert mixture.gain == pytest.approx(1 / 1.7, rel=1e-6)
    assert mixture.peak == pytest.approx(1.0, abs=1e-6)
    assert np.abs(samples).max() == pytest.approx(1.0, abs=1e-6)
    assert np.abs(samples - original * mixture.gain).max() <= 2.0**-24
    assert any("4.61 dB over full scale" in note for note in mixture.notes)


def test_a_hot_master_may_overshoot_when_it_is_resampled(tmp_path: Path) -> None:
    hot = np.sign(noise(96_000)) * 32767 / 32768
    soundfile.write(tmp_path / "a.wav", hot, 48_000, subtype="PCM_16")
    mixture = mix(tmp_path / "a.wav")
    assert 0.2 < mixture.gain < 1.0
    # The highest sample touches full scale and stays the only one there: nothing was clipped.
    assert np.count_nonzero(np.abs(samples_of(mixture)) >= 1 - 2.0**-22) < 10


def test_full_scale_integers_need_no_gain(tmp_path: Path) -> None:
    extremes = np.tile(np.array([[32767, -32768], [-32768, 32767]], np.int16), (RATE, 1))
    soundfile.write(tmp_path / "a.wav", extremes, RATE, subtype="PCM_16")
    mixture = mix(tmp_path / "a.wav")
    assert mixture.gain == 1.0
    assert np.array_equal(integers_of(mixture) >> 16, extremes)


@pytest.mark.parametrize("depth", ["16", "24", "32f"])
def test_the_gain_holds_at_every_depth(tmp_path: Path, depth: str) -> None:
    original = 2.5 * music(RATE) / 0.45
    soundfile.write(tmp_path / "a.wav", original, RATE, subtype="FLOAT")
    mixture = mix(tmp_path / "a.wav", bit_depth=depth)
    samples = samples_of(mixture)
    assert np.abs(samples).max() <= 1.0
    assert snr_db(original * mixture.gain, samples) > 80


def test_samples_beyond_all_measure_are_no_audio_but_no_crash(tmp_path: Path) -> None:
    original = tone(RATE)
    original[100] = 1e30
    soundfile.write(tmp_path / "a.wav", original, RATE, subtype="DOUBLE")
    mixture = mix(tmp_path / "a.wav")
    assert mixture.peak == pytest.approx(1.0, abs=1e-6)


def test_an_all_silent_track_succeeds_and_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((3 * RATE, 2)), RATE)
    mixture = mix(tmp_path / "a.flac")
    assert mixture.silent
    assert mixture.peak == 0.0
    assert mixture.gain == 1.0
    assert mixture.frames == 3 * RATE


@pytest.mark.parametrize(("dbfs", "silent"), [(-91.0, True), (-89.0, False)])
def test_silence_begins_at_90_dbfs_rms(tmp_path: Path, dbfs: float, silent: bool) -> None:
    level = 10 ** (dbfs / 20) * 2**0.5
    soundfile.write(tmp_path / "a.wav", tone(3 * RATE, level=level), RATE, subtype="PCM_24")
    assert mix(tmp_path / "a.wav").silent is silent


def test_one_audible_second_is_enough_not_to_be_silent(tmp_path: Path) -> None:
    samples = np.zeros((60 * 8000, 2))
    samples[-4000:] = noise(4000, level=0.002)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="PCM_24")
    assert not mix(tmp_path / "a.wav").silent
