"""Genres as tags hold them: ID3v1's numbers by their names, and each genre once."""

from __future__ import annotations

import re
from collections.abc import Iterable

_REFERENCE = re.compile(r"\((\d{1,3}|RX|CR)\)[\s/,]*")
_NUMBER = re.compile(r"\d{1,3}|RX|CR")
_BETWEEN = re.compile(r"[;\0]")
_SPECIAL = {"RX": "Remix", "CR": "Cover"}


def genres_of(values: Iterable[str]) -> list[str]:
    """Return the genres that a tag's values name, in their order.

    `17`, `(17)`, `(17)(32)` and `(4)Eurodisco` are references to ID3v1's list (ID3v2, frame TCON).
    One to nothing in that list is left out, as 255 stands for none; a bare number stays.
    """
    found: dict[str, str] = {}
    for value in values:
        for part in _BETWEEN.split(value):
            for genre in _named(part.strip()):
                found.setdefault(genre.casefold(), genre)
    return list(found.values())


def _named(text: str) -> Iterable[str]:
    while reference := _REFERENCE.match(text):
        yield from filter(None, [_name(reference[1])])
        text = text[reference.end() :]
    text = text.removeprefix("(") if text.startswith("((") else text
    if _NUMBER.fullmatch(text):
        text = _name(text) or (text if text != "255" else "")
    if text:
        yield text


def _name(reference: str) -> str:
    from mutagen.id3 import TCON

    if reference in _SPECIAL:
        return _SPECIAL[reference]
    number = int(reference)
    return str(TCON.GENRES[number]) if number < len(TCON.GENRES) else ""
