"""Runs a piece of work in a child process that dies, or fails, at its n-th step on the disk."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

_ALTERING = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NEEDING_SPACE = ("os.mkdir", "os.rename")
DIED, DONE = "died", "done"


def run_and_kill(work: Callable[[], None], step: int) -> str:
    """`kill -9` the child right before the `step`-th time that it alters the disk."""

    def act(event: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    return _in_child(work, step, act, _ALTERING)


def run_with_full_disk(work: Callable[[], None], step: int) -> str:
    """Let the `step`-th thing that needs room fail in the child for want of it.

    The work is to handle that; an exception that it lets out fails the test.
    """

    def act(event: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return _in_child(work, step, act, _NEEDING_SPACE)


def _in_child(
    work: Callable[[], None], step: int, act: Callable[[str], None], events: tuple[str, ...]
) -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            reached = _install(step, act, events)
            work()
            code = 0
            os.write(write, b"reached" if reached() else b"done")
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    said = os.read(read, 100).decode()
    os.close(read)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return DIED
    assert os.WEXITSTATUS(status) == 0, "the child let an exception out; see its traceback"
    return DIED if said == "reached" else DONE


def _install(step: int, act: Callable[[str], None], events: tuple[str, ...]) -> Callable[[], bool]:
    count = 0

    def note(event: str) -> None:
        nonlocal count
        count += 1
        if count == step:
            act(event)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & _WRITING
        if event in events or (writes and args[0] not in (os.devnull,)):
            note(event)

    plain = os.fsync

    def fsync(handle: int) -> None:
        note("os.fsync")
        plain(handle)

    os.fsync = fsync  # type: ignore[assignment]  # raises no audit event of its own
    sys.addaudithook(hook)
    return lambda: count >= step
