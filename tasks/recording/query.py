"""Which tracks of a library are meant: by id, by source, or by words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.paths import text_of

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording.library import Library

_NAMES = ("artist", "title", "album")


def find(library: Library, query: str = "") -> pd.DataFrame:
    """Return the newest rows of the tracks that are meant, by artist and title.

    Args:
        library: The library.
        query: A track id, a source (a path or URL that was separated, another one with the same
            audio included), or words of which each stands in artist, title or album, whatever
            their case. Empty: every track.
    """
    frame = library.newest()
    asked = query.strip()
    if asked:
        frame = frame[_is_meant(library, frame, asked)]
    return frame.sort_values(["artist", "album", "title"], kind="stable")


def _is_meant(library: Library, frame: pd.DataFrame, asked: str) -> pd.Series[bool]:
    by_id = frame["track_id"] == asked
    if by_id.any():
        return by_id
    sources = {asked, _absolute(asked)}
    aliases = library.aliases()
    others = set(aliases.loc[aliases["source"].isin(sources), "track_id"])
    by_source = frame["source"].isin(sources) | frame["track_id"].isin(others)
    if by_source.any():
        return by_source
    return have_words(frame, _NAMES, asked)


def have_words(frame: pd.DataFrame, columns: Sequence[str], query: str) -> pd.Series[bool]:
    """Tell which rows have each word of a query in one of these columns, whatever their case."""
    import pandas as pd

    text = pd.Series("", index=frame.index)
    for name in columns:
        text += frame[name].fillna("").astype(str).str.casefold() + "\n"
    found = pd.Series(True, index=frame.index)
    for word in query.casefold().split():
        found &= text.str.contains(word, regex=False)
    return found


def _absolute(asked: str) -> str:
    import os

    return text_of(os.path.abspath(os.path.expanduser(asked)))  # noqa: PTH100, PTH111
