"""What the pictures show is what is in the audio."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from tasks.recording.gallery.previews import BIT_RATE_BPS, Preview
from tasks.recording.gallery.spectrogram import BANDS, COLUMNS, Look, Looking, band_edges
from tests.gallery.studio import tone
from tests.recording.factory import RATE_HZ


def look_at(samples: np.ndarray, block: int = 1 << 17) -> Look:
    looking = Looking(len(samples), RATE_HZ)
    for start in range(0, len(samples), block):
        looking.add(samples[start : start + block])
    return looking.finish()


@pytest.mark.parametrize("hertz", [60.0, 440.0, 5000.0, 16000.0])
def test_a_tone_is_brightest_where_it_sounds(hertz: float) -> None:
    samples = tone(hertz, 8)
    samples[: 4 * RATE_HZ] = 0
    look = look_at(samples)
    half = look.power.shape[1] // 2
    assert look.power[:, : half - 2].max() < 1e-6 * look.power.max()
    edges = (band_edges(RATE_HZ) - 0.5) * RATE_HZ / 2048
    bin_hz = RATE_HZ / 2048
    for column in range(half + 2, look.power.shape[1] - 2):
        brightest = int(look.power[:, column].argmax())
        assert edges[brightest] - bin_hz <= hertz <= edges[brightest + 1] + bin_hz


@pytest.mark.parametrize(
    ("seconds", "block"),
    [(0.003, 1000), (0.5, 1000), (0.5, 4096), (7.3, 4096), (7.3, 1 << 17), (90.0, 5003)],
)
def test_a_look_doesn_t_depend_on_the_blocks(seconds: float, block: int) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, (int(seconds * RATE_HZ), 2))
    whole, cut = look_at(samples.astype("f4"), 1 << 30), look_at(samples.astype("f4"), block)
    np.testing.assert_array_equal(whole.low, cut.low)
    np.testing.assert_array_equal(whole.high, cut.high)
    np.testing.assert_allclose(whole.power, cut.power, rtol=1e-4)
    assert whole.power.shape[0] == BANDS
    assert whole.power.shape[1] <= COLUMNS
    assert (whole.power.max(axis=0) > 0).all()


def test_a_waveform_holds_the_peaks() -> None:
    samples = np.zeros((10 * RATE_HZ, 2), np.float32)
    samples[3 * RATE_HZ, 0] = 0.7
    samples[7 * RATE_HZ, 1] = -0.9
    look = look_at(samples)
    columns = len(look.high)
    assert look.high[3 * columns // 10] == pytest.approx(0.7)
    assert look.low[7 * columns // 10] == pytest.approx(-0.9)
    assert np.count_nonzero(look.high) == np.count_nonzero(look.low) == 1
    assert look.peak == pytest.approx(0.9)


def test_levels_are_decibels_under_the_loudest() -> None:
    loud, quiet = look_at(tone(660, level=0.4)), look_at(tone(660, level=0.004))
    loudest = float(loud.power.max())
    assert loud.levels(loudest).max() == 255
    assert quiet.levels(loudest).max() == pytest.approx(255 * (1 - 40 / 80), abs=1)
    silence = look_at(np.zeros((RATE_HZ, 2), np.float32))
    assert silence.levels(0.0).max() == silence.levels(loudest).max() == 0


def test_mono_and_nothing_at_all() -> None:
    assert look_at(tone(440)[:, :1]).peak == pytest.approx(look_at(tone(440)).peak)
    assert Looking(0, RATE_HZ).finish().peak == 0


@pytest.mark.parametrize("channels", [1, 2])
def test_a_preview_sounds_like_its_source_and_lasts_as_long(channels: int) -> None:
    samples = tone(660)[:, :channels]
    preview = Preview(RATE_HZ)
    for start in range(0, len(samples), 10_000):
        preview.add(samples[start : start + 10_000])
    encoded = preview.finish()
    assert len(encoded) < 1.3 * BIT_RATE_BPS / 8 * len(samples) / RATE_HZ
    with av.open(io.BytesIO(encoded)) as container:
        heard = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)[0]
    assert len(heard) / 48_000 == pytest.approx(len(samples) / RATE_HZ, abs=0.05)
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.argmax(spectrum) * 48_000 / len(heard) == pytest.approx(660, abs=2)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(samples**2)), rel=0.1)
