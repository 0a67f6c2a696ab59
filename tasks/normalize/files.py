"""Files as FFmpeg reads and writes them: through Python, so that errors keep their errno.

Reading through Python also keeps playlists and other formats that point elsewhere from opening
anything but the file itself, and a colon in a name from being taken for a protocol.
"""

from __future__ import annotations

import errno
from pathlib import Path


class ReadFile:
    """A local file for `av.open`; remembers the error that FFmpeg would report as bad data."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.name = str(path)
        self.error: OSError | None = None

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError:
            # FFmpeg looks for trailers in files that are shorter than a trailer.
            return -errno.EINVAL

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def check(self) -> None:
        """Raise the error that a read met, if one did."""
        if self.error is not None:
            raise self.error


class WriteFile:
    """A local file for `av.open(…, "w")`; `check` raises what a write met, such as a full disk."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.name = str(path)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        if self.error is not None:
            return -errno.EIO
        try:
            # Flushes what is buffered, and so can meet a full disk.
            return self._file.seek(offset, whence)
        except OSError as error:
            self.error = error
            return -(error.errno or errno.EIO)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = self.error or error

    def check(self) -> None:
        """Raise the first error that a write met, if one did."""
        if self.error is not None:
            raise self.error
