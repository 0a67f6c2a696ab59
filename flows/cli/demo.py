"""`stemwright demo`: the whole main job on the bundled music, with the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tasks.sources
from flows.cli import options as opt
from flows.cli.console import complain, errors_shown, out, safe
from tasks.errors import StemwrightError

if TYPE_CHECKING:
    from flows.runner.summary import RunSummary

BUNDLED = Path(tasks.sources.__file__).parent / "bundled" / "catalog.csv"


def demo(library: opt.LibraryDir = "", as_json: opt.AsJson = False) -> None:
    """Run the bundled tracks through every stage with the embedded model. No network needed.

    Example: stemwright demo --library ./library
    """
    from flows.cli.separate import run_and_show

    with errors_shown(as_json):
        if not as_json:
            out.print(
                "Bundled music goes through every stage, on this machine alone.\n"
                "The embedded model is small and shows the pipeline; htdemucs is for music."
            )
        run_and_show(
            opt.RunOptions(sources=[str(BUNDLED)], library=library, model="embedded", offline=True),
            as_json=as_json,
            afterwards=look_and_listen,
        )


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
        ("look, listen:", "open the gallery in a browser; it needs no network"),
        ("hear a stem:", f"{folder}/vocals.flac"),
        ("your music:", "stemwright separate ~/Music/album  (fetches htdemucs once, 84 MB)"),
        ("the table:", f"stemwright reports --library {summary.library}"),
    ):
        out.print(f"  {what:<14}{safe(how)}", soft_wrap=True)
