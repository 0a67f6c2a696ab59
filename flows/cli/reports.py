"""`stemwright reports`: the quality table of a library."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as opt
from flows.cli.console import complain, err, errors_shown, out, print_json, safe
from flows.cli.tables import (
    fitted,
    legend,
    many,
    quality,
    quality_table,
    rows_of,
    stem_lines,
)
from tasks.errors import SettingsError
from tasks.wording import QUALITY

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording import Library


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
    paths: Annotated[
        bool, typer.Option("--paths", help="Where each track's stems are, instead of the table.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Show the quality table: the newest report of each track, worst first.

    The percentile says how many in a hundred of the library's own tracks of that model and genre
    score lower; `stemwright review` brings it up to date.

    Example: stemwright reports --verdict review --csv review.csv
    """
    from flows.reviewing import with_standings

    with errors_shown(as_json):
        place = opt.open_library(library, config, there=rebuild)
        if rebuild:
            err.print(f"Rebuilt the tables from {many(place.rebuild(), 'report')}.")
        frame = place.failures() if failures else with_standings(place, place.newest(verdict))
        if not failures:
            keys = zip(frame["track_id"], frame["separation_id"], strict=True)
            frame = frame.assign(folder=[place.folder(*key) for key in keys])
        if csv is not None:
            _write(frame, csv)
        rows = rows_of(frame)
        if not failures and (paths or as_json):
            _add_stems(rows, place)
        if not failures:
            _tell_lost(rows, place, frame)
        if as_json:
            name = "failures" if failures else "tracks"
            print_json({"library": place.url, "count": len(rows), name: rows})
        elif failures:
            _show_failures(rows, place.url)
        elif paths:
            _show_paths(rows, place.url)
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


def _tell_lost(rows: list[dict[str, Any]], library: Library, frame: pd.DataFrame) -> None:
    """Add `lost` to the rows, the files that are gone since; and say so."""
    lost = library.lost_of(frame)
    for row in rows:
        row["lost"] = list(lost.get((row["track_id"], row["separation_id"]), ()))
    if lost:
        key, files = next(iter(lost.items()))
        complain(
            f"{many(len(lost), 'separation')}, {library.folder(*key)} first: {', '.join(files)}.",
            "`stemwright separate` on the source makes it anew.",
            what="files are gone",
        )


def _add_stems(rows: list[dict[str, Any]], library: Library) -> None:
    """Add `stems` to the rows: the path or URL of each stem's file, by its name."""
    places = library.stem_places({row["track_id"] for row in rows})
    for row in rows:
        row["stems"] = places.get((row["track_id"], row["separation_id"]), {})


def _show(rows: list[dict[str, Any]], library: str, verdict: str | None) -> None:
    from tasks.recording import TrackRow

    if not rows:
        what = f" with the verdict {verdict}" if verdict else ""
        out.print(f"No reports{what} in {safe(library)}.")
        return
    out.print(fitted(quality_table(map(TrackRow.read, rows), out.width), out))
    out.print(legend(out.width))
    verdicts = Counter(row["verdict"] for row in rows)
    sums = [f"{verdicts[name]:,} {word}" for name, word in QUALITY.items() if verdicts[name]]
    out.print(f"{many(len(rows), 'track')} in {safe(library)}: {', '.join(sums)}.")


def _show_paths(rows: list[dict[str, Any]], library: str) -> None:
    from tasks.recording import TrackRow

    if not rows:
        out.print(f"No reports in {safe(library)}.")
    for row in rows:
        out.print(f"{safe(TrackRow.read(row).label)}: {quality(row['verdict'])}", soft_wrap=True)
        out.print(stem_lines(row["stems"]), soft_wrap=True)


def _show_failures(rows: list[dict[str, Any]], library: str) -> None:
    if not rows:
        out.print(f"No failures in {safe(library)}.")
    for row in rows:
        when = str(row["created_at"])[:19].replace("T", " ")
        out.print(f"[dim]{when}[/] {safe(row['source'])}")
        out.print(f"  {safe(row['stage'])}: {safe(row['message'])}")
