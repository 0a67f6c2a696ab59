"""`stemwright reports`: the quality table of a library."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as opt
from flows.cli.console import err, errors_shown, out, print_json, safe
from flows.cli.tables import COLOUR, fitted, many, quality_table, rows_of
from tasks.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd


def reports(
    library: opt.LibraryDir = "",
    config: opt.Config = None,
    verdict: opt.OnlyVerdict = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the table there.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the tables anew from the report.json files.")
    ] = False,
    failures: Annotated[
        bool, typer.Option("--failures", help="The failed attempts instead of the reports.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Show the quality table: the newest report of each track, worst first.

    The percentile says how many in a hundred of the library's own tracks of that model and genre
    score lower; `stemwright review` brings it up to date.

    Example: stemwright reports --library ./library --verdict review --csv review.csv
    """
    from flows.reviewing import with_standings

    with errors_shown(as_json):
        place = opt.open_library(library, config, there=rebuild)
        if rebuild:
            err.print(f"Rebuilt the tables from {many(place.rebuild(), 'report')}.")
        frame = place.failures() if failures else with_standings(place, place.newest(verdict))
        if csv is not None:
            _write(frame, csv)
        rows = rows_of(frame)
        if as_json:
            name = "failures" if failures else "tracks"
            print_json({"library": place.url, "count": len(rows), name: rows})
        elif failures:
            _show_failures(rows, place.url)
        else:
            _show(rows, place.url, verdict)
        if csv is not None:
            err.print(f"Wrote {many(len(rows), 'row')} to {safe(csv)}.")


def _write(frame: pd.DataFrame, csv: Path) -> None:
    try:
        frame.to_csv(csv, index=False)
    except OSError as error:
        raise SettingsError(
            f"{csv} can't be written: {error.strerror or error}.", remedy="Check --csv."
        ) from error


def _show(rows: list[dict[str, Any]], library: str, verdict: str | None) -> None:
    from tasks.recording import TrackRow

    if not rows:
        what = f" with the verdict {verdict}" if verdict else ""
        out.print(f"No reports{what} in {safe(library)}.")
        return
    out.print(fitted(quality_table(map(TrackRow.read, rows), out.width), out))
    verdicts = Counter(row["verdict"] for row in rows)
    sums = ", ".join(f"{verdicts[name]:,} {name}" for name in COLOUR if verdicts[name])
    out.print(f"{many(len(rows), 'track')} in {safe(library)}: {sums}.")


def _show_failures(rows: list[dict[str, Any]], library: str) -> None:
    if not rows:
        out.print(f"No failures in {safe(library)}.")
    for row in rows:
        when = str(row["created_at"])[:19].replace("T", " ")
        out.print(f"[dim]{when}[/] {safe(row['source'])}")
        out.print(f"  {safe(row['stage'])}: {safe(row['message'])}")
