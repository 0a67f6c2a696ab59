"""A device for one run at a time on this host, and in it for as many tracks as it takes."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import Interrupted

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 0.2


class DeviceLock:
    """Holds devices alone among processes on this host; shares them among this object's threads.

    File locks, because the kernel drops them when their holder dies, however it dies. Who waits for
    a device holds a second file meanwhile, at which its holder sees that it is another one's turn:
    then no further track of its own joins in.

    Args:
        device: Torch's name of it, several joined by commas; "" stands for a cloud, which nobody
            holds.
        slots: Threads that may hold it at once.
    """

    def __init__(self, device: str, slots: int = 1) -> None:
        self._names = sorted(filter(None, device.split(",")))
        self._slots = max(1, slots)
        self._holders = 0
        self._free = threading.Condition()
        self._files = ExitStack()

    @contextmanager
    def held(self, stopping: Callable[[], bool]) -> Iterator[None]:
        """Wait for the devices, and hold them.

        Raises:
            Interrupted: `stopping` turned true while another process held one.
        """
        if not self._names:
            yield
            return
        self._enter(stopping)
        try:
            yield
        finally:
            with self._free:
                self._holders -= 1
                if not self._holders:
                    self._files.close()
                self._free.notify_all()

    def _enter(self, stopping: Callable[[], bool]) -> None:
        with self._free:
            while self._holders and (self._holders >= self._slots or self._is_wanted()):
                self._free.wait(_ASK_AGAIN_S)
            if not self._holders:
                with ExitStack() as files:
                    for name in self._names:
                        self._take(name, files, stopping)
                    self._files = files.pop_all()
            self._holders += 1

    def _take(self, name: str, files: ExitStack, stopping: Callable[[], bool]) -> None:
        with _acquired(f"{name}.next", stopping):
            files.enter_context(_acquired(name, stopping))

    def _is_wanted(self) -> bool:
        """Whether another process waits for one of the devices."""
        for name in self._names:
            waiting = _lock_file(f"{name}.next")
            if not _is_acquired(waiting):
                return True
            waiting.release()
        return False


def _lock_file(name: str) -> FileLock:
    file = f"stemwright-{os.getuid()}-{name.replace(':', '-')}.lock"
    # Whichever thread is the last to hold the devices lets go of them.
    return FileLock(Path(tempfile.gettempdir()) / file, thread_local=False)


def _is_acquired(lock: FileLock, timeout_s: float = 0.0) -> bool:
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        return False
    return True


@contextmanager
def _acquired(name: str, stopping: Callable[[], bool]) -> Iterator[None]:
    lock = _lock_file(name)
    if not _is_acquired(lock):
        if not name.endswith(".next"):
            log.info("waiting for %s: another run on this host holds it", name)
        while not _is_acquired(lock, _ASK_AGAIN_S):
            if stopping():
                raise Interrupted("the run was asked to stop.")
    try:
        yield
    finally:
        lock.release()
