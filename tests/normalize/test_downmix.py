"""The fold to stereo: every channel where the table says, at the level it says."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tasks.normalize import downmix
from tests.normalize.files import RATE, encode, mix, noise, samples_of

FOLD = 10 ** (-3.0103 / 20)
FRAMES = RATE // 2
EXPECTED = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (FOLD, FOLD),
    "LFE": (0.0, 0.0),
    "BL": (FOLD, 0.0),
    "BR": (0.0, FOLD),
    "SL": (FOLD, 0.0),
    "SR": (0.0, FOLD),
    "BC": (0.5, 0.5),
    "FLC": (FOLD, 0.0),
    "FRC": (0.0, FOLD),
}
LAYOUTS = ["2.1", "3.0", "quad", "4.0", "5.0", "5.1", "5.1(side)", "6.1", "7.1", "7.1(wide)"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_channel_s_tone_arrives_where_the_table_says(tmp_path: Path, layout: str) -> None:
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    # Whole periods in the file, so that each tone has a bin of its own.
    bins = [100 * (index + 1) for index in range(len(names))]
    t = np.arange(FRAMES) / FRAMES
    tones = np.stack([0.1 * np.sin(2 * np.pi * b * t) for b in bins], axis=1)
    path = encode(tmp_path / "a.wav", tones, "pcm_s24le", layout=layout)

    mixture = mix(path)

    spectrum = np.abs(np.fft.rfft(samples_of(mixture), axis=0)) / (FRAMES / 2) / 0.1
    for name, where in zip(names, bins, strict=True):
        assert spectrum[where] == pytest.approx(EXPECTED[name], abs=1e-4), name
    assert mixture.source.channels == len(names)
    assert mixture.source.channel_layout == layout
    assert f"Its {len(names)} channels ({layout}) were folded into two." in mixture.notes[0]
    assert ("LFE channel was dropped" in mixture.notes[0]) == ("LFE" in names)


def test_a_layout_that_is_not_stated_is_read_in_wav_order(tmp_path: Path) -> None:
    samples = np.zeros((FRAMES, 6))
    samples[:, 2] = 0.5
    soundfile.write(tmp_path / "a.aiff", samples, RATE, subtype="PCM_24")
    mixture = mix(tmp_path / "a.aiff")
    assert samples_of(mixture)[100] == pytest.approx([0.5 * FOLD] * 2, abs=1e-6)
    assert "an unstated layout, read in WAV order" in mixture.notes[0]


def test_more_channels_than_any_layout_alternate_between_the_sides() -> None:
    weights = downmix.matrix(("NONE",) * 10)
    assert weights.shape == (10, 2)
    assert weights[:4] == pytest.approx(np.array([[1, 0], [0, 1], [FOLD, 0], [0, FOLD]]), abs=1e-5)


def test_every_layout_that_ffmpeg_names_reaches_both_sides() -> None:
    for layout in ("octagonal", "hexagonal", "7.1.4", "22.2", "downmix", "binaural"):
        names, guessed = downmix.names_of(av.AudioLayout(layout))
        assert not guessed, layout
        assert (downmix.matrix(names).sum(axis=0) >= 1).all(), layout


def test_a_fold_beyond_full_scale_is_brought_back_by_the_gain(tmp_path: Path) -> None:
    samples = np.full((FRAMES, 6), 0.9)
    path = encode(tmp_path / "a.wav", samples, "pcm_s24le", layout="5.1")
    mixture = mix(path)
    assert mixture.gain == pytest.approx(1 / (0.9 * (1 + 2 * FOLD)), rel=1e-4)
    assert mixture.peak == pytest.approx(1.0, abs=1e-6)
    assert samples_of(mixture).max() == pytest.approx(1.0, abs=1e-6)


def test_planes_of_more_than_eight_channels_are_all_read_and_no_more(tmp_path: Path) -> None:
    original = noise(RATE, 16)
    path = encode(tmp_path / "a.nut", original, "pcm_s16le_planar", layout="hexadecagonal")
    mixture = mix(path)
    assert mixture.source.channels == 16
    assert mixture.frames == RATE
    assert np.isfinite(samples_of(mixture)).all()
