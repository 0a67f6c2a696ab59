"""`stemwright verify`: whether a library still is what was written, and making it so again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import options as opt
from flows.cli.console import Exit, busy, complain, errors_shown, out, print_json, safe
from flows.cli.tables import many, size
from tasks.errors import StemwrightError

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.recording import Library
    from tasks.recording.verify import Finding, Share


def verify(
    library: opt.LibraryDir = "",
    config: opt.Config = None,
    share: Annotated[
        str,
        typer.Option(
            "--share",
            metavar="N/M",
            help="Only part N of M of the tracks: 30 nights look at all with 1/30 to 30/30.",
            show_default=False,
        ),
    ] = "",
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend rows, and separate again what has damaged files."),
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Read every file of a library and hold it against its hash, its report and the tables.

    Exits with 1 if something isn't whole, each named.

    Example: stemwright verify --library ./library --repair
    """
    with errors_shown(as_json):
        part = _share_of(share)
        place = opt.open_library(library, config, there=True)
        found = _looked_at(place, part)
        left = _repaired(place, found.findings, config) if repair else found.findings
        code = Exit.SOME_FAILED if left else Exit.DONE
        if as_json:
            print_json(found.document | {"library": place.url, "left": _plain(left)} | _code(code))
        else:
            _show(found, left, place.url, repair)
        raise typer.Exit(code)


@dataclass
class _Found:
    separations: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def document(self) -> dict[str, Any]:
        return {
            "separations": self.separations,
            "bytes": self.bytes,
            "findings": _plain(self.findings),
        }


def _plain(findings: list[Finding]) -> list[dict[str, Any]]:
    return [finding.model_dump(mode="json") for finding in findings]


def _code(code: Exit) -> dict[str, int]:
    return {"exit_code": int(code)}


def _share_of(text: str) -> Share:
    from tasks.recording.verify import Share

    if not text:
        return Share()
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
        return Share(int(number), int(of))
    raise typer.BadParameter(f"{text!r} isn't like 3/30.", param_hint="--share")


def _looked_at(library: Library, share: Share) -> _Found:
    from tasks.recording.verify import Checked

    found = _Found()
    with busy("reading every file…"):
        for one in library.verify(share):
            if isinstance(one, Checked):
                found.separations += 1
                found.bytes += one.bytes
            else:
                found.findings.append(one)
    return found


def _repaired(library: Library, findings: list[Finding], config: Path | None) -> list[Finding]:
    """Mend what can be mended; return what is left, with why."""
    rows = [one for one in findings if one.kind == "row missing"]
    library.ensure_rows([one.key for one in rows])
    if any(one.kind in ("row differs", "folder missing") for one in findings):
        library.rebuild()
    left = [one for one in findings if one.kind in ("report", "unfinished")]
    damaged: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        if one.kind == "file":
            damaged.setdefault(one.key, []).append(one)
    for key, files in damaged.items():
        if why := _made_again(library, key, files, config):
            left += [one.model_copy(update={"what": f"{one.what} {why}"}) for one in files]
    return left


def _made_again(
    library: Library, key: tuple[str, str], files: list[Finding], config: Path | None
) -> str:
    """Separate one track again with its own settings; return why it couldn't be, or nothing."""
    from flows.cli.separate import run
    from tasks.sources import missing_of

    report = library.report(*key)
    if missing_of([report.source]):
        return "It can't be made again: its source is gone."
    settings = report.settings
    asked = opt.RunOptions(
        sources=[report.source],
        library=library.url,
        config=config,
        model=report.stem_set.model,
        stems=",".join(settings.stems or ()),
        format=settings.format,
        bit_depth=settings.bit_depth,
    )
    try:
        for one in files:
            library.discard(*key, one.file)
        run(asked, as_json=True)
    except StemwrightError as error:
        return f"It can't be made again: {error.cause}"
    if library.is_finished(*key):
        return ""
    return "It was separated again, and with today's settings that is another separation."


def _show(found: _Found, left: list[Finding], library: str, repair: bool) -> None:
    for one in left:
        where = "/".join(part for part in (*one.key, one.file) if part)
        complain(f"{where}: {one.what}", safe(one.source), what=one.kind)
    mended = len(found.findings) - len(left)
    looked = f"{many(found.separations, 'separation')}, {size(found.bytes)} in {safe(library)}"
    out.print(f"{looked}: {many(len(left), 'fault') if left else 'all is whole'}.")
    if repair and mended:
        out.print(f"{many(mended, 'fault')} mended.")
    elif left and not repair:
        out.print("`stemwright verify --repair` mends what can be mended.")
