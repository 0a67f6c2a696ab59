"""Which names are audio, which are catalogs, and which are addresses."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from urllib.parse import unquote, urlsplit

_AUDIO = (
    "3gp aac ac3 aif aifc aiff amr ape au bwf caf dff dsf dts eac3 flac m4a m4b m4v mka mkv mov "
    "mp2 mp3 mp4 mpc oga ogg opus rf64 snd spx tta w64 wav wave webm wma wv"
)
AUDIO_SUFFIXES = frozenset(f".{name}" for name in _AUDIO.split())
CATALOG_SUFFIXES = frozenset({".csv", ".parquet", ".jsonl", ".txt", ".m3u", ".m3u8"})

NO_AUDIO_REMEDY = "Put audio in it (WAV, FLAC, MP3, M4A, Ogg, Opus, AIFF, …) or name another."

_ADDRESS = re.compile(
    r"(?!(?:file|local)://)[A-Za-z][A-Za-z0-9+.\-]+(?:://|::.*://)", re.IGNORECASE
)
_GLOB = re.compile(r"[*?\[]")
_LOCAL_SCHEMES = ("memory",)


def is_address(source: str) -> bool:
    """Tell whether it is a URL (also a chained fsspec one, `zip::s3://…`) rather than a path."""
    return _ADDRESS.match(source) is not None


def is_web(source: str) -> bool:
    return source[:8].lower().startswith(("http://", "https://"))


def is_elsewhere(source: str) -> bool:
    """Tell whether it is an address that takes a network."""
    return is_address(source) and source.split("://", 1)[0].lower() not in _LOCAL_SCHEMES


def is_glob(source: str) -> bool:
    return _GLOB.search(source) is not None


def is_audio(source: str) -> bool:
    return suffix_of(source) in AUDIO_SUFFIXES


@lru_cache(maxsize=16)  # each kind in turn asks it of the same source, a million times
def suffix_of(source: str) -> str:
    """Return the lower-case suffix of a path's or URL's last part, less query and fragment."""
    path = source
    if is_web(source):
        with suppress(ValueError):  # what is no URL is refused where it is read
            path = unquote(urlsplit(source).path)
    return posixpath.splitext(path)[1].lower()


def why_left_out(name: str) -> str:
    """Say why a folder's entry isn't picked up; "" if it is: audio by its suffix, not hidden."""
    if name.startswith("."):
        return "hidden"
    return "" if is_audio(name) else "without an audio suffix"


def left_out(skipped: Counter[str]) -> str:
    """Say what of a folder isn't picked up: "left out: 1 hidden, 3 without an audio suffix."."""
    return f"left out: {', '.join(f'{count:,} {why}' for why, count in skipped.items())}."
