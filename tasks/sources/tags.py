"""A file's own tags: mutagen reads ID3, MP4, Vorbis, APE and ASF, PyAV RIFF and Matroska."""

from __future__ import annotations

import codecs
import logging
from pathlib import Path
from typing import Any

from tasks.contracts import Tags
from tasks.sources.genres import genres_of

log = logging.getLogger(__name__)
_NAMED = ("title", "artist", "album", "genre", "isrc")
_EXTRA = ("albumartist", "composer", "date", "tracknumber", "discnumber", "bpm", "language")
_ID3 = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "genre": "TCON", "isrc": "TSRC"}
_ID3 |= {"albumartist": "TPE2", "composer": "TCOM", "date": "TDRC", "tracknumber": "TRCK"}
_ID3 |= {"discnumber": "TPOS", "bpm": "TBPM", "language": "TLAN"}
_MP4 = {"title": "©nam", "artist": "©ART", "album": "©alb", "genre": "©gen"}
_MP4 |= {"isrc": "----:com.apple.iTunes:ISRC", "albumartist": "aART", "composer": "©wrt"}
_MP4 |= {"date": "©day", "tracknumber": "trkn", "discnumber": "disk", "bpm": "tmpo"}
_ASF = {"title": "Title", "artist": "Author", "album": "WM/AlbumTitle", "genre": "WM/Genre"}
_ASF |= {"isrc": "WM/ISRC", "albumartist": "WM/AlbumArtist", "composer": "WM/Composer"}
_ASF |= {"date": "WM/Year", "tracknumber": "WM/TrackNumber", "discnumber": "WM/PartOfSet"}
_ASF |= {"bpm": "WM/BeatsPerMinute", "language": "WM/Language"}
_LONGEST = 1000
_USUAL_CODE_PAGE = "cp1252"
_WIDER = {"shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949"}
"""What Windows writes under an encoding's name: all of it, and more characters."""

Found = dict[str, list[str | bytes]]
"""The values of each tag: text, or bytes where nothing says how they are encoded."""


def read_tags(path: Path, encoding: str = "") -> Tags:
    """The tags in an audio file; empty where there are none or they can't be read.

    Args:
        path: The file.
        encoding: The code page of what isn't UTF-8 or UTF-16, as `codecs` calls it; Windows-1252
            where empty.
    """
    for read in (_by_mutagen, _by_id3, _by_ape, _by_av):
        try:
            found = read(path)
        except Exception as error:  # damaged tags break parsers in every way, and are no failure
            log.debug("%s has tags that can't be read: %s", path, error)
            continue
        if any(any(values) for values in found.values()):
            return _as_tags(_with_bytes(found, path), encoding)
    return Tags()


def filled(first: Tags, second: Tags) -> Tags:
    """The first tags, and the second where the first say nothing."""
    named = {name: getattr(first, name) or getattr(second, name) for name in _NAMED}
    return Tags(**named, extra=second.extra | first.extra)


def _as_tags(found: Found, encoding: str) -> Tags:
    clean: dict[str, str] = {}
    for name, values in found.items():
        texts = [_text(value, encoding) for value in values]
        texts = [part.strip() for text in texts for part in text.split("\0")]
        chosen = genres_of(texts) if name == "genre" else dict.fromkeys(filter(None, texts))
        if text := ", ".join(chosen)[:_LONGEST]:
            clean[name] = text
    extra = {name: clean[name] for name in _EXTRA if name in clean}
    return Tags(**{name: clean.get(name, "") for name in _NAMED}, extra=extra)


def _text(value: str | bytes, encoding: str) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    code_page = _WIDER.get(encoding, encoding) or _USUAL_CODE_PAGE
    # The code page's text needn't be whole: an ID3v1 field may end inside a character.
    for name, whole in (("utf-8", True), (code_page, False), (_USUAL_CODE_PAGE, True)):
        try:
            return codecs.getincrementaldecoder(name)().decode(value, whole)
        except (UnicodeError, LookupError):
            continue
    return value.decode("latin-1")  # five bytes stand for nothing in Windows-1252


def _by_mutagen(path: Path) -> Found:
    import mutagen
    from mutagen.asf import ASFTags
    from mutagen.id3 import ID3
    from mutagen.mp4 import MP4Tags

    file = mutagen.File(path)
    tags: Any = file.tags if file is not None else None
    if not tags:
        return {}
    if isinstance(tags, ID3):
        return _of_id3(tags)
    names = {name: name for name in (*_NAMED, *_EXTRA)}
    for kind, theirs in ((MP4Tags, _MP4), (ASFTags, _ASF)):
        if isinstance(tags, kind):
            names = theirs
    return {name: _values(tags.get(theirs)) for name, theirs in names.items()}


def _by_id3(path: Path) -> Found:
    """An ID3 tag in front of what mutagen looks for none in, as AAC."""
    from mutagen.id3 import ID3

    return _of_id3(ID3(path))  # type: ignore[no-untyped-call]


def _by_ape(path: Path) -> Found:
    """An APE tag behind what nothing else looks for one in, as MP3."""
    from mutagen import apev2

    tags: Any = apev2.APEv2(path)  # type: ignore[no-untyped-call]
    return {name: _values(tags.get(name)) for name in (*_NAMED, *_EXTRA)}


def _of_id3(tags: Any) -> Found:
    from mutagen.id3 import Encoding

    found: Found = {}
    for name, frame in _ID3.items():
        values = [str(value) for value in getattr(tags.get(frame), "text", ())]
        # What a frame calls Latin-1 is in whatever code page its writer had.
        latin = any(values) and tags[frame].encoding == Encoding.LATIN1
        found[name] = [text.encode("latin-1", "replace") if latin else text for text in values]
    return found


def _values(value: Any) -> list[str | bytes]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [each if isinstance(each, bytes) else _as_text(each) for each in values]


def _as_text(value: Any) -> str:
    """A value as text; of MP4's numbers, as (3, 12), "3/12" and (3, 0) "3"."""
    if not isinstance(value, tuple):
        return str(value)
    return "/".join(str(number) for number in value if number) if value[0] else ""


def _with_bytes(found: Found, path: Path) -> Found:
    """With the bytes of what mutagen took for UTF-8 (in Vorbis comments) and is not."""
    broken = [name for name, values in found.items() if any("\ufffd" in str(v) for v in values)]
    if not broken:
        return found
    try:
        again = _by_av(path)
    except Exception as error:
        log.debug("%s has tags that can't be read: %s", path, error)
        return found
    return found | {name: again[name] for name in broken if again[name]}


def _by_av(path: Path) -> Found:
    import av

    with av.open(str(path), metadata_errors="surrogateescape") as container:
        metadata: dict[str, str] = dict(container.metadata)
        for stream in container.streams.audio:
            metadata = dict(stream.metadata) | metadata
    lowered = {name.lower(): text for name, text in metadata.items()}
    lowered.setdefault("tracknumber", lowered.get("track", ""))
    return {name: _undecoded(lowered.get(name, "")) for name in (*_NAMED, *_EXTRA)}


def _undecoded(text: str) -> list[str | bytes]:
    try:
        text.encode()
    except UnicodeEncodeError:
        return [text.encode("utf-8", "surrogateescape")]
    return [text] if text else []
