"""The quality table, as a terminal or a log shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from flows.cli.console import plain

if TYPE_CHECKING:
    import pandas as pd

COLOUR = {"pass": "green", "review": "yellow", "fail": "red"}

NARROW = 100
"""Columns under which the table leaves out what the reports have anyway."""


def quality_table(rows: Iterable[Mapping[str, Any]], width: int) -> Table:
    """A row a track: verdict, score and its percentile, the estimated SI-SDR, and why.

    Args:
        rows: Rows of `reports/tracks`, or of a run's summary.
        width: Columns of what it is shown on; under `NARROW` it has fewer of its own.
    """
    wide = width >= NARROW
    shown = list(rows)
    services = wide and any(row.get("engine") == "cloud" for row in shown)
    ranked = wide and any(number(row.get("percentile"), 0) != "–" for row in shown)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("track", overflow="fold", min_width=18 if wide else 14)
    table.add_column("length", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    if ranked:
        table.add_column("percentile", justify="right", no_wrap=True)
    if wide:
        table.add_column("est. SI-SDR", justify="right", no_wrap=True)
        table.add_column("residual", justify="right", no_wrap=True)
    table.add_column("speed", justify="right", no_wrap=True)
    if services:
        table.add_column("by", no_wrap=True)
        table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in shown:
        verdict = str(row.get("verdict") or "")
        measures = [
            estimate(row),
            number(row.get("residual_db"), 1, " dB"),
        ]
        table.add_row(
            Text(plain(row.get("label") or track_name(row))),
            length(row.get("duration_s")),
            f"[{COLOUR.get(verdict, 'dim')}]{verdict or '–'}[/]",
            number(row.get("score"), 2),
            *([number(row.get("percentile"), 0)] if ranked else ()),
            *(measures if wide else ()),
            number(row.get("realtime_factor"), 1, "×"),
            *(_made_by(row) if services else ()),
            plain(few(codes(row.get("reasons")), 2 if wide else 1)),
        )
    return table


def _made_by(row: Mapping[str, Any]) -> tuple[str, str]:
    cost = row.get("cost_usd")
    return plain(row.get("provider") or "–"), f"${cost:.2f}" if cost else "–"


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows in plain JSON types; what is unknown is null, not pandas' not-a-number."""
    rows: list[dict[str, Any]] = json.loads(
        frame.to_json(orient="records", date_format="iso", date_unit="us", double_precision=15)
    )
    return rows


def track_name(row: Mapping[str, Any]) -> str:
    """ "Artist – Title", or the end of the source."""
    named = " – ".join(str(row[key]) for key in ("artist", "title") if row.get(key))
    return (named or str(row.get("source", "")).rstrip("/").rsplit("/", 1)[-1])[:120]


def codes(reasons: Any) -> list[str]:
    """Reason codes, whether a list or the JSON of one."""
    return json.loads(reasons) if isinstance(reasons, str) else list(reasons or [])


def few(reasons: list[str], shown: int = 2) -> str:
    """The worst reasons in words; the report has them all."""
    more = f" +{len(reasons) - shown}" if len(reasons) > shown else ""
    return ", ".join(reason.replace("_", " ") for reason in reasons[:shown]) + more


def number(value: Any, digits: int, unit: str = "") -> str:
    """A rounded number with its unit; "–" where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:z.{digits}f}{unit}"


def estimate(row: Mapping[str, Any]) -> str:
    """An estimated SI-SDR with its interval: "7.1 dB (4…10)"."""
    middle = number(row.get("estimated_si_sdr_db"), 1, " dB")
    low, high = (number(row.get(f"estimated_si_sdr_{end}_db"), 0) for end in ("low", "high"))
    return middle if "–" in (low, high) else f"{middle} ({low}…{high})"


def length(seconds: Any) -> str:
    """Seconds as "3:05" or "1:02:03"."""
    if seconds is None or (isinstance(seconds, float) and math.isnan(seconds)):
        return "–"
    whole = max(0, round(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def many(count: int, what: str) -> str:
    """ "1 track", "2 tracks"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
