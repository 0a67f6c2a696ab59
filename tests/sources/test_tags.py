"""The tags of real files in every container reach `SourceAudio.tags`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile as sf
from mutagen.id3 import TALB, TCON, TIT2, TPE1, TSRC

from tasks.contracts import Tags, TrackRef
from tasks.sources import ingest
from tasks.sources.tags import filled, read_tags
from tests.sources.conftest import QUICK

ENCODERS = {"m4a": "aac", "opus": "libopus", "mp3": "libmp3lame"}
ENCODERS |= {"flac": "flac", "aiff": "pcm_s16be", "wav": "pcm_s16le", "webm": "libopus"}
WANTED = {"title": "Ünder the ☂", "artist": "Båndet", "album": "Third", "genre": "Jazz"}


def make(path: Path, metadata: dict[str, str] | None = None) -> Path:
    rate = 48_000
    tone = np.sin(np.arange(rate // 2) * 2 * math.pi * 220 / rate).astype(np.float32)
    if path.suffix == ".ogg":
        sf.write(path, tone, rate, format="OGG", subtype="VORBIS")
        return path
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(ENCODERS[path.suffix[1:]], rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def ingested(path: Path) -> Tags:
    return ingest(TrackRef(source=str(path), kind="file"), path.parent, QUICK).tags


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac", "ogg", "opus"])
def test_easy_containers(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"a.{suffix}")
    file = mutagen.File(path, easy=True)
    if file.tags is None:
        file.add_tags()
    file.update(WANTED | {"date": "1999"})
    if suffix != "m4a":
        file["isrc"] = "USRC17607839"
    file.save()
    if suffix == "m4a":
        plain = mutagen.File(path)
        plain["----:com.apple.iTunes:ISRC"] = b"USRC17607839"
        plain.save()
    tags = ingested(path)
    assert tags.model_dump(include=set(WANTED)) == WANTED
    assert tags.isrc == "USRC17607839"
    assert tags.extra["date"] == "1999"


@pytest.mark.parametrize("suffix", ["aiff", "wav"])
def test_id3_in_aiff_and_wav(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"a.{suffix}")
    file = mutagen.File(path)
    file.add_tags()
    frames: list[tuple[Any, str]] = [(TIT2, "title"), (TPE1, "artist"), (TALB, "album")]
    frames += [(TCON, "genre"), (TSRC, "isrc")]
    for frame, name in frames:
        file.tags.add(frame(encoding=3, text=[(WANTED | {"isrc": "USRC17607839"})[name]]))
    file.save()
    tags = ingested(path)
    assert tags.model_dump(include=set(WANTED)) == WANTED
    assert tags.isrc == "USRC17607839"


def test_riff_info_in_wav(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with sf.SoundFile(path, "w", 8000, 1) as file:
        file.title, file.artist = "From a studio", "Somebody"
        file.write(np.zeros(800))
    assert (ingested(path).title, ingested(path).artist) == ("From a studio", "Somebody")


def test_matroska_and_webm(tmp_path: Path) -> None:
    path = make(tmp_path / "a.webm", {"title": "On the web", "artist": "Somebody"})
    assert (ingested(path).title, ingested(path).artist) == ("On the web", "Somebody")


def test_several_values_are_joined(tmp_path: Path) -> None:
    path = make(tmp_path / "a.flac")
    file = mutagen.File(path)
    file["artist"] = ["One", "Two"]
    file.save()
    assert ingested(path).artist == "One, Two"


@pytest.mark.parametrize(
    "content", [b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f", b"RIFF", b"text", b"\0" * 99]
)
def test_damaged_tags_are_no_failure(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    assert ingested(path) == Tags()


def test_a_files_tags_fill_what_its_page_left_out() -> None:
    page = Tags(title="Page's", extra={"uploader": "Somebody", "date": "2020"})
    file = Tags(title="File's", artist="File's", extra={"date": "1999", "bpm": "90"})
    assert filled(page, file) == Tags(
        title="Page's",
        artist="File's",
        extra={"uploader": "Somebody", "date": "2020", "bpm": "90"},
    )


def test_a_very_long_title_is_cut_to_a_thousand_characters(tmp_path: Path) -> None:
    path = make(tmp_path / "a.flac")
    file = mutagen.File(path)
    file["title"] = "long " * 1000
    file.save()
    assert len(read_tags(path).title) == 1000
