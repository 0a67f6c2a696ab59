"""Files as FFmpeg reads and writes them: through Python, so that errors keep their errno.

Reading through Python also keeps playlists and other formats that point elsewhere from opening
anything but the file itself, and a colon in a name from being taken for a protocol.
"""

from __future__ import annotations

import errno
from pathlib import Path


class ReadFile:
    """A local file, or a window of one, for `av.open`.

    Remembers the error that FFmpeg would report as bad data.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.name = str(path)
        self.error: OSError | None = None
        self._start, self._end = 0, self._file.seek(0, 2)
        self._file.seek(0)

    @property
    def size(self) -> int:
        """Bytes of the window."""
        return self._end - self._start

    def window(self, start: int, end: int) -> None:
        """Show only the bytes from `start` to `end` of the whole file, as if they were all."""
        self._start, self._end = start, end
        self._file.seek(start)

    def drop(self, size: int) -> None:
        """Leave the first bytes out of the window too."""
        self._start += size

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(max(min(size, self._end - self._file.tell()), 0))
        except OSError as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        origin = (self._start, self._file.tell(), self._end)[whence]
        # FFmpeg looks for trailers in files that are shorter than a trailer.
        if origin + offset < self._start:
            return -errno.EINVAL
        try:
            return self._file.seek(origin + offset) - self._start
        except OSError:
            # It goes wherever a damaged header sends it.
            return -errno.EINVAL

    def tell(self) -> int:
        return self._file.tell() - self._start

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
