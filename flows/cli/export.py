"""`stemwright export`: stems of a library under readable names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as opt
from flows.cli.console import Exit, busy, complain, errors_shown, out, print_json, safe
from flows.cli.tables import many
from tasks.errors import SettingsError, StemwrightError

if TYPE_CHECKING:
    from tasks.export import Exported, ExportForm, How
    from tasks.recording import Library

SHOWN = 50
WORDS: dict[How, str] = {
    "linked": "linked, at no cost of disk",
    "copied": "copied",
    "encoded": "encoded",
    "already": "there already",
}


def export(
    target: opt.OutDir,
    query: Annotated[
        str,
        typer.Argument(
            metavar="[QUERY]",
            help="A track id, a source, or words of artist, title or album; none: every track.",
            show_default=False,
        ),
    ] = "",
    template: opt.NameTemplate = "",
    format: opt.ExportFormat = None,
    bit_depth: opt.Depth = None,
    stems: opt.Stems = "",
    mix: Annotated[
        str,
        typer.Option("--mix", metavar="STEM,…", help="One file: the sum of these stems."),
    ] = "",
    two_stems: opt.TwoStems = "",
    library: opt.LibraryDir = "",
    config: opt.Config = None,
    as_json: opt.AsJson = False,
) -> None:
    """Put a library's stems into a folder under readable names.

    Without --format these are the library's own files, by hard links that cost no disk; with it
    they are encoded, with the track's tags and cover. Nothing is ever overwritten, and what an
    earlier export has made is left as it is.

    Example: stemwright export "miles davis" --out ~/Stems --format mp3
    """
    with errors_shown(as_json):
        from tasks.export import ExportForm

        form = ExportForm(
            format=format,
            bit_depth=bit_depth or "24",
            stems=opt.listed(stems),
            mix=opt.listed(mix),
            two_stems=two_stems,
        )
        place = opt.open_library(library, config, there=True)
        found = _found(place, query)
        made, failed = export_all(place, found, target, template, form)
        code = Exit.SOME_FAILED if failed else Exit.DONE
        if as_json:
            print_json(document(place, target, made, failed) | {"exit_code": int(code)})
        else:
            show(made, failed, target)
        raise typer.Exit(code)


def _found(library: Library, query: str) -> list[tuple[str, str]]:
    from tasks.recording import find

    frame = find(library, query)
    if query.strip() and frame.empty:
        raise SettingsError(
            f"nothing in {library.url} is meant by {query!r}.",
            remedy="`stemwright reports` shows what is there.",
        )
    return list(zip(frame["track_id"], frame["separation_id"], strict=True))


def export_all(
    library: Library,
    places: list[tuple[str, str]],
    target: Path,
    template: str,
    form: ExportForm,
) -> tuple[list[Exported], list[StemwrightError]]:
    """Export separations, one after the other; one that can't be had costs no other.

    Raises:
        SettingsError: What was asked for can't be, of any track.
    """
    from tasks.export import DEFAULT_TEMPLATE, Template, export_separation

    names = Template(template or DEFAULT_TEMPLATE)
    made: list[Exported] = []
    failed: list[StemwrightError] = []
    with busy("exporting…"):
        for track_id, separation_id in places:
            try:
                made += export_separation(library, track_id, separation_id, target, names, form)
            except StemwrightError as error:
                if isinstance(error, SettingsError) and len(places) == 1:
                    raise
                failed.append(error)
    return made, failed


def document(
    library: Library, target: Path, made: list[Exported], failed: list[StemwrightError]
) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "library": library.url,
        "out": str(target),
        "count": len(made),
        "files": [one.model_dump(mode="json") for one in made],
        "failures": [{"message": str(error), "remedy": error.remedy} for error in failed],
    }


def show(made: list[Exported], failed: list[StemwrightError], target: Path) -> None:
    """Where the files are."""
    for one in made[:SHOWN]:
        out.print(safe(one.path), soft_wrap=True)
    if len(made) > SHOWN:
        out.print(f"… and {len(made) - SHOWN:,} more")
    for error in failed:
        complain(error.cause, error.remedy, what="left out")
    ways = Counter(one.how for one in made)
    how = ", ".join(f"{ways[name]:,} {words}" for name, words in WORDS.items() if ways[name])
    out.print(f"{many(len(made), 'file')} in {safe(target)}" + (f": {how}." if how else "."))
