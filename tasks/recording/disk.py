"""Writes that survive a power cut, and removals that don't stop half-way."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems can't sync a folder; they order renames themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_synced(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, atomically and durably."""
    unfinished = partial(path)
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    sync(path.parent)


def partial(path: Path) -> Path:
    """Return where `write_synced` writes before `path` is replaced."""
    return path.with_name(f".{path.name}.part")


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each durably listed in its own parent."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def bytes_in(path: Path) -> int:
    """Return the bytes of all files in a folder and its folders."""
    found = 0
    for file in path.rglob("*"):
        with suppress(OSError):
            found += 0 if file.is_symlink() or file.is_dir() else file.stat().st_size
    return found


def clear(path: Path) -> None:
    """Remove a folder as far as it goes, without complaint; needs no free space."""
    shutil.rmtree(path, ignore_errors=True)
