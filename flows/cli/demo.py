"""`stemwright demo`: the whole main job on the bundled music, with the embedded model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from flows.cli import options as opt
from flows.cli.console import complain, errors_shown, out, plain, print_json, safe
from flows.cli.tables import fitted
from tasks.errors import StemwrightError
from tasks.wording import number

if TYPE_CHECKING:
    from flows.evaluating import Evaluation, StemResult
    from flows.runner.summary import RunSummary


def demo(library: opt.LibraryDir = "", as_json: opt.AsJson = False) -> None:
    """Run the bundled tracks through every stage with the embedded model. No network needed.

    The true stems of this music are bundled too: beside each estimate stands the true SI-SDR.

    Example: stemwright demo --library ./library
    """
    from flows.cli.separate import as_document, run, show_places, show_results

    with errors_shown(as_json):
        if not as_json:
            out.print(
                "Bundled music goes through every stage, on this machine alone.\n"
                "The embedded model is small and shows the pipeline; htdemucs is for music."
            )
        from flows.bundled_truth import BUNDLED, evaluate_bundled
        from tasks.recording import Library

        options = opt.RunOptions(
            sources=[str(BUNDLED / "catalog.csv")],
            library=library,
            model="embedded",
            offline=True,
        )
        summary = run(options, as_json=as_json)
        place = Library(summary.library)
        truth = evaluate_bundled(summary.tracks if place.is_local else (), place)
        if as_json:
            print_json(as_document(summary) | {"truth": _document(truth)})
        else:
            show_results(summary)
            show_truth(truth)
            show_places(summary)
            look_and_listen(summary)
        raise typer.Exit(summary.exit_code)


def _document(truth: Evaluation) -> dict[str, Any]:
    return {
        "tracks": [track.model_dump(mode="json") for track in truth.tracks],
        "agreement": truth.agreement.model_dump(mode="json"),
    }


def show_truth(truth: Evaluation) -> None:
    """Print each stem's true SI-SDR beside what was estimated without the true stem."""
    if not truth.tracks:
        return
    out.print("\nThe true stems of this music are known, so here is how right the estimates were.")
    out.print(fitted(truth_table(truth), out))
    agreed = truth.agreement
    held = number(None if agreed.coverage is None else agreed.coverage * agreed.count, 0)
    out.print(
        f"Of {agreed.count} true values {held} lie in the range that was estimated for them; the "
        f"estimates are off by {number(agreed.mae_db, 1, ' dB')} on average.\n"
    )


def truth_table(truth: Evaluation) -> Table:
    """Return a row a track: the true SI-SDR of each stem, and the estimate in brackets."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("true SI-SDR (estimated), dB", overflow="fold")
    names = list(truth.stems)
    for name in names:
        table.add_column(Text(plain(name)), justify="right", no_wrap=True)
    for track in truth.tracks:
        cells = (_beside(track.stems[name]) if name in track.stems else "" for name in names)
        table.add_row(Text(plain(track.track)), *cells)
    return table


def _beside(stem: StemResult) -> str:
    return f"{number(stem.si_sdr_db, 1)} ({number(stem.estimated_si_sdr_db, 1)})"


def look_and_listen(summary: RunSummary) -> None:
    """Write the gallery, and say where it is and what to do next."""
    if not summary.tracks:
        return
    from flows.cli.gallery import drawing
    from tasks.recording import Library
    from tasks.recording.gallery import write_gallery

    try:
        with drawing() as progress:
            written = write_gallery(Library(summary.library), progress=progress)
    except StemwrightError as error:
        complain(error.cause, error.remedy, what="no gallery")
    else:
        out.print(f"Gallery: {safe(written.path)}", soft_wrap=True)
    next_steps(summary)


def next_steps(summary: RunSummary) -> None:
    """What to do with the stems, and how to get them of one's own music."""
    folder = next((line.folder for line in summary.tracks if line.folder), None)
    if folder is None:
        return
    out.print("\n[bold]Next[/]")
    for what, how in (
        ("look, listen:", f"stemwright gallery --open --library {summary.library}"),
        ("hear a stem:", f"{folder}/vocals.flac"),
        ("your music:", "stemwright separate ~/Music/album  (fetches htdemucs once, 84 MB)"),
        ("the table:", f"stemwright reports --library {summary.library}"),
    ):
        out.print(f"  {what:<14}{safe(how)}", soft_wrap=True)
