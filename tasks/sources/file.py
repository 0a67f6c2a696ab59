"""Files of this disk, used where they are."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from tasks.contracts import IngestPolicy
from tasks.errors import EmptyAudio, SourceMissing, SourceRefused
from tasks.paths import path_of
from tasks.sources.kinds import Fetched, Source
from tasks.sources.limits import check_size

_IMPOSSIBLE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)


class File(Source):
    """A path; whatever no other kind is for."""

    name = "file"
    is_local = True

    def matches(self, source: str) -> bool:
        return True

    def needs_network(self, source: str) -> bool:
        return False

    def is_cheap_to_count(self, source: str) -> bool:
        return True

    def fetch(self, source: str, scratch: Path, policy: IngestPolicy) -> Fetched:
        """Return the file itself, once it is seen to be readable, regular, not empty, allowed."""
        path = _path(source)
        status = _status(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
            raise SourceRefused(f"it is {kind}, not a file.", remedy="Name a regular file.")
        check_size(status.st_size, policy)
        with path.open("rb") as file:
            if not file.read(1):
                raise EmptyAudio("the file is empty (0 bytes).", remedy="Export it again.")
        return Fetched(path, self.fingerprint(source))

    def fingerprint(self, source: str) -> str:
        """Return `SIZE-MTIME_NS`, or "" if the file can't be looked at."""
        try:
            status = Path(path_of(source)).stat()
        except (OSError, ValueError):
            return ""
        return f"{status.st_size}-{status.st_mtime_ns}"


def _path(source: str) -> Path:
    try:
        return Path(path_of(source))
    except ValueError as error:
        raise SourceMissing("no file can have this name.") from error


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except ValueError as error:
        raise SourceMissing(f"no file can have this path: {error}.") from error
    except OSError as error:
        if error.errno in _IMPOSSIBLE:
            raise SourceMissing(f"no file can have this path: {error.strerror}.") from error
        raise
