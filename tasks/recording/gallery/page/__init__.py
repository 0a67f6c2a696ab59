"""The page: a template, its style and its scripts, put together into one HTML text."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tasks.contracts import track_label
from tasks.recording.gallery.plots import described, spread
from tasks.recording.gallery.previews import BIT_RATE_BPS
from tasks.recording.rows import TrackRow
from tasks.wording import (
    QUALITY,
    QUALITY_EXPLAINED,
    RESIDUAL_EXPLAINED,
    SCORE_EXPLAINED,
    SI_SDR_EXPLAINED,
    number,
    score_text,
    shown_number,
    shown_score,
)

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording.library import Library

_SCRIPTS = ("words.js", "table.js", "engines.js", "player.js", "track.js", "main.js")
_DIGITS = {"estimated_si_sdr_low_db": 0, "estimated_si_sdr_high_db": 0, "duration_s": 3}
"""Where the page shows other than one."""

FIELDS = (
    "track_id",
    "separation_id",
    "title",
    "artist",
    "genre",
    "model",
    "duration_s",
    "verdict",
    "score",
    "estimated_si_sdr_db",
    "estimated_si_sdr_low_db",
    "estimated_si_sdr_high_db",
    "residual_db",
    "reasons",
    "worst",
    "guessed",
    "created_at",
)
"""The columns that the page's table has: a list a row, since names would be most of it."""


def page(
    library: Library,
    frame: pd.DataFrame,
    details: Sequence[Mapping[str, Any]],
    sides: Mapping[str, str],
    *,
    sound: str,
    pictured: int,
    compared: Sequence[str] = (),
) -> str:
    """Return the page's HTML.

    Titles, genres and paths are strangers' words: the template escapes all, JSON in it can't end
    its script element, and the page's policy lets no script run but its own.

    Args:
        library: Named in the heading.
        frame: Rows of `reports/tracks` in the order of the table.
        details: Tracks in full, to be in the page itself.
        sides: The paths of those that are in files beside it, by track.
        sound: How it plays: embed, link or none.
        pictured: How many tracks have pictures.
        compared: The names of two that are compared; the rows are of the second.
    """
    script = _script()
    html: str = _template().render(
        name=library.url.rstrip("/").rsplit("/", 1)[-1] or library.url,
        place=library.url,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        summary=_summary(frame),
        plots=[
            {"by": by, "svg": spread(frame, by), "words": described(frame, by)}
            for by in ("model", "genre")
            if frame["score"].notna().any()
        ],
        models=_names(frame, "model"),
        genres=_names(frame, "genre"),
        quality=QUALITY,
        explained={
            "quality": QUALITY_EXPLAINED,
            "score": SCORE_EXPLAINED,
            "si_sdr": SI_SDR_EXPLAINED,
            "residual": RESIDUAL_EXPLAINED,
        },
        gallery={
            "quality": QUALITY,
            "fields": FIELDS,
            "rows": _rows(frame),
            "sides": dict(sides),
            "sound": sound,
        },
        details=details,
        sound=sound,
        pictured=pictured,
        compared=compared,
        kbit=BIT_RATE_BPS // 1000,
        style=_asset("gallery.css"),
        script=script,
        policy=_policy(script),
    )
    return html


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    rows = map(TrackRow.read, frame[[*FIELDS, "source"]].to_dict("records"))
    return [[_value(row, field) for field in FIELDS] for row in rows]


def _value(row: TrackRow, field: str) -> Any:
    value = getattr(row, field)
    if field == "title":
        # A URL's query may hold a signature: not for a page that is passed around.
        return value or track_label("", "", row.source.split("?", 1)[0]) or "untitled"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return rounded(field, value) if isinstance(value, float) else value


def rounded(field: str, value: float | None) -> float | None:
    """Return a number rounded as everywhere, so that the page's scripts have no rounding to do."""
    return shown_score(value) if field == "score" else shown_number(value, _DIGITS.get(field, 1))


def side_script(detail: Mapping[str, Any]) -> str:
    """Return a script that hands one track's part to the page.

    A page from file:// may load nothing else.
    """
    return f"stemwright.receive({_json(detail)});\n"


def _policy(script: str) -> str:
    """Return a content security policy: this script, its data and files beside it; no network."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'sha256-{digest}' 'strict-dynamic'",
            "style-src 'unsafe-inline'",
            "img-src data:",
            "media-src blob: 'self' file:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _summary(frame: pd.DataFrame) -> dict[str, Any]:
    median = frame[["score", "estimated_si_sdr_db"]].astype(float).median()
    verdicts = frame["verdict"].value_counts()
    return {
        "tracks": len(frame),
        "hours": float(frame["duration_s"].sum()) / 3600,
        "minutes": float(frame["duration_s"].sum()) / 60,
        "score": score_text(median["score"], none=""),
        "estimated_si_sdr": number(median["estimated_si_sdr_db"], 1, none=""),
        "verdicts": {name: int(verdicts.get(name, 0)) for name in QUALITY},
    }


def _names(frame: pd.DataFrame, column: str) -> list[str]:
    return sorted({str(name) for name in frame[column].dropna() if name}, key=str.casefold)


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from jinja2.utils import htmlsafe_json_dumps

    environment = Environment(
        loader=PackageLoader("tasks.recording.gallery", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = lambda value: htmlsafe_json_dumps(value, dumps=_json)
    return environment.get_template("gallery.html.j2")


def _json(value: Any) -> str:
    # ASCII: a lone surrogate of a file's name has no other form in a file.
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


@cache
def _script() -> str:
    return "".join(("(() => {\n'use strict';\n", *map(_asset, _SCRIPTS), "})();\n"))
