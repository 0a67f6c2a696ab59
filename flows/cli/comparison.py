"""`stemwright reports --compare`: two models or settings, track by track."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from flows.cli.console import err, out, plain, print_json, safe
from flows.cli.tables import fitted, many, write_csv
from tasks.wording import NONE, number, score_text

if TYPE_CHECKING:
    from flows.comparing import ComparedTrack, Comparison
    from tasks.recording import Library, Selection


def show_comparison(
    library: Library,
    names: tuple[str, str],
    selection: Selection,
    csv: Path | None,
    *,
    as_json: bool,
) -> None:
    """Compare, and say how: a row a track and the mean differences."""
    import pandas as pd

    from flows.comparing import compare

    found = compare(library, names, selection)
    if csv is not None:
        rows = [track.model_dump(mode="json") for track in found.tracks]
        write_csv(pd.json_normalize(rows, sep="_"), csv)
    if as_json:
        print_json({"library": library.url, "count": len(found.tracks)} | found.model_dump())
    else:
        _show(found, library.url)
    if csv is not None:
        err.print(f"Wrote {many(len(found.tracks), 'row')} to {safe(csv)}.")


def _show(found: Comparison, library: str) -> None:
    first, second = found.names
    if not found.tracks:
        out.print(f"No track in {safe(library)} has both {safe(first)} and {safe(second)}.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("track", overflow="fold", min_width=14)
    for column in ("score", "±", "est. SI-SDR", "±", "time", "±"):
        table.add_column(column, justify="right", no_wrap=True)
    for track in found.tracks:
        table.add_row(Text(plain(track.label)), *_cells(track))
    out.print(fitted(table, out))
    out.print(f"[dim]Of each pair the first is {safe(first)}, the second {safe(second)}.[/]")
    mean = found.mean_difference
    said = [
        f"score {_signed(mean.score, 3)}",
        f"estimated SI-SDR {_signed(mean.estimated_si_sdr_db, 1, ' dB')}",
        f"time {_signed(mean.separation_s, 1, ' s')}",
    ]
    out.print(
        f"{safe(second)} against {safe(first)} on {many(len(found.tracks), 'track')}, on average: "
        f"{', '.join(said)}; it scores higher on {found.better:,}, lower on {found.worse:,}."
    )


def _cells(track: ComparedTrack) -> list[str]:
    first, second, by = track.first, track.second, track.difference
    return [
        f"{score_text(first.score)} / {score_text(second.score)}",
        _signed(by.score, 2),
        f"{_short(first.estimated_si_sdr_db)} / {_short(second.estimated_si_sdr_db)} dB",
        _signed(by.estimated_si_sdr_db, 1),
        f"{_short(first.separation_s)} / {_short(second.separation_s)} s",
        _signed(by.separation_s, 1),
    ]


def _short(value: float | None) -> str:
    return number(value, 1)


def _signed(value: float | None, digits: int, unit: str = "") -> str:
    said = number(value, digits, unit)
    return said if said == NONE or said.startswith("-") else f"+{said}"
