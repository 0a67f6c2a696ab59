"""The quality table, as a terminal or a log shows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from flows.cli.console import CRAMPED, plain, safe
from tasks.errors import SettingsError
from tasks.heard import why
from tasks.wording import (
    QUALITY_EXPLAINED,
    RESIDUAL_EXPLAINED,
    SCORE_EXPLAINED,
    SI_SDR_EXPLAINED,
    clock,
    estimate_text,
    number,
    quality_word,
    score_text,
)

if TYPE_CHECKING:
    import pandas as pd

    from flows.runner.summary import TrackLine
    from tasks.recording import TrackRow

COLOUR = {"pass": "green", "review": "yellow", "fail": "red"}

NARROW = 100
"""Columns under which the table leaves out what the reports have anyway."""


def fitted(table: Table, console: Console) -> Table | Group:
    """Return the table, or where it has no room a line a fact with a blank line between rows."""
    roomy = console.options.update_width(10_000)
    if max(CRAMPED, table.__rich_measure__(console, roomy).minimum) <= console.width:
        return table
    names = [str(column.header) for column in table.columns]
    lines: list[Text] = []
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for name, cell in zip(names, row, strict=True):
            said = cell if isinstance(cell, Text) else Text.from_markup(str(cell), emoji=False)
            if said.plain:
                lines.append(Text(f"{name}: ", style="dim", overflow="fold") + said)
        lines.append(Text())
    return Group(*lines)


def quality_table(rows: Iterable[TrackRow | TrackLine], width: int) -> Table:
    """Return a row a track: how good it is, score and percentile, the estimated SI-SDR, and why.

    Args:
        rows: Rows of `reports/tracks`, or of a run's summary.
        width: Columns of what it is shown on; under `NARROW` it has fewer of its own.
    """
    wide = width >= NARROW
    shown = list(rows)
    services = wide and any(row.engine == "cloud" for row in shown)
    ranked = wide and any(row.percentile is not None for row in shown)
    numbers: dict[str, Any] = {"justify": "right", "no_wrap": True}
    columns: list[tuple[bool, str, Callable[[Any], str | Text], dict[str, Any]]] = [
        (True, "track", _track, {"min_width": 18 if wide else 14}),
        (True, "length", lambda row: clock(row.duration_s), numbers),
        (True, "quality", lambda row: quality(row.verdict), {"no_wrap": True}),
        (True, "score", lambda row: score_text(row.score), numbers),
        (ranked, "percentile", lambda row: number(row.percentile, 0), numbers),
        (wide, "est. SI-SDR", _estimate, numbers),
        (wide, "residual", lambda row: number(row.residual_db, 1, " dB"), numbers),
        (True, "speed", lambda row: number(row.realtime_factor, 1, "×"), numbers),
        (services, "by", lambda row: plain(row.provider or "–"), {"no_wrap": True}),
        (services, "cost", lambda row: f"${row.cost_usd:.2f}" if row.cost_usd else "–", numbers),
        (True, "worst heard", lambda row: Text(plain(why(row))), {}),
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    columns = [column for column in columns if column[0]]
    for _, name, _, options in columns:
        table.add_column(name, **{"overflow": "fold"} | options)
    for row in shown:
        table.add_row(*(cell(row) for _, _, cell, _ in columns))
    return table


def quality(verdict: str | None) -> str:
    """Return a verdict as people read it, in its colour."""
    return f"[{COLOUR.get(verdict or '', 'dim')}]{quality_word(verdict)}[/]"


def stem_lines(stems: Mapping[str, str]) -> str:
    """Return a line a stem: its name and the path of its file."""
    width = max(map(len, stems), default=0)
    return "\n".join(f"  {safe(name):<{width}}  {safe(path)}" for name, path in stems.items())


def _track(row: TrackRow | TrackLine) -> Text:
    """Return what a track is called; where only its file's name told that, it is said."""
    return Text(plain(row.label)) + Text(" (guessed)" if row.guessed else "", style="dim")


def _estimate(row: TrackRow) -> str:
    ends = row.estimated_si_sdr_low_db, row.estimated_si_sdr_high_db
    return estimate_text(row.estimated_si_sdr_db, *ends)


def legend(width: int) -> Text:
    """Return what the columns of a quality table of this width mean."""
    said = [QUALITY_EXPLAINED, SCORE_EXPLAINED]
    if width >= NARROW:
        said += [SI_SDR_EXPLAINED, RESIDUAL_EXPLAINED]
    return Text("\n".join(said) + "\n", style="dim")


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows in plain JSON types; what is unknown is null, not pandas' own."""
    rows: list[dict[str, Any]] = json.loads(
        frame.to_json(orient="records", date_format="iso", date_unit="us", double_precision=15)
    )
    return rows


def write_csv(frame: pd.DataFrame, csv: Path) -> None:
    """Write a table for a spreadsheet.

    Raises:
        SettingsError: It can't be written there.
    """
    try:
        frame.to_csv(csv, index=False)
    except OSError as error:
        raise SettingsError(
            f"{csv} can't be written: {error.strerror or error}.", remedy="Check --csv."
        ) from error


def size(count: int) -> str:
    """Return bytes as "12.3 MB"."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def many(count: int, what: str) -> str:
    """Return "1 track", "2 tracks"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
