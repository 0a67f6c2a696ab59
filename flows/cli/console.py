"""Where the command's words go: results to stdout, everything else to stderr; and exit codes."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn, TextIO

import typer
from rich.console import Console
from rich.markup import escape

from flows.logs import LOGGERS, set_level
from tasks.errors import SettingsError, StemwrightError
from tasks.paths import readable
from tasks.plugins import load_plugins

# Without a terminal there is no width to keep to, and a table that wraps reads badly in a log.
PIPED_WIDTH = 180

# Control characters and what turns the direction of text: a file's name or title
# is another's text, and must not steer our terminal.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


CRAMPED = 64
"""Columns under which nothing stands beside another: a line a fact."""


class Exit(IntEnum):
    """What the command's exit codes mean; people script against them."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    GATE = 3
    INTERRUPTED = 130


def _console(*, stderr: bool) -> Console:
    # Python's types don't know that it is None where the stream is closed.
    stream: TextIO | None = sys.stderr if stderr else sys.stdout
    live = stream is not None and stream.isatty()
    return Console(
        stderr=stderr,
        soft_wrap=not live,
        highlight=False,
        emoji=False,
        width=None if live else PIPED_WIDTH,
    )


out = _console(stderr=False)
err = _console(stderr=True)


def plain(text: object) -> str:
    """Another's text without what steers a terminal."""
    return _STEERING.sub(" ", readable(str(text))).strip()


def safe(text: object) -> str:
    """Another's text for a place where Rich reads markup: "[red]" stays as it is."""
    return escape(plain(text))


def print_json(document: Any) -> None:
    """One JSON document on stdout. Infinities and not-a-numbers don't occur in it."""
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        # A file name that is no Unicode, or a stream that holds less: escapes say the same.
        text = json.dumps(document, indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")


def moving() -> bool:
    """Whether stderr shows what moves: a terminal that can, and with the room for it."""
    return err.is_terminal and not err.is_dumb_terminal and err.width >= CRAMPED


def tell(name: str, text: str, *, pad: int) -> None:
    """A name and what is to be said of it, on stdout; on a narrow terminal one under the other."""
    if out.width < CRAMPED:
        out.print(name)
        out.print(text)
    else:
        out.print(f"{name:<{pad}} {text}")


def agreed(question: str, *, as_json: bool) -> bool:
    """Ask on stderr; where nobody can answer, the command ends as one that was used wrongly."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        what = "this asks first, and there was no answer."
        stop(Exit.USAGE, "UsageError", what, "Say --yes, or --dry-run to look.", as_json=as_json)


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Say on a terminal that something takes a moment, and say no more of it afterwards."""
    if not moving():
        yield
        return
    with err.status(f"[dim]{safe(doing)}[/]"):
        yield


def complain(message: str, remedy: str = "", *, what: str = "error", indent: str = "") -> None:
    """A problem, and what to do about it, on stderr."""
    err.print(f"{indent}[bold red]{safe(what)}:[/] {safe(message)}")
    if remedy:
        err.print(f"{indent}  [dim]→[/] {safe(remedy)}")


def stop(code: Exit, kind: str, message: str, remedy: str = "", *, as_json: bool) -> NoReturn:
    """End the command with words on stderr and, where JSON was asked for, a document on stdout."""
    complain(message, remedy, what="interrupted" if code == Exit.INTERRUPTED else "error")
    if as_json:
        print_json(error_document(code, kind, message, remedy))
    raise typer.Exit(code)


def error_document(code: int, kind: str, message: str, remedy: str = "") -> dict[str, Any]:
    """What `--json` prints in the place of results."""
    return {"error": {"type": kind, "message": message, "remedy": remedy}, "exit_code": int(code)}


@contextmanager
def errors_shown(as_json: bool = False) -> Iterator[None]:
    """Load the plugins; a `StemwrightError` ends the command with its words, not a traceback."""
    try:
        load_plugins()
        yield
    except StemwrightError as error:
        code = Exit.USAGE if isinstance(error, SettingsError) else Exit.SOME_FAILED
        message = f"{error.track}: {error.cause}" if error.track else error.cause
        stop(code, type(error).__name__, message, error.remedy, as_json=as_json)


class _OnStderr(logging.Handler):
    """Log lines above the progress display, which a plain stream handler would write into.

    What several tracks say alike, one after the other, is shown once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        if line != self._last:
            self._last = line
            err.print(f"[dim]{safe(line)}[/]")


def set_up_logging(level: str) -> None:
    """Our own log lines on stderr; other libraries' only when they are warnings."""
    handler = _OnStderr()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    set_level(level)
