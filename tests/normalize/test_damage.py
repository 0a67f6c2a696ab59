"""Damage is a choice: what decodes is decoded, what is lost is silence, and is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.contracts import Mixture
from tasks.errors import CorruptAudio
from tests.normalize.files import RATE, encode, mix, music, samples_of, snr_db

SECONDS = 10
FRAMES = SECONDS * RATE


def written(path: Path) -> Path:
    """Ten seconds in the codec of the name's suffix, an MP3 without a frame count."""
    codec = {"mp3": "libmp3lame", "aac": "aac", "m4a": "aac", "flac": "flac", "ac3": "ac3"}
    options = {"write_xing": "0", "id3v2_version": "0"} if path.suffix == ".mp3" else {}
    return encode(path, music(FRAMES), codec[path.suffix[1:]], options=options)


def inserted(path: Path, piece: bytes, *shares: float) -> Path:
    """Bytes put in at these shares of a file."""
    data = path.read_bytes()
    for share in sorted(shares, reverse=True):
        at = int(len(data) * share)
        data = data[:at] + piece + data[at:]
    path.write_bytes(data)
    return path


def overwritten(path: Path, size: int, share: float = 0.5) -> Path:
    """Zeros over some of a file."""
    data = bytearray(path.read_bytes())
    at = int(len(data) * share)
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    return path


def told(mixture: Mixture) -> str:
    return next(note for note in mixture.notes if note.startswith("It is damaged at "))


@pytest.mark.parametrize("name", ["a.flac", "a.m4a", "a.mp3", "a.ac3"])
def test_a_hole_is_silence_of_its_length(tmp_path: Path, name: str) -> None:
    whole = mix(written(tmp_path / name))
    original = samples_of(whole)
    mixture = mix(overwritten(tmp_path / name, 4096))
    samples = samples_of(mixture)
    assert mixture.frames == pytest.approx(whole.frames, abs=2 * 1536)
    assert mixture.source_damages >= 1
    assert 0.02 < mixture.source_damaged_s < 1.0
    assert told(mixture).endswith(f"{mixture.source_damaged_s:.2f} s of it are lost.")
    assert 4.5 < float(told(mixture).split(" at ")[1].split(" s")[0]) < 5.5
    assert snr_db(original[: 4 * RATE], samples[: 4 * RATE]) > 60
    if name in ("a.flac", "a.m4a"):  # their clock tells exactly
        assert mixture.frames == whole.frames
        assert snr_db(original[-4 * RATE :], samples[-4 * RATE :]) > 60


def test_titles_of_a_web_radio_between_the_frames(tmp_path: Path) -> None:
    whole = mix(written(tmp_path / "a.mp3"))
    title = b"\x02StreamTitle='Ensemble - Song';".ljust(33, b"\0")
    mixture = mix(inserted(tmp_path / "a.mp3", title, 0.2, 0.4, 0.6, 0.8))
    assert mixture.frames == pytest.approx(whole.frames, abs=3 * 1152)
    assert 1 <= mixture.source_damages <= 8
    assert 0 < mixture.source_damaged_s < 0.5


def test_joined_files_with_a_tag_in_the_middle(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.mp3", music(FRAMES), "libmp3lame")
    data = first.read_bytes()
    assert data.startswith(b"ID3")
    first.write_bytes(data + data)
    mixture = mix(first)
    assert mixture.duration_s == pytest.approx(2 * SECONDS, abs=0.12)
    assert mixture.source_damages == 1
    assert mixture.source_damaged_s == 0
    assert mixture.source_promised_s == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("name", ["a.aac", "a.mp3", "a.ac3"])
def test_a_recording_that_begins_and_ends_inside_a_frame(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 4 + 11 : len(data) * 3 // 4 + 7])
    mixture = mix(path)
    assert mixture.duration_s == pytest.approx(SECONDS / 2, abs=0.4)
    # The other two decoders make something of a part of a frame, or never see it.
    assert mixture.source_damages == (1 if name == "a.aac" else 0)
    assert mixture.source_damaged_s < 0.2


def test_a_tag_behind_an_aac_recording_is_harmless(tmp_path: Path) -> None:
    path = written(tmp_path / "a.aac")
    whole = mix(path).frames
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    mixture = mix(path)
    assert (mixture.frames, mixture.source_damages) == (whole, 0)


def test_a_whole_file_is_not_damaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", music(FRAMES), RATE)
    mixture = mix(tmp_path / "a.flac")
    assert (mixture.source_damages, mixture.source_damaged_s) == (0, 0.0)
    assert mixture.notes == ()


@pytest.mark.parametrize("name", ["a.flac", "a.m4a", "a.mp3"])
def test_damage_can_be_refused(tmp_path: Path, name: str) -> None:
    path = overwritten(written(tmp_path / name), 4096)
    with pytest.raises(CorruptAudio, match=r"its audio is damaged at (4\.[6-9]|5\.[0-3]) s"):
        mix(path, damaged="refuse")


def test_a_cut_end_can_be_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.aac")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptAudio, match="ends in the middle of its audio"):
        mix(path, damaged="refuse")


def test_more_than_a_second_is_refused_unless_it_may_be(tmp_path: Path) -> None:
    path = written(tmp_path / "a.flac")
    overwritten(path, path.stat().st_size // 5)
    with pytest.raises(CorruptAudio, match="its audio is damaged at "):
        mix(path)
    mixture = mix(path, max_damaged_s=3.0)
    assert mixture.frames == FRAMES
    assert 1.5 < mixture.source_damaged_s < 3.0
    with pytest.raises(CorruptAudio):
        mix(path, max_damaged_s=1.5)


def test_of_a_long_track_one_percent_is_accepted(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (150 * 8000, 1))
    soundfile.write(tmp_path / "a.flac", samples, 8000)
    size = (tmp_path / "a.flac").stat().st_size
    overwritten(tmp_path / "a.flac", round(size * 0.4 / 150))
    mixture = mix(tmp_path / "a.flac")
    assert 1.0 < mixture.source_damaged_s < 1.5
    assert mixture.duration_s == pytest.approx(150.0)


@pytest.mark.parametrize("name", ["a.flac", "a.m4a"])
def test_a_download_that_broke_is_still_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    codec = "flac" if name == "a.flac" else "aac"
    encode(path, music(FRAMES), codec, options={"movflags": "+faststart"} if codec == "aac" else {})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    with pytest.raises(CorruptAudio, match=r"the header promises 10\.0 s but only "):
        mix(path)
