"""`stemwright review`: what a library says of itself."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from flows.cli import options as opt
from flows.cli.console import busy, err, errors_shown, out, plain, print_json, safe
from flows.cli.tables import fitted, many, quality
from tasks.heard import why
from tasks.wording import number, score_text

if TYPE_CHECKING:
    from flows.reviewing import ReviewSummary

SHOWN = 20


def review(
    library: opt.LibraryDir = "",
    config: opt.Config = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            metavar="DATE",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help=r"Reports from then on are new; UTC. \[default: the last 7 days]",
            show_default=False,
        ),
    ] = None,
    days: Annotated[
        float,
        typer.Option("--days", metavar="N", min=0.01, help="The last N days, without --since."),
    ] = 7.0,
    against_days: Annotated[
        float,
        typer.Option(
            "--against-days",
            metavar="N",
            min=0,
            help=r"Compare with the N days before. \[default: all before]",
            show_default=False,
        ),
    ] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write no calibration; only look.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Calibrate a library to itself; show how scores moved, and what is newly flagged.

    The next runs report where each track stands among its like (its percentile).

    Example: stemwright review --library ./library --since 2026-11-01
    """
    from flows.reviewing import Period
    from flows.reviewing import review as reviewed

    with errors_shown(as_json):
        place = opt.open_library(library, config)
        period = (
            Period.from_date(since, against_days) if since else Period.of_days(days, against_days)
        )
        with busy("reading the tables…"):
            summary = reviewed(place, period, write=not dry_run)
        if as_json:
            named = {"headline": summary.headline, "fallen": summary.fallen}
            print_json(summary.model_dump(mode="json") | named)
        else:
            _show(summary)


def _show(summary: ReviewSummary) -> None:
    if not summary.tracks:
        out.print(f"No reports in {safe(summary.library)}.")
        return
    _show_drifts(summary)
    _show_flagged(summary)
    for stem in summary.atypical[:SHOWN]:
        odd = ", ".join(f"{name} z {z:+.1f}" for name, z in stem.descriptors.items())
        out.print(f"[dim]unusual:[/] {stem.stem} of {safe(stem.label)}: {odd}")
    out.print(f"[bold]{safe(summary.headline)}[/]")
    if summary.written:
        from tasks.quality.calibration import MIN_POPULATION

        why = "" if summary.populations else f" It takes {MIN_POPULATION} tracks to make one."
        err.print(f"Calibrated {many(summary.populations, 'population')}.{why}")


def _show_drifts(summary: ReviewSummary) -> None:
    from flows.review_page import in_words

    drifts = [drift for drift in summary.drifts if drift.measure == "score"]
    if not drifts:
        out.print(f"Too few reports before or after {summary.since:%Y-%m-%d} to compare the two.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("model", "of"):
        table.add_column(column, overflow="fold")
    for column in ("reports", "score moved by", "within genre"):
        table.add_column(column, justify="right")
    for drift in drifts:
        moved = "bold yellow" if drift.within_genre.moved else ""
        table.add_row(
            Text(plain(drift.model)),
            Text(plain(drift.stem or "tracks")),
            f"{drift.plain.later:,} / {drift.plain.earlier:,}",
            in_words(drift.plain, 3),
            Text(in_words(drift.within_genre, 3), style=moved),
        )
    out.print(fitted(table, out))


def _show_flagged(summary: ReviewSummary) -> None:
    if not summary.flagged:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("flagged", overflow="fold", min_width=18)
    for column in ("quality", "score", "percentile"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("worst heard", overflow="fold")
    for track in summary.flagged[:SHOWN]:
        table.add_row(
            Text(plain(track.label)),
            quality(track.verdict),
            score_text(track.score),
            number(track.percentile, 0),
            Text(plain(why(track))),
        )
    out.print(fitted(table, out))
    if summary.flagged_count > SHOWN:
        out.print(f"… and {summary.flagged_count - SHOWN:,} more: stemwright review --json")
