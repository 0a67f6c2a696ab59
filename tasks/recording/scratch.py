"""Scratch folders that die with their owner, whatever kills it.

A scratch folder `NAME` is held through a lock on `NAME.lock` beside it (`flock`, which the kernel
lets go when the process ends). Whoever gets the lock of somebody else's folder knows that its
owner is dead and may clear it away. (On NFS this needs locks that reach other machines, which is
the default since version 4.)
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.errors import TransientError
from tasks.recording import disk
from tasks.recording.faults import STAGE

_PAUSE_S = 0.005


class Lock:
    """An exclusive lock that leaves no file behind. Threads exclude each other too."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    @classmethod
    def attempt(cls, path: Path) -> Lock | None:
        """The lock, or None while somebody else holds it."""
        handle = _open(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have unlinked the very file that we opened.
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return cls(path, handle)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        return None

    @classmethod
    def wait(cls, path: Path, timeout_s: float) -> Lock:
        """The lock, as soon as it is free.

        Raises:
            TransientError: It was held for `timeout_s` seconds.
        """
        until = time.monotonic() + timeout_s
        while (lock := cls.attempt(path)) is None:
            if time.monotonic() > until:
                cause = f"another process has held {path} for {timeout_s:.0f} s."
                raise TransientError(cause, stage=STAGE, remedy="Wait for it, or end it.")
            time.sleep(_PAUSE_S)
        return lock

    def release(self) -> None:
        """Let go; the scratch root goes too once nothing is in it."""
        with suppress(OSError):
            self.path.unlink()
        os.close(self._handle)
        with suppress(OSError):
            self.path.parent.rmdir()


def _open(path: Path) -> int:
    while True:
        disk.make_folder(path.parent)
        # Another run that ends may take the empty root away in between.
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


@contextmanager
def held(root: Path, name: str) -> Iterator[Path]:
    """A new folder `root/name`, gone at the end whatever happened in it."""
    lock = Lock.wait(root / f"{name}.lock", timeout_s=30.0)
    folder = root / name
    try:
        folder.mkdir()
        yield folder
    finally:
        disk.clear(folder)
        lock.release()


def sweep(root: Path, keep: str = "") -> None:
    """Clear away what dead runs left under `root`; of `keep`, which is no run's, only the lock."""
    with suppress(FileNotFoundError):
        for name in sorted({entry.name.removesuffix(".lock") for entry in root.iterdir()}):
            lock = Lock.attempt(root / f"{name}.lock")
            if lock is not None:
                if name != keep:
                    disk.clear(root / name)
                lock.release()


def temporary_root() -> Path:
    """Scratch on this machine for libraries that are elsewhere, nobody's but this user's."""
    root = Path(tempfile.gettempdir()) / f"stemwright-{os.getuid()}"
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    found = root.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
        return root / "scratch"
    return Path(tempfile.mkdtemp(prefix="stemwright-")) / "scratch"
