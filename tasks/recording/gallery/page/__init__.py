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

from tasks.recording.gallery.plots import described, spread
from tasks.recording.gallery.previews import BIT_RATE_BPS
from tasks.recording.gallery.rows import FIELDS, table_rows

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording.library import Library

_SCRIPTS = ("words.js", "table.js", "engines.js", "player.js", "track.js", "main.js")
VERDICTS = ("pass", "review", "fail")


def page(
    library: Library,
    frame: pd.DataFrame,
    details: Sequence[Mapping[str, Any]],
    sides: Mapping[str, str],
    *,
    sound: str,
    pictured: int,
) -> str:
    """The page's HTML.

    Titles, genres and paths are strangers' words: the template escapes all, JSON in it can't end
    its script element, and the page's policy lets no script run but its own.

    Args:
        library: Named in the heading.
        frame: Rows of `reports/tracks` in the order of the table.
        details: Tracks in full, to be in the page itself.
        sides: The paths of those that are in files beside it, by track.
        sound: How it plays: embed, link or none.
        pictured: How many tracks have pictures.
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
        verdicts=VERDICTS,
        gallery={
            "fields": FIELDS,
            "rows": table_rows(frame),
            "sides": dict(sides),
            "sound": sound,
        },
        details=details,
        sound=sound,
        pictured=pictured,
        kbit=BIT_RATE_BPS // 1000,
        style=_asset("gallery.css"),
        script=script,
        policy=_policy(script),
    )
    return html


def side_script(detail: Mapping[str, Any]) -> str:
    """A file that hands one track's part to the page. A page from file:// may load nothing else."""
    return f"stemwright.receive({_json(detail)});\n"


def _policy(script: str) -> str:
    """A content security policy: this page's script, its data and files beside it; no network."""
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
    scores, sdr = frame["score"].dropna(), frame["estimated_si_sdr_db"].dropna()
    verdicts = frame["verdict"].value_counts()
    return {
        "tracks": len(frame),
        "hours": float(frame["duration_s"].sum()) / 3600,
        "minutes": float(frame["duration_s"].sum()) / 60,
        "score": float(scores.median()) if len(scores) else None,
        "si_sdr_db": float(sdr.median()) if len(sdr) else None,
        "verdicts": {name: int(verdicts.get(name, 0)) for name in VERDICTS},
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
