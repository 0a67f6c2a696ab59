"""The tags of real files in every container reach `SourceAudio.tags`."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile as sf
from mutagen.apev2 import APEv2
from mutagen.id3 import ID3, TALB, TCON, TIT2, TPE1, TSRC, Encoding
from mutagen.ogg import OggPage

from tasks.contracts import Tags, TrackRef
from tasks.sources import ingest
from tasks.sources.tags import filled, read_tags
from tests.sources.conftest import QUICK

ENCODERS = {"m4a": "aac", "opus": "libopus", "mp3": "libmp3lame"}
ENCODERS |= {"aac": "aac", "wma": "wmav2"}
ENCODERS |= {"flac": "flac", "aiff": "pcm_s16be", "wav": "pcm_s16le", "webm": "libopus"}
WANTED = {"title": "Ünder the ☂", "artist": "Båndet", "album": "Third", "genre": "Jazz"}


def make(path: Path, metadata: dict[str, str] | None = None) -> Path:
    rate = 48_000
    tone = np.sin(np.arange(rate // 2) * 2 * math.pi * 220 / rate).astype(np.float32)
    if path.suffix == ".ogg":
        sf.write(path, tone, rate, format="OGG", subtype="VORBIS")
        return path
    formats = {".wma": "asf", ".aac": "adts"}
    with av.open(str(path), "w", format=formats.get(path.suffix)) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(ENCODERS[path.suffix[1:]], rate=rate, layout="mono")
        stream.bit_rate = 96_000
        frame = av.AudioFrame.from_ndarray(tone[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def add_ape(path: Path, **values: Any) -> None:
    tags = APEv2()
    tags.update(values)
    tags.save(path)


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


def test_windows_media(tmp_path: Path) -> None:
    path = make(tmp_path / "a.wma", WANTED)
    file = mutagen.File(path)
    file["Author"] = ["One", "Two"]
    file.save()
    assert ingested(path).model_dump(include=set(WANTED)) == WANTED | {"artist": "One, Two"}


def test_the_numbers_of_an_m4a(tmp_path: Path) -> None:
    path = make(tmp_path / "a.m4a")
    file = mutagen.File(path)
    file["trkn"], file["disk"], file["tmpo"] = [(3, 12)], [(1, 0)], [90]
    file.save()
    assert ingested(path).extra == {"tracknumber": "3/12", "discnumber": "1", "bpm": "90"}


def test_tags_where_few_look_for_them(tmp_path: Path) -> None:
    path = make(tmp_path / "a.aac")
    tags = ID3()
    tags.add(TIT2(encoding=3, text=["In front of AAC"]))
    tags.save(path)
    assert ingested(path).title == "In front of AAC"
    path = make(tmp_path / "a.mp3")
    add_ape(path, Title="Behind MP3")
    assert ingested(path).title == "Behind MP3"


@pytest.mark.parametrize("suffix", ["flac", "m4a", "mp3", "ape"])
def test_several_values_are_joined_each_once(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / "a.mp3" if suffix == "ape" else tmp_path / f"a.{suffix}")
    values = ["One", "Two", "One"]
    if suffix == "ape":
        add_ape(path, Artist=values)
    else:
        file = mutagen.File(path, easy=True)
        if file.tags is None:
            file.add_tags()
        file["artist"] = values
        file.save()
    assert ingested(path).artist == "One, Two"


def test_an_empty_tag_does_not_hide_another(tmp_path: Path) -> None:
    path = make(tmp_path / "a.wav", {"title": "In the RIFF"})
    id3_inside(path, b"")
    assert ingested(path).title == "In the RIFF"


@pytest.mark.parametrize(
    ("written", "genre"),
    [
        (["(17)"], "Rock"),
        (["17"], "Rock"),
        (["(17)(32)"], "Rock, Classical"),
        (["(4)Eurodisco"], "Disco, Eurodisco"),
        (["(17)Rock", "rock", "Rock; 17"], "Rock"),
        (["(17) / (32)"], "Rock, Classical"),
        (["17", "32", "Gamelan"], "Rock, Classical, Gamelan"),
        (["(RX)(CR)"], "Remix, Cover"),
        (["((Un)known"], "(Un)known"),
        (["(255)"], ""),
        (["255"], ""),
        (["(200)Dub"], "Dub"),
        (["808"], "808"),
        (["80s"], "80s"),
        (["Rock (Live)"], "Rock (Live)"),
    ],
)
def test_genres_have_their_names_each_once(
    tmp_path: Path, flac: bytes, written: list[str], genre: str
) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(flac)
    file = mutagen.File(path)
    file["genre"] = written
    file.save()
    assert ingested(path).genre == genre


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "wma", "webm", "wav"])
def test_genres_have_their_names_in_every_container(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"a.{suffix}", {"genre": "(4)Eurodisco"})
    assert ingested(path).genre == "Disco, Eurodisco"


RUSSIAN, JAPANESE = "Привет мир", "東京の夜①"
HOLE = "@" * 10
IN_CP1251 = QUICK.model_copy(update={"tag_encoding": "cp1251"})


def id3(path: Path, text: bytes) -> None:
    tags = ID3()
    tags.add(TIT2(encoding=Encoding.LATIN1, text=[text.decode("latin-1")]))
    tags.add(TPE1(encoding=Encoding.UTF16, text=["Båndet"]))
    tags.save(path, v2_version=3)


def id3_inside(path: Path, text: bytes) -> None:
    file = mutagen.File(path)
    file.add_tags()
    file.tags.add(TIT2(encoding=Encoding.LATIN1, text=[text.decode("latin-1")]))
    file.save()


def id3v1(path: Path, text: bytes) -> None:
    fields = b"TAG" + text[:30].ljust(30, b"\0") + bytes(90) + b"\0\0" + bytes([0, 17])
    path.write_bytes(path.read_bytes() + fields[:128])


def riff(path: Path, text: bytes) -> None:
    info = b"INFOINAM" + struct.pack("<I", len(text) + 1) + text + b"\0" * (2 - len(text) % 2)
    held = path.read_bytes() + b"LIST" + struct.pack("<I", len(info)) + info
    path.write_bytes(held[:4] + struct.pack("<I", len(held) - 8) + held[8:])


def vorbis(path: Path, text: bytes) -> None:
    file = mutagen.File(path)
    file["title"], file["artist"] = HOLE, "Båndet"
    file.save()
    if path.suffix == ".flac":
        path.write_bytes(path.read_bytes().replace(HOLE.encode(), text))
        return
    with path.open("r+b") as held:  # a page of an Ogg has a checksum
        while True:
            place, page = held.tell(), OggPage(held)
            if any(HOLE.encode() in packet for packet in page.packets):
                break
        page.packets = [packet.replace(HOLE.encode(), text) for packet in page.packets]
        held.seek(place)
        held.write(page.write())


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.mp3", id3),
        ("a.aiff", id3_inside),
        ("a.aac", id3),
        ("v1.mp3", id3v1),
        ("a.wav", riff),
        ("a.flac", vorbis),
        ("a.ogg", vorbis),
        ("a.opus", vorbis),
    ],
)
def test_old_tags_are_read_in_the_code_page_that_is_set(
    tmp_path: Path, name: str, write: Any
) -> None:
    path = make(tmp_path / name)
    write(path, RUSSIAN.encode("cp1251"))
    ref = TrackRef(source=str(path), kind="file")
    tags = ingest(ref, tmp_path, IN_CP1251).tags
    assert tags.title == RUSSIAN
    assert tags.artist in ("Båndet", "")
    assert ingested(path).title == "Ïðèâåò ìèð"


def test_what_is_utf8_is_never_read_in_a_code_page(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3")
    id3(path, "Grüße".encode())  # by a program that wrote UTF-8 and said Latin-1
    for encoding in ("", "cp1251", "shift_jis"):
        tags = read_tags(path, encoding)
        assert (tags.title, tags.artist) == ("Grüße", "Båndet")


def test_latin1_is_windows_1252_as_it_was_meant(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3")
    id3(path, "“Café” – 1".encode("cp1252"))
    assert read_tags(path).title == "“Café” – 1"


def test_a_field_that_ends_inside_a_character_keeps_the_others(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3")
    id3v1(path, b"x" + ("あ" * 15).encode("cp932"))
    tags = read_tags(path, "shift_jis")
    assert (tags.title, tags.genre) == ("x" + "あ" * 14, "Rock")


def test_shift_jis_is_what_windows_writes_under_that_name(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3")
    id3(path, JAPANESE.encode("cp932"))
    assert read_tags(path, "shift_jis").title == JAPANESE


def test_what_does_not_fit_the_code_page_is_still_shown(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3")
    id3(path, b"caf\xe9\xff!")
    assert read_tags(path, "shift_jis").title == "caféÿ!"


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
