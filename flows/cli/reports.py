"""`stemwright reports`: the quality table of a library."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as opt
from flows.cli.comparison import show_comparison
from flows.cli.console import complain, err, errors_shown, out, print_json, safe
from flows.cli.tables import (
    fitted,
    legend,
    many,
    quality,
    quality_table,
    rows_of,
    stem_lines,
    write_csv,
)
from tasks.wording import QUALITY

if TYPE_CHECKING:
    import pandas as pd

    from tasks.recording import Library, Selection


def reports(
    query: opt.AnyQuery = "",
    library: opt.LibraryDir = "",
    config: opt.Config = None,
    model: opt.ByModel = "",
    run: opt.OfRun = "",
    since: opt.Since = None,
    until: opt.Until = None,
    genre: opt.OfGenre = "",
    verdict: opt.OnlyVerdict = None,
    compare: opt.CompareTwo = None,
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

    A QUERY is a track id, a source, or words of artist, title or album; none is every track. With
    --model and the like it is the newest report of each track that is so.

    The percentile says how many in a hundred of the library's own tracks of that model and genre
    score lower; `stemwright review` brings it up to date.

    Example: stemwright reports --verdict review --csv review.csv
    """
    _refuse_together(failures, compare, bool(model or genre or verdict), bool(model or verdict))
    with errors_shown(as_json):
        from tasks.recording import Selection
        from tasks.sources import from_argument

        place = opt.open_library(library, config, there=rebuild)
        if rebuild:
            err.print(f"Rebuilt the tables from {many(place.rebuild(), 'report')}.")
        text = from_argument(query)
        selection = Selection(text, model, run, since, until, genre, verdict)
        if compare is not None:
            show_comparison(place, compare, selection, csv, as_json=as_json)
            return
        frame = selection.failures(place) if failures else _newest(place, selection)
        if csv is not None:
            write_csv(frame, csv)
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
            _show(rows, place.url, selection)
        if csv is not None:
            err.print(f"Wrote {many(len(rows), 'row')} to {safe(csv)}.")


def _refuse_together(
    failures: bool, compare: tuple[str, str] | None, of_reports: bool, of_one: bool
) -> None:
    if failures and (of_reports or compare):
        what = "a failure has no model, genre or verdict, and isn't compared."
        raise typer.BadParameter(what, param_hint="--failures")
    if compare and of_one:
        what = "it names the models itself, whatever their verdicts."
        raise typer.BadParameter(what, param_hint="--compare")


def _newest(library: Library, selection: Selection) -> pd.DataFrame:
    from flows.reviewing import with_standings
    from tasks.recording import find

    if selection.query.strip() and find(library, selection.query).empty:
        raise opt.nothing_meant(library, selection.query)
    frame = with_standings(library, selection.newest(library))
    keys = zip(frame["track_id"], frame["separation_id"], strict=True)
    return frame.assign(folder=[library.folder(*key) for key in keys])


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


def _show(rows: list[dict[str, Any]], library: str, selection: Selection) -> None:
    from tasks.recording import TrackRow

    if not rows:
        out.print(f"No reports{' that are so' if selection else ''} in {safe(library)}.")
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
