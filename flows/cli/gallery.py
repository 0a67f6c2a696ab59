"""`stemwright gallery`: one HTML file to look at and listen to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli import options as opt
from flows.cli.console import complain, err, errors_shown, moving, out, print_json, safe
from flows.cli.tables import many

if TYPE_CHECKING:
    from tasks.recording.gallery import Written


def gallery(
    library: opt.LibraryDir = "",
    file: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help=r"Where the page goes. \[default: gallery.html in the library, or in this folder]",
        ),
    ] = None,
    config: opt.Config = None,
    verdict: opt.OnlyVerdict = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=0, help="Only the N worst tracks.", show_default=False
        ),
    ] = 0,
    pictures: Annotated[
        int,
        typer.Option(
            "--pictures",
            metavar="N",
            min=0,
            help="Tracks with pictures and audio; those below pass come first.",
        ),
    ] = 300,
    audio: Annotated[
        Literal["auto", "embed", "link", "none"],
        typer.Option(
            "--audio",
            help="embed: previews in the page (Opus, 96 kbit/s); link: the library's own files; "
            "auto: previews while they are under 32 MB, else links.",
        ),
    ] = "auto",
    compare: opt.CompareTwo = None,
    open_it: Annotated[
        bool, typer.Option("--open", help="Show the page in the web browser of this machine.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Write a page with every track's waveforms, spectrograms and stems, to see and to hear.

    It opens from the disk and needs no network. Newest report of each track, worst first. With
    --compare it has the tracks that both have, and a switch that goes on playing where it is.

    Example: stemwright gallery --verdict review --out review.html
    """
    from tasks.recording.gallery import GalleryOptions, write_gallery

    with errors_shown(as_json):
        place = opt.open_library(library, config, there=True)
        options = GalleryOptions(
            verdict=verdict, limit=limit, pictures=pictures, audio=audio, compare=compare
        )
        with drawing() as progress:
            written = write_gallery(place, file, options, progress)
    if as_json:
        print_json(written.model_dump(mode="json") | {"library": place.url})
    else:
        show(written)
    if open_it:
        show_in_browser(written.path)


def show_in_browser(page: Path) -> None:
    """Open the page where there is a browser; where there is none, say so: the page is written."""
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        complain(f"{page} wasn't opened.", "Open it in a browser of yours.", what="no browser")


@contextmanager
def drawing() -> Iterator[Callable[[int, int], None]]:
    """Say on a terminal how far the pictures are."""
    if not moving():
        yield lambda done, of: None
        return
    with err.status("[dim]drawing…[/]") as status:
        yield lambda done, of: status.update(f"[dim]drawing: {done:,} of {many(of, 'track')}[/]")


def show(written: Written) -> None:
    """Say where the gallery is, and what is in it."""
    size = f"{written.bytes / 1e6:,.1f} MB"
    beside = f", {many(written.side_files, 'file')} beside it" if written.side_files else ""
    out.print(f"Gallery: {safe(written.path)}", soft_wrap=True)
    sound = {"embed": "with audio", "link": "audio by link", "none": "no audio"}[written.audio]
    out.print(
        f"  {many(written.tracks, 'track')}, {written.pictured:,} with pictures, {sound}; "
        f"{size}{beside}."
    )
    if written.lost:
        complain(
            f"{many(len(written.lost), 'separation')}, {written.lost[0]} first.",
            "`stemwright separate` on the source makes it anew.",
            what="files are gone",
        )
    for folder in written.unreadable[:10]:
        complain(f"{folder}: its report.json can't be read.", what="left out")
