"""`stemwright forget`: takes tracks out of a library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import options as opt
from flows.cli.console import agreed, errors_shown, out, print_json, safe
from flows.cli.tables import many, size

if TYPE_CHECKING:
    from flows.housekeeping import Forgetting

SHOWN = 20


def forget(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            show_default=False,
        ),
    ],
    library: opt.LibraryDir = "",
    config: opt.Config = None,
    yes: opt.Yes = False,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
) -> None:
    """Remove tracks from a library: all their stems, rows, aliases and failures. It asks first.

    QUERY is a track id, a path or URL that was a source, or words found in artist, title or album.

    The sources themselves stay where they are; separating them again makes them anew.

    Example: stemwright forget "miles davis" --library ./library --dry-run
    """
    from flows.housekeeping import to_forget
    from tasks.sources import from_argument

    with errors_shown(as_json):
        if not query.strip():
            raise typer.BadParameter("it is empty: name a track.", param_hint="QUERY")
        place = opt.open_library(library, config, there=True)
        found = to_forget(place, from_argument(query))
        if not (found.tracks or found.failures):
            raise opt.nothing_meant(place, query)
        if not as_json:
            _show(found)
        gone = False
        if not dry_run:
            gone = yes or agreed(f"Remove {_in_words(found)}?", as_json=as_json)
        if gone:
            found.carry_out(place)
        if as_json:
            counts = {"count": len(found.tracks), "bytes": found.bytes, "removed": gone}
            named = {"library": place.url, "query": query, "dry_run": dry_run}
            print_json(named | counts | found.model_dump(mode="json"))
        else:
            out.print(f"Removed {_in_words(found)}." if gone else "Nothing was removed.")


def _show(found: Forgetting) -> None:
    for track in found.tracks[:SHOWN]:
        out.print(f"{safe(track.label)}  [dim]{track.track_id}[/]")
        out.print(f"  {safe(track.source)}")
        out.print(f"  {', '.join(map(safe, track.separations))}; {size(track.bytes)}")
    if len(found.tracks) > SHOWN:
        out.print(f"… and {many(len(found.tracks) - SHOWN, 'track')} more")


def _in_words(found: Forgetting) -> str:
    """What goes, as "2 tracks with 3 separations (120.0 MB)"."""
    parts = []
    if found.tracks:
        separations = sum(len(track.separations) for track in found.tracks)
        what = f"{many(len(found.tracks), 'track')} with {many(separations, 'separation')}"
        parts.append(f"{what} ({size(found.bytes)})")
    if found.failures:
        parts.append(many(found.failures, "failure"))
    return " and ".join(parts)
