"""Artist and title by a name such as "Artist - Title", where nothing else tells them."""

from __future__ import annotations

import re

from tasks.contracts import Tags, TrackRef
from tasks.paths import shown
from tasks.sources.suffixes import is_audio

_DASH = re.compile(r"\s+[-–—]\s+")
_TRACK_NUMBER = re.compile(
    r"\d{1,2}\s+[-–—]\s+(?=.*\s[-–—]\s)|(?:0\d{1,2}|\d{1,3}[.)])\s+(?![-–—]\s)"
)


def with_guess(tags: Tags, ref: TrackRef, own: Tags) -> Tags:
    """Return tags with artist and title by the track's name, `guessed` saying so.

    They stay as they are where the catalog, the file's `own` tags or a page name an artist, or the
    first two a title: who knows one of them knows what the other is.
    """
    if ref.title or ref.artist or own.title or own.artist or tags.artist:
        return tags
    # What a server or a page calls it is better than the end of an address.
    artist, title = guess(tags.title or _end_of(ref.source))
    if not artist:
        return tags
    update = {"artist": artist, "title": title, "guessed": ("artist", "title")}
    return tags.model_copy(update=update)


def guess(name: str) -> tuple[str, str]:
    """Return artist and title by a name of two parts; a track number in front of them is none.

    Both are empty for any other name: of "Artist - Album - Title" nobody knows which is which, and
    "07 - Title" has no artist in it.
    """
    if " " not in name:
        name = name.replace("_", " ")
    parts = _DASH.split(_without_number(name.strip()))
    if len(parts) != 2 or not all(parts) or re.fullmatch(r"\d{1,2}", parts[0]):
        return "", ""
    return parts[0], parts[1]


def _without_number(name: str) -> str:
    found = _TRACK_NUMBER.match(name)
    return name[found.end() :] if found else name


def _end_of(source: str) -> str:
    name = shown(source).rstrip("/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if is_audio(name) else name
