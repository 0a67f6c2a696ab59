"""`stemwright prune`: takes out of a library what nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import options as opt
from flows.cli.console import agreed, errors_shown, out, print_json, safe
from flows.cli.tables import many, size
from tasks.wording import score_text

if TYPE_CHECKING:
    from flows.housekeeping import Pruning

SHOWN = 20


def prune(
    library: opt.LibraryDir = "",
    config: opt.Config = None,
    keep_best: Annotated[
        bool,
        typer.Option("--keep-best", help="Of each track the best separation alone, of any model."),
    ] = False,
    yes: opt.Yes = False,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
) -> None:
    """Remove superseded separations, and what dead runs left in scratch. It asks first.

    Of a track's separations by one model the best stays and, of those whose scores are alike to two
    digits, the newest. One that has a stem which the better one hasn't stays too.

    Example: stemwright prune --library ./library --dry-run
    """
    from flows.housekeeping import to_prune

    with errors_shown(as_json):
        place = opt.open_library(library, config, there=True)
        found, superseded = to_prune(place, keep_best=keep_best)
        nothing = not (found.separations or found.scratch)
        if not as_json:
            _show(found, place.url)
        gone = False
        if not (nothing or dry_run):
            gone = yes or agreed(f"Remove {_in_words(found)}?", as_json=as_json)
        if gone:
            place.remove(superseded)
            place.sweep()
        if as_json:
            counts = {"count": len(found.separations), "bytes": found.bytes, "removed": gone}
            named = {"library": place.url, "dry_run": dry_run}
            print_json(named | counts | found.model_dump(mode="json"))
        elif not nothing:
            out.print(f"Removed {_in_words(found)}." if gone else "Nothing was removed.")


def _show(found: Pruning, library: str) -> None:
    if not (found.separations or found.scratch):
        out.print(f"Nothing to remove in {safe(library)}.")
    for one in found.separations[:SHOWN]:
        out.print(f"{safe(one.label)}  [dim]{one.track_id}[/]")
        scores = f"{score_text(one.score)}, {score_text(one.kept_score)}"
        out.print(
            f"  {safe(one.separation_id)} ({size(one.bytes)}), superseded by {safe(one.kept)}; "
            f"scores {scores}"
        )
    if len(found.separations) > SHOWN:
        out.print(f"… and {many(len(found.separations) - SHOWN, 'separation')} more")
    for name, count in found.scratch.items():
        out.print(f"scratch of a dead run: {safe(name)} ({size(count)})")


def _in_words(found: Pruning) -> str:
    """What goes, as "3 separations and 1 scratch folder (120.0 MB)"."""
    parts = [
        many(len(of), what)
        for of, what in ((found.separations, "separation"), (found.scratch, "scratch folder"))
        if of
    ]
    return f"{' and '.join(parts)} ({size(found.bytes)})"
