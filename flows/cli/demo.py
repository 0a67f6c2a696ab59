"""`stemwright demo`: the whole main job on the bundled music, with the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tasks.catalog
from flows.cli import options as opt
from flows.cli.console import errors_shown, out, safe

if TYPE_CHECKING:
    from flows.summary import RunSummary

BUNDLED = Path(tasks.catalog.__file__).parent / "bundled" / "catalog.csv"


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
            opt.parameters(
                sources=[str(BUNDLED)],
                library=library,
                model="embedded",
                offline=True,
            ),
            as_json=as_json,
            afterwards=next_steps,
        )


def next_steps(summary: RunSummary) -> None:
    """What to do with the stems, and how to get them of one's own music."""
    folder = next((line.folder for line in summary.tracks if line.folder), None)
    if folder is None:
        return
    out.print("\n[bold]Next[/]")
    for what, how in (
        ("hear a stem:", f"{folder}/vocals.flac"),
        ("your music:", "stemwright separate ~/Music/album  (fetches htdemucs once, 84 MB)"),
        ("the table:", f"stemwright reports --library {summary.library}"),
    ):
        out.print(f"  {what:<13}{safe(how)}", soft_wrap=True)
