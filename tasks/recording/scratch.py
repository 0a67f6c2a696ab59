"""Scratch folders that die with their owner, whatever kills it.

A scratch folder `NAME` is held through a lock on `NAME.lock` beside it (`flock`, which the kernel
lets go when the process ends). Whoever gets the lock of somebody else's folder knows that its
owner is dead and may clear it away. (On NFS this needs locks that reach other machines, which is
the default since version 4.)
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import TransientError
from tasks.recording import disk
from tasks.recording.storage_errors import STAGE

_PAUSE_S = 0.005


@contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold an exclusive lock that leaves no file behind. Threads exclude each other too.

    Raises:
        TransientError: Somebody else held it for `timeout_s` seconds.
    """
    # A stand-in without `flock` would outlive its holder.
    lock = FileLock(path, timeout_s, thread_local=False, fallback_to_soft=False)
    while not lock.is_locked:
        disk.make_folder(path.parent)
        try:
            # Another run that ends may take the empty root away in between.
            with suppress(FileNotFoundError):
                lock.acquire(poll_interval=_PAUSE_S)
        except Timeout as error:
            cause = f"another process has held {path} for {timeout_s:.0f} s."
            remedy = "Wait for it, or end it."
            raise TransientError(cause, stage=STAGE, remedy=remedy) from error
    try:
        yield
    finally:
        # While it is held: who waits for this very file sees that it has gone, and takes a new one.
        with suppress(OSError):
            path.unlink()
        lock.release()
        # The scratch root goes too once nothing is in it.
        with suppress(OSError):
            path.parent.rmdir()


@contextmanager
def held(root: Path, name: str) -> Iterator[Path]:
    """Make a folder `root/name` that is gone at the end whatever happened in it."""
    folder = root / name
    with locked(root / f"{name}.lock", timeout_s=30.0):
        try:
            folder.mkdir()
            yield folder
        finally:
            disk.clear(folder)


def sweep(root: Path, keep: str = "") -> None:
    """Clear away what dead runs left under `root`; of `keep`, which is no run's, only the lock."""
    with suppress(FileNotFoundError):
        for name in sorted({entry.name.removesuffix(".lock") for entry in root.iterdir()}):
            with suppress(TransientError), locked(root / f"{name}.lock", timeout_s=0.0):
                if name != keep:
                    disk.clear(root / name)


def left(root: Path, keep: str = "") -> dict[str, int]:
    """Return the folders that `sweep` would clear away, with their bytes."""
    found: dict[str, int] = {}
    with suppress(FileNotFoundError):
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            with suppress(TransientError), locked(root / f"{folder.name}.lock", timeout_s=0.0):
                if folder.name != keep:
                    found[folder.name] = disk.bytes_in(folder)
    return found


def temporary_root() -> Path:
    """Return scratch on this machine for libraries that are elsewhere, nobody's but this user's."""
    root = Path(tempfile.gettempdir()) / f"stemwright-{os.getuid()}"
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    found = root.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
        return root / "scratch"
    return Path(tempfile.mkdtemp(prefix="stemwright-")) / "scratch"
