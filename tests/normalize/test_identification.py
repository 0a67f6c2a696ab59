"""A track's name is its audio: re-tagging and renaming don't change it, other audio does."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import pytest
import soundfile

from tasks.normalize import identify
from tests.normalize.files import RATE, encode, mix, music

# mutagen has no type hints.
mutagen: Any = import_module("mutagen")
apev2: Any = import_module("mutagen.apev2")
id3: Any = import_module("mutagen.id3")
wave: Any = import_module("mutagen.wave")


def _mp3(path: Path) -> None:
    tags = id3.ID3()
    tags.add(id3.TIT2(text="A title"))
    tags.add(id3.TPE1(text="An artist"))
    tags.add(id3.COMM(text="x" * 5000))
    tags.save(path, v1=2)


def _ape(path: Path) -> None:
    tags = apev2.APEv2()
    tags["Title"] = "Another title " * 30
    tags.save(path)


def _any(path: Path) -> None:
    tagged = mutagen.File(path, easy=True)
    tagged["title"] = "A title " * 100
    tagged["artist"] = "An artist"
    tagged.save()


def _wav(path: Path) -> None:
    tagged = wave.WAVE(path)
    tagged.add_tags()
    tagged.tags.add(id3.TIT2(text="A title"))
    tagged.save()


@pytest.mark.parametrize(
    ("name", "codec", "tag"),
    [
        ("a.mp3", "libmp3lame", _mp3),
        ("a.mp3", "libmp3lame", _ape),
        ("a.flac", "flac", _any),
        ("a.m4a", "aac", _any),
        ("a.m4a", "alac", _any),
        ("a.opus", "libopus", _any),
        ("a.wav", "pcm_s16le", _wav),
    ],
)
def test_retagging_and_renaming_keep_the_identity(
    tmp_path: Path, name: str, codec: str, tag: Callable[[Path], None]
) -> None:
    rate = 48_000 if codec == "libopus" else RATE
    path = encode(tmp_path / name, music(rate, rate), codec, rate=rate)
    renamed = tmp_path / f"tagged{path.suffix}"
    shutil.copy(path, renamed)
    tag(renamed)
    assert renamed.read_bytes() != path.read_bytes()
    assert identify(renamed) == identify(path)
    assert mix(renamed).track_id == identify(path)


def test_retagged_vorbis_keeps_the_identity(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, music(RATE), RATE)
    before = identify(path)
    _any(path)
    assert identify(path) == before


def test_a_stripped_id3v1_keeps_the_identity(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", music(RATE), "libmp3lame")
    before = identify(path)
    path.write_bytes(path.read_bytes() + b"TAG" + b"title".ljust(125, b"\0"))
    assert identify(path) == before


def test_it_is_the_hash_of_the_codec_s_name_and_the_packets(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", music(RATE), "libmp3lame")
    digest = hashlib.sha256(b"mp3")
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            digest.update(bytes(packet))
    assert identify(path) == digest.hexdigest()[:16]


def test_pcm_is_named_by_its_bytes_however_it_is_cut_into_packets(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, music(RATE), RATE, subtype="PCM_16")
    pcm = path.read_bytes()[-RATE * 4 :]
    assert identify(path) == hashlib.sha256(b"pcm_s16le" + pcm).hexdigest()[:16]


def test_other_audio_has_another_identity(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.mp3", music(RATE), "libmp3lame")
    second = encode(tmp_path / "b.mp3", music(RATE) * 0.9, "libmp3lame")
    assert identify(first) != identify(second)


def test_the_picture_beside_the_audio_does_not_matter(tmp_path: Path) -> None:
    plain = encode(tmp_path / "a.mp4", music(RATE), "aac")
    filmed = encode(tmp_path / "b.mp4", music(RATE), "aac", video="mpeg4")
    assert identify(plain) == identify(filmed)
