"""One track at a time on a device, whoever on this host wants it."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import Interrupted

log = logging.getLogger("stemwright")

_ASK_AGAIN_S = 0.2


class DeviceLock:
    """Holds a device alone: among this object's threads, and among processes on this host.

    A file lock, because the kernel drops it when its holder dies, however it dies.

    Args:
        device: Torch's name of it; "" stands for a cloud, which nobody holds.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._threads = threading.Lock()
        name = f"stemwright-{os.getuid()}-{device.replace(':', '-')}.lock"
        self._path = Path(tempfile.gettempdir()) / name

    @contextmanager
    def held(self, stopping: Callable[[], bool]) -> Iterator[None]:
        """Wait for the device, and hold it.

        Raises:
            Interrupted: `stopping` turned true while another process held it.
        """
        if not self._device:
            yield
            return
        with self._threads, self._path.open("w") as handle:
            if not _try_lock(handle.fileno()):
                log.info("waiting for %s: another run on this host holds it", self._device)
                while not _try_lock(handle.fileno()):
                    if stopping():
                        raise Interrupted("the run was asked to stop.")
                    time.sleep(_ASK_AGAIN_S)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
