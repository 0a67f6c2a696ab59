"""A file's own tags: mutagen reads ID3, MP4, Vorbis, APE and ASF, PyAV RIFF and Matroska."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tasks.contracts import Tags

log = logging.getLogger(__name__)
_NAMED = ("title", "artist", "album", "genre", "isrc")
_EXTRA = ("albumartist", "composer", "date", "tracknumber", "discnumber", "bpm", "language")
_ID3 = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "genre": "TCON", "isrc": "TSRC"}
_ID3 |= {"albumartist": "TPE2", "composer": "TCOM", "date": "TDRC", "tracknumber": "TRCK"}
_ID3 |= {"discnumber": "TPOS", "bpm": "TBPM", "language": "TLAN"}
_MP4_ISRC = "----:com.apple.iTunes:ISRC"
_LONGEST = 1000


def read_tags(path: Path) -> Tags:
    """The tags in an audio file; empty where there are none or they can't be read."""
    for read in (_by_mutagen, _by_av):
        try:
            found = read(path)
        except Exception as error:  # damaged tags break parsers in every way, and are no failure
            log.debug("%s has tags that can't be read: %s", path, error)
            continue
        if any(found.values()):
            return _as_tags(found)
    return Tags()


def filled(first: Tags, second: Tags) -> Tags:
    """The first tags, and the second where the first say nothing."""
    named = {name: getattr(first, name) or getattr(second, name) for name in _NAMED}
    return Tags(**named, extra=second.extra | first.extra)


def _as_tags(found: dict[str, str]) -> Tags:
    clean = {name: text.strip()[:_LONGEST] for name, text in found.items() if text.strip()}
    extra = {name: clean[name] for name in _EXTRA if name in clean}
    return Tags(**{name: clean.get(name, "") for name in _NAMED}, extra=extra)


def _by_mutagen(path: Path) -> dict[str, str]:
    import mutagen
    from mutagen.easymp4 import EasyMP4
    from mutagen.id3 import ID3

    file = mutagen.File(path, easy=True)
    if file is None or not file.tags:
        return {}
    if isinstance(file.tags, ID3):  # AIFF and WAV have no easy form
        raw: Any = file.tags
        return {name: _text(raw.get(frame)) for name, frame in _ID3.items()}
    found = {name: _text(file.tags.get(name)) for name in (*_NAMED, *_EXTRA) if _knows(file, name)}
    if isinstance(file, EasyMP4):
        found["isrc"] = _text(mutagen.File(path).tags.get(_MP4_ISRC))
    return found


def _knows(file: Any, name: str) -> bool:
    try:
        return name in file.tags
    except (KeyError, ValueError):
        return False


def _text(value: Any) -> str:
    if value is None:
        return ""
    values = getattr(value, "genres", None) or getattr(value, "text", value)
    if not isinstance(values, list | tuple):
        values = [values]
    parts = (v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)
    return ", ".join(part for part in parts if part).encode("utf-8", "replace").decode()


def _by_av(path: Path) -> dict[str, str]:
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        metadata: dict[str, str] = dict(container.metadata)
        for stream in container.streams.audio:
            metadata = dict(stream.metadata) | metadata
    lowered = {name.lower(): text for name, text in metadata.items()}
    lowered.setdefault("tracknumber", lowered.get("track", ""))
    return {name: lowered.get(name, "") for name in (*_NAMED, *_EXTRA)}
