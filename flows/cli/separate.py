"""`stemwright separate`: the main job on real sources."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as opt
from flows.cli.console import (
    Exit,
    busy,
    complain,
    errors_shown,
    out,
    print_json,
    safe,
    set_up_logging,
)
from tasks.errors import SettingsError

if TYPE_CHECKING:
    from blocks.settings import StemwrightSettings
    from flows.cli.export import Export, Exports
    from flows.runner.summary import RunSummary, TrackLine

SHOWN = 50
"""Rows of a table on the terminal; the library has them all."""


@opt.with_run_options
def separate(
    options: opt.RunOptions,
    fail_under: Annotated[
        float,
        typer.Option(
            "--fail-under",
            metavar="SCORE",
            min=0,
            max=1,
            help="Exit with 3 if a score, 0 to 1, is under it.",
            show_default=False,
        ),
    ] = 0.0,
    target: opt.MaybeOutDir = None,
    template: opt.NameTemplate = "",
    two_stems: opt.TwoStems = "",
    as_json: opt.AsJson = False,
) -> None:
    """Separate tracks into stems, check them, score them, and write a report for each.

    A SOURCE is a file, a folder, an http(s) URL that yt-dlp can fetch, an object-store URL, a
    catalog (.csv .parquet .jsonl .txt .m3u), or - for one source a line on stdin.

    Tracks that are finished already are skipped, so the same command resumes a run. With --out
    the stems are in that folder, too, under readable names, as `export` puts them there.

    Example: stemwright separate song.mp3 --out ~/Stems
    """
    with errors_shown(as_json):
        export = _export_of(target, template, two_stems, options.stems)
        run_and_show(options, fail_under=fail_under, as_json=as_json, export=export)


def run_and_show(
    options: opt.RunOptions,
    *,
    fail_under: float = 0.0,
    as_json: bool,
    export: Export | None = None,
) -> None:
    """Run the flow, print its results, and exit with its code."""
    wanted = export.form.two_stems if export else ""
    summary = run(options, fail_under=fail_under, as_json=as_json, stem=wanted)
    exports = _exports(summary, export) if export else None
    code = summary.exit_code or (exports.code if exports else Exit.DONE)
    if as_json:
        also = {"export": exports.document} if exports else {}
        print_json(as_document(summary) | also | {"exit_code": code})
    else:
        show(summary)
        if exports:
            exports.show()
    raise typer.Exit(code)


def as_document(summary: RunSummary) -> dict[str, Any]:
    """Return what `--json` prints of a run."""
    return summary.model_dump(mode="json") | {"exit_code": summary.exit_code}


def _export_of(target: Path | None, template: str, two_stems: str, stems: str) -> Export | None:
    """What is to be exported at the end; what is wrong with it is said before the beginning."""
    from flows.cli.export import Export
    from tasks.export import ExportForm

    if target is None:
        if template or two_stems:
            option = "-o" if template else "--two-stems"
            raise SettingsError(
                f"{option} says what to put into a folder, and there is none.",
                remedy="Name one: --out DIR.",
            )
        return None
    # A finished separation with more stems may be what is exported.
    form = ExportForm(two_stems=two_stems, stems=() if two_stems else opt.listed(stems))
    return Export.of(target, template, form)


def _exports(summary: RunSummary, export: Export) -> Exports:
    """Export every track that is finished now, whoever made it."""
    from tasks.recording import Library

    lines = [line for line in summary.tracks if line.track_id and line.separation_id]
    places = dict.fromkeys((str(line.track_id), str(line.separation_id)) for line in lines)
    return export.run(Library(summary.library), list(places))


def run(
    options: opt.RunOptions, *, fail_under: float = 0.0, as_json: bool, stem: str = ""
) -> RunSummary:
    """Run the flow, unless the library says that there is nothing to do.

    Raises:
        SettingsError: What is set can't work, or there won't be this `stem`.
    """
    from flows.cli.embedded import Prefect, run_catalog
    from flows.runner.settled import cheap_tracks, settled_run
    from flows.runner.setup import prepare
    from flows.runner.summary import with_known
    from tasks.recording import Library

    finished: RunSummary | None = None
    with Prefect() as prefect:
        with busy("looking at the settings, the library and the hardware…"):
            settings = read_settings(options)
            refs = None if options.force else cheap_tracks(options.sources, options.limit or None)
            library = Library(settings.library)
            if refs is None or not library.knows(ref.source for ref in refs):
                # Surely there is something to do, and while it starts we can prepare.
                prefect.begin()
            prepared = prepare(settings)
            _refuse_unmade(stem, settings.separation.stems or prepared.engine.info.sources)
            if refs is not None:
                known = prepared.known_tracks(library, retry_failed=options.retry_failed)
                finished = settled_run(refs, prepared, known)
        summary = finished or run_catalog(
            options, prepared, prefect, fail_under=fail_under, as_json=as_json
        )
    return with_known(summary, library)


def _refuse_unmade(stem: str, made: Sequence[str]) -> None:
    if stem and stem not in made:
        raise SettingsError(
            f"there will be no stem {stem!r}.", remedy=f"There will be {', '.join(made)}."
        )


def read_settings(options: opt.RunOptions) -> StemwrightSettings:
    """Find what is wrong with settings and sources before anything is imported or started."""
    from flows.runner import setup

    settings = setup.read_settings(options.separation, options.control())
    if options.allow_private:
        ingest = settings.ingest.model_copy(update={"allow_private_addresses": True})
        settings = settings.model_copy(update={"ingest": ingest})
    set_up_logging(settings.logging.level)
    _refuse_missing(options.sources, settings)
    return settings


def _refuse_missing(sources: list[str], settings: StemwrightSettings) -> None:
    """A typo on the command line starts nothing; what a catalog names may be missing."""
    from tasks.paths import shown
    from tasks.sources import missing_of

    missing = missing_of(sources)
    if missing:
        _refuse_wrong(settings)
        first = shown(missing[0]) if missing[0].strip() else "a blank name"
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise SettingsError(
            f"there is no file or folder at {first}{more}.", remedy="Check the path."
        )


def _refuse_wrong(settings: StemwrightSettings) -> None:
    """Name what is wrong with the settings, as far as it takes no hardware, weights or network."""
    from tasks.errors import WeightsMissing
    from tasks.separation.factory import make_engine

    options = settings.engine_options()
    here = {"auto_detect": False, "offline": options.offline or options.provider != "cloud"}
    # Unless the user said so, weights that aren't here could be fetched.
    with nullcontext() if options.offline else suppress(WeightsMissing):
        make_engine(options.model_copy(update=here))


def show(summary: RunSummary) -> None:
    """The quality table, the failures with their reasons, and where everything is."""
    show_results(summary)
    show_places(summary)


def show_results(summary: RunSummary) -> None:
    """The quality table, the failures with their reasons, and the sums."""
    from flows.cli.tables import fitted, legend, quality_table

    if not summary.found:
        out.print("No tracks found.")
        return
    rows, more = _rows(summary)
    if rows:
        out.print(fitted(quality_table(rows, out.width), out))
        out.print(legend(out.width))
    if more:
        where = safe(summary.library)
        out.print(f"… and {more:,} more: stemwright reports --library {where}\n", soft_wrap=True)
    for failure in summary.failures[:SHOWN]:
        complain(
            f"{failure.label or failure.source}: {failure.message}",
            failure.remedy,
            what=f"failed in {failure.stage}",
        )
    if summary.failed > SHOWN:
        complain(
            f"{summary.failed - SHOWN:,} more.",
            f"stemwright reports --failures --library {summary.library}",
            what="failed",
        )
    if not summary.done and not summary.failed:
        out.print("Nothing was left to do: every track is in the library already.")
    out.print(f"[bold]{safe(summary.headline)}[/]")


def show_places(summary: RunSummary) -> None:
    """Where what was made is: of one track each stem's path, of many how to find one's."""
    from flows.cli.tables import stem_lines

    if not summary.found:
        return
    lines = {line.folder: line for line in summary.tracks if line.folder}
    if len(lines) == 1 and (stems := next(iter(lines.values())).stems):
        out.print(f"Stems:\n{stem_lines(stems)}", soft_wrap=True)
    elif lines:
        made = {line.separation_id for line in lines.values()}
        # Engines that take over make separations of other names.
        name = made.pop() if len(made) == 1 else "SEPARATION_ID"
        where = safe(summary.library)
        out.print(f"Stems:   {where}/tracks/TRACK_ID/{name}", soft_wrap=True)
        for what, how in (
            ("where each is:", "stemwright reports --paths"),
            ("names of yours:", "stemwright export --out DIR"),
        ):
            out.print(f"         {what:<16}{how} --library {where}", soft_wrap=True)
    out.print(f"Tables:  {safe(summary.library)}/reports", soft_wrap=True)


def _rows(summary: RunSummary) -> tuple[list[TrackLine], int]:
    """The table's rows: what this run made, then what was there already, once a track however many
    sources named it; and how many are left out."""
    made = [line for line in summary.tracks if line.status == "done"]
    mine = {line.folder for line in made}
    there = {line.folder: line for line in reversed(summary.tracks) if line.verdict}
    present = [line for folder, line in reversed(there.items()) if folder not in mine]
    rows = [*made, *present]
    unlisted = max(0, summary.done - len(made))
    return rows[:SHOWN], max(0, len(rows) - SHOWN) + unlisted
