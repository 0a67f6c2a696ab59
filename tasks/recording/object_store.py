"""A library in an object store, or wherever else fsspec has a driver for.

There is no rename and no lock: a separation's `report.json` goes up last, one put is atomic, and
the tables of many writers never meet because no two files share a name. Best effort only, and
healed by a rebuild: one row a separation when two machines record the same one at the same time,
and the row of a separation made anew (`--force`) by a process that died before it wrote it. Making
one anew takes the old `report.json` away first: cut short, the separation is unfinished, never
mixed.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from tasks.errors import NetworkError, SettingsError
from tasks.net.drivers import DRIVERS
from tasks.recording.layout import REPORT, REPORTS, TRACKS
from tasks.recording.scratch import temporary_root
from tasks.recording.storage import BLOCK_BYTES, Storage
from tasks.recording.storage_errors import STAGE

_AT_ONCE = 200


def demand_driver(protocol: str) -> None:
    """Check that a library can be in a store of this kind.

    Raises:
        SettingsError: It is unknown, can only be read, or its driver isn't installed.
    """
    import fsspec

    if protocol in ("http", "https", "data", "git", "github", "zip", "tar"):
        cause = f"a library can't be at a {protocol}:// address: it can't be written there."
        raise SettingsError(cause, remedy="Set --library to a folder or an object store.")
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        package = DRIVERS.get(protocol)
        install = f"pip install {package}" if package else str(error)
        cause = f"the driver for {protocol}:// libraries isn't installed."
        raise SettingsError(cause, remedy=f"Install it: {install}") from error
    except ValueError as error:
        cause = f"{protocol}:// is no kind of library that fsspec knows."
        raise SettingsError(cause, remedy="Set --library to a folder or a known URL.") from error


class ObjectStore(Storage):
    """See `Storage`."""

    remote = True

    def __init__(self, url: str) -> None:
        self.url = url
        self._mutex = threading.RLock()

    @property
    def scratch(self) -> Path:
        return temporary_root()

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        fs, root = url_to_fs(self.url)
        return fs, root.rstrip("/")

    def _path(self, place: str) -> str:
        return f"{self._opened[1]}/{place}"

    @property
    def _fs(self) -> Any:
        # Other machines write here too: what a listing said a moment ago means nothing.
        fs = self._opened[0]
        fs.invalidate_cache()
        return fs

    def address(self, place: str) -> str:
        return f"{self.url}/{place}"

    def exists(self, place: str) -> bool:
        return bool(self._fs.exists(self._path(place)))

    def read(self, place: str) -> bytes:
        return bytes(self._fs.cat_file(self._path(place)))

    def blocks(self, place: str) -> Iterator[bytes]:
        with self._fs.open(self._path(place), "rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def discard(self, place: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(place))

    def write(self, place: str, data: bytes) -> None:
        path = self._path(place)
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._fs.pipe_file(path, data)

    def names(self, place: str) -> list[str]:
        try:
            found = self._fs.ls(self._path(place), detail=False)
        except FileNotFoundError:
            return []
        return sorted({path.rstrip("/").rsplit("/", 1)[-1] for path in found})

    def sizes(self, place: str) -> dict[str, int]:
        try:
            found = self._fs.ls(self._path(place), detail=True)
        except FileNotFoundError:
            return {}
        files = (entry for entry in found if entry["type"] == "file")
        return {entry["name"].rsplit("/", 1)[-1]: int(entry["size"] or 0) for entry in files}

    def parquet(self, places: Sequence[str]) -> tuple[list[str], Any]:
        return [self._path(place) for place in places], self._fs

    def sidecars(self) -> Iterator[tuple[str, bytes | OSError]]:
        paths = sorted(self._fs.glob(self._path(f"{TRACKS}/*/*/{REPORT}")))
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            for path, data in self._fs.cat(some, on_error="return").items():
                if isinstance(data, FileNotFoundError):
                    continue
                if isinstance(data, Exception) and not isinstance(data, PermissionError):
                    raise data
                yield "/".join(path.rsplit("/", 4)[1:4]), data

    def commit(self, folder: Path, place: str) -> bool:
        if self.exists(f"{place}/{REPORT}"):
            return False
        return self._upload(folder, place)

    def replace(self, folder: Path, place: str) -> bool:
        if self.exists(f"{place}/{REPORT}"):
            self._fs.rm_file(self._path(f"{place}/{REPORT}"))
        return self._upload(folder, place)

    def _upload(self, folder: Path, place: str) -> bool:
        files = sorted(folder.iterdir(), key=lambda file: (file.name == REPORT, file.name))
        # Only strangers go: another worker may be uploading the same files just now.
        for name in set(self.names(place)) - {file.name for file in files}:
            self._fs.rm_file(self._path(f"{place}/{name}"))
        self._fs.makedirs(self._path(place), exist_ok=True)
        for file in files:
            if file.name == REPORT and self.exists(f"{place}/{REPORT}"):
                return False
            self._put(file, f"{place}/{file.name}")
        return True

    def _put(self, file: Path, place: str) -> None:
        path = self._path(place)
        self._fs.put_file(str(file), path)
        sent, arrived = file.stat().st_size, self._fs.info(path)["size"]
        if sent != arrived:
            cause = f"{place} has {arrived} bytes in the object store; {sent} were sent."
            raise NetworkError(cause, stage=STAGE)

    def remove(self, place: str) -> None:
        for name in sorted(self.names(place), key=lambda name: (name != REPORT, name)):
            self._fs.rm_file(self._path(f"{place}/{name}"))

    @contextmanager
    def lock(self, timeout_s: float) -> Iterator[None]:
        with self._mutex:  # this process's threads, at least
            yield

    @contextmanager
    def staging(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="stemwright-tables-") as folder:
            yield Path(folder)

    def publish(self, staged: Path, remove: Sequence[str]) -> None:
        for file in sorted(staged.glob("*/*.parquet")):
            self._fs.makedirs(self._path(f"{REPORTS}/{file.parent.name}"), exist_ok=True)
            self._put(file, f"{REPORTS}/{file.parent.name}/{file.name}")
        for place in remove:
            self._fs.rm_file(self._path(place))
