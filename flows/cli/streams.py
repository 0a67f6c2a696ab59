"""What the command is started with, as others leave it: streams that are closed, missing, full or
at their end, an ASCII locale, and a working folder that was deleted.

A daemon's or a cron job's may not be there; a pipe's reader may have seen enough. Neither is the
command's failure, and no track of a run may fail for it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO


class _Forgiving(io.TextIOWrapper):
    """A stream whose words go nowhere once they can't be written; it remembers why."""

    lost: OSError | None = None

    def write(self, text: str) -> int:
        return self._tried(lambda: super(_Forgiving, self).write(text)) or len(text)

    def flush(self) -> None:
        self._tried(super().flush)

    def _tried(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except OSError as error:
            if self.lost is not None:
                return None
            self.lost = error
        # What is still in its buffers goes there too.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)
        return None


def hold_names() -> None:
    """Start again in Python's UTF-8 mode where the locale is ASCII.

    Libraries that open files encode their names as the locale says, and ASCII holds few.
    """
    if sys.getfilesystemencoding() == "ascii":
        os.environ["PYTHONUTF8"] = "1"  # for what this process starts
        os.environ.setdefault("PYTHONIOENCODING", "ascii")
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def hold_streams() -> None:
    """Open what is closed onto nothing, and let output end without an error.

    A closed number would be given to the next file that is opened, a library's for one, and then
    written into by whoever prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
    # Python's types don't know that these may be None.
    given: tuple[TextIO | None, ...] = (sys.stdin, sys.stdout, sys.stderr)
    if given[0] is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    sys.stdout = _forgiving(given[1], 1)
    sys.stderr = _forgiving(given[2], 2)


def _forgiving(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return _Forgiving(open(number, "wb", closefd=False), encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, _Forgiving):
        return stream
    how: dict[str, Any] = {
        "encoding": stream.encoding,
        # Where the locale is ASCII a stream can't hold every title, nor our own "×".
        "errors": "replace",
        "line_buffering": stream.line_buffering,
    }
    return _Forgiving(stream.detach(), **how)


def hold_folder() -> bool:
    """Return whether there is a working folder; where it was deleted, take one that can't be
    written. (MKL for one ends the process without any.)"""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        # A library by a relative name must not come to be in a folder that nobody thinks of, even
        # root's; elsewhere than on Linux the root is read-only for all.
        os.chdir("/proc" if os.path.isdir("/proc") else "/")  # noqa: PTH112
        return False
    return True


def lost_output() -> str:
    """Return why stdout couldn't be written; empty if it could, or if its reader had enough."""
    with suppress(ValueError):
        sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", None)
    if lost is None or lost.errno == errno.EPIPE:
        return ""
    return lost.strerror or str(lost)
