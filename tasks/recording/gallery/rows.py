"""The table of a gallery: which tracks are in it, and which of them are shown in full."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from tasks.recording.gallery.options import GalleryOptions

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording.library import Library

FIELDS = (
    "id",
    "separation",
    "title",
    "artist",
    "genre",
    "model",
    "duration_s",
    "verdict",
    "score",
    "si_sdr_db",
    "si_sdr_low_db",
    "si_sdr_high_db",
    "residual_db",
    "reasons",
    "created",
)
"""A row of the page's table, in this order: a list a row, since names would be most of it."""

Row = list[Any]


def newest(library: Library, options: GalleryOptions) -> pd.DataFrame:
    """The newest report of each track in the library's tables, worst first."""
    frame = library.tracks().drop_duplicates("track_id", keep="last")
    if options.verdict is not None:
        frame = frame[frame["verdict"] == options.verdict]
    frame = frame.sort_values("score", kind="stable", na_position="last")
    if options.limit:
        frame = frame.head(options.limit)
    return frame.reset_index(drop=True)


def chosen(frame: pd.DataFrame, count: int) -> list[int]:
    """The rows to be shown in full, in their order.

    All if they fit; else those below pass, worst first, and in the room that is left a sample of
    the rest, evenly spaced over their scores.
    """
    if len(frame) <= count:
        return list(range(len(frame)))
    flagged = [index for index, verdict in enumerate(frame["verdict"]) if verdict != "pass"]
    rest = sorted(set(range(len(frame))) - set(flagged))
    room = max(0, count - len(flagged))
    sample = [rest[index * len(rest) // room] for index in range(room)] if rest else []
    return sorted(flagged[:count] + sample)


def table_rows(frame: pd.DataFrame) -> list[Row]:
    return [_row(record) for record in frame.to_dict("records")]


def _row(record: dict[Any, Any]) -> Row:
    title = _text(record["title"]) or _file_name(_text(record["source"]))
    return [
        record["track_id"],
        record["separation_id"],
        title,
        _text(record["artist"]),
        _text(record["genre"]),
        _text(record["model"]),
        _number(record["duration_s"], 1),
        _text(record["verdict"]),
        _number(record["score"], 3),
        _number(record["estimated_si_sdr_db"], 1),
        _number(record["estimated_si_sdr_low_db"], 1),
        _number(record["estimated_si_sdr_high_db"], 1),
        _number(record["residual_db"], 1),
        json.loads(_text(record["reasons"]) or "[]"),
        record["created_at"].strftime("%Y-%m-%d %H:%M"),
    ]


def _file_name(source: str) -> str:
    # A URL's query may hold a signature: not for a page that is passed around.
    return source.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1] or "untitled"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any, digits: int) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)
