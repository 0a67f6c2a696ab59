"""A device for one run at a time on this host, and in it for as many tracks as it takes."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

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
        with _lock_file(f"{name}.next") as waiting:
            _wait_for(waiting, stopping, "")
            device = files.enter_context(_lock_file(name))
            _wait_for(device, stopping, name)

    def _is_wanted(self) -> bool:
        """Whether another process waits for one of the devices."""
        for name in self._names:
            with _lock_file(f"{name}.next") as waiting:
                if not _try_lock(waiting):
                    return True
        return False


def _lock_file(name: str) -> IO[str]:
    file = f"stemwright-{os.getuid()}-{name.replace(':', '-')}.lock"
    return (Path(tempfile.gettempdir()) / file).open("w")


def _wait_for(file: IO[str], stopping: Callable[[], bool], name: str) -> None:
    if _try_lock(file):
        return
    if name:
        log.info("waiting for %s: another run on this host holds it", name)
    while not _try_lock(file):
        if stopping():
            raise Interrupted("the run was asked to stop.")
        time.sleep(_ASK_AGAIN_S)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
