"""`stemwright export`: stems of a library under readable names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as opt
from flows.cli.console import Exit, busy, complain, errors_shown, out, print_json, safe
from flows.cli.tables import many
from tasks.errors import SettingsError, StemwrightError

if TYPE_CHECKING:
    from tasks.export import Exported, ExportForm, How, Template
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
    query: opt.AnyQuery = "",
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

    A QUERY is a track id, a source, or words of artist, title or album; none is every track.

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
        wanted = Export.of(target, template, form)
        place = opt.open_library(library, config, there=True)
        exports = wanted.run(place, _found(place, query))
        if as_json:
            print_json({"library": place.url} | exports.document | {"exit_code": exports.code})
        else:
            exports.show()
        raise typer.Exit(exports.code)


def _found(library: Library, query: str) -> list[tuple[str, str]]:
    from tasks.recording import find

    frame = find(library, query)
    if query.strip() and frame.empty:
        raise opt.nothing_meant(library, query)
    return list(zip(frame["track_id"], frame["separation_id"], strict=True))


@dataclass(frozen=True)
class Export:
    """What is to be exported, and where to."""

    target: Path
    template: Template
    form: ExportForm

    @classmethod
    def of(cls, target: Path, template: str, form: ExportForm) -> Export:
        """Read it.

        Raises:
            SettingsError: The template can't be used.
        """
        from tasks.export import DEFAULT_OF_ONE_FILE, DEFAULT_TEMPLATE, Template

        one_file = form.is_stem_mp4
        usual = DEFAULT_OF_ONE_FILE if one_file else DEFAULT_TEMPLATE
        return cls(target, Template(template or usual, one_file=one_file), form)

    def run(self, library: Library, places: list[tuple[str, str]]) -> Exports:
        """Export separations, one after the other; one that can't be had costs no other.

        Raises:
            SettingsError: The only one isn't as was asked.
        """
        from tasks.export import export_separation

        exports = Exports(self.target)
        with busy("exporting…"):
            for place in places:
                try:
                    exports.made += export_separation(
                        library, *place, self.target, self.template, self.form
                    )
                except StemwrightError as error:
                    if isinstance(error, SettingsError) and len(places) == 1:
                        raise
                    exports.failed.append(error)
        return exports


@dataclass
class Exports:
    """What came of an export."""

    target: Path
    made: list[Exported] = field(default_factory=list)
    failed: list[StemwrightError] = field(default_factory=list)

    @property
    def code(self) -> Exit:
        return Exit.SOME_FAILED if self.failed else Exit.DONE

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "out": str(self.target),
            "count": len(self.made),
            "files": [one.model_dump(mode="json") for one in self.made],
            "failures": [{"message": error.cause, "remedy": error.remedy} for error in self.failed],
        }

    def show(self) -> None:
        """Say where the files are."""
        for one in self.made[:SHOWN]:
            out.print(safe(one.path), soft_wrap=True)
        if len(self.made) > SHOWN:
            out.print(f"… and {len(self.made) - SHOWN:,} more")
        for error in self.failed:
            complain(error.cause, error.remedy, what="left out")
        ways = Counter(one.how for one in self.made)
        how = ", ".join(f"{ways[name]:,} {words}" for name, words in WORDS.items() if ways[name])
        where = f"{many(len(self.made), 'file')} in {safe(self.target)}"
        out.print(f"{where}: {how}." if how else f"{where}.", soft_wrap=True)
