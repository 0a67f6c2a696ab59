"""A library in a folder of a local (or mounted) file system.

Separations commit by one `rename` and need no lock. What takes more than one step is done under
the library's lock, and leaves in `.scratch/_library` what the next holder of the lock needs to
finish it, or undo it, if its process dies half-way:

- `ready/`: table files that are about to move into `reports/`, and in `remove.json` the files
  that they replace. The next holder moves and removes the rest.
- `change.json`: what is about to be done in several steps. The next holder does it.
- `removed/`: a separation that was taken away.
- `replaced/TRACK_ID/SEPARATION_ID/`: a finished separation that is making room for a new one. If
  its place is empty it goes back; if the new one is there the table rows are brought up to date
  and the old one goes.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.recording import disk
from tasks.recording.layout import REPORT, REPORTS, TRACKS, key_of
from tasks.recording.scratch import locked
from tasks.recording.storage import BLOCK_BYTES, Storage

LOCK_TIMEOUT_S = 900.0  # a rebuild of a large library holds the lock for minutes
OWN = "_library"
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


class LocalStore(Storage):
    """See `Storage`."""

    remote = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self._own = self.scratch / OWN
        self._ready = self._own / "ready"
        self._staging = self._own / "staging"
        self._change = self._own / "change.json"
        self._trash = self._own / "removed"

    @property
    def scratch(self) -> Path:
        return self.root / ".scratch"

    def address(self, place: str) -> str:
        return str(self.root / place)

    def exists(self, place: str) -> bool:
        return (self.root / place).exists()

    def read(self, place: str) -> bytes:
        return (self.root / place).read_bytes()

    def blocks(self, place: str) -> Iterator[bytes]:
        with (self.root / place).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def discard(self, place: str) -> None:
        (self.root / place).unlink(missing_ok=True)

    def write(self, place: str, data: bytes) -> None:
        target = self.root / place
        disk.make_folder(target.parent)
        disk.write_synced(target, data)

    def names(self, place: str) -> list[str]:
        try:
            return sorted(entry.name for entry in (self.root / place).iterdir())
        except FileNotFoundError:
            return []

    def sizes(self, place: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with suppress(FileNotFoundError), os.scandir(self.root / place) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # a link to nowhere, or gone just now
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_size
        return found

    def parquet(self, places: Sequence[str]) -> tuple[list[str], Any]:
        return [str(self.root / place) for place in places], None

    def sidecars(self) -> Iterator[tuple[str, bytes | OSError]]:
        for track in self.names(TRACKS):
            if not (self.root / TRACKS / track).is_dir():
                continue
            for separation in self.names(f"{TRACKS}/{track}"):
                place = f"{TRACKS}/{track}/{separation}"
                try:
                    yield place, self.read(f"{place}/{REPORT}")
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except PermissionError as error:
                    yield place, error

    def commit(self, folder: Path, place: str) -> bool:
        target = self.root / place
        disk.make_folder(target.parent)
        try:
            # POSIX: takes the place of an empty folder, and of no other.
            folder.rename(target)
        except FileNotFoundError:
            if target.parent.exists() or not folder.exists():
                raise
            return self.commit(folder, place)  # the track's last separation was removed just now
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        disk.sync(target.parent)
        return True

    def replace(self, folder: Path, place: str) -> bool:
        target, aside = self.root / place, self._aside(place)
        if (target / REPORT).exists():
            disk.make_folder(aside.parent)
            target.rename(aside)
            disk.sync(aside.parent)
        else:
            disk.clear(target)
        try:
            return self.commit(folder, place)
        except OSError:
            if aside.exists() and not (target / REPORT).exists():
                aside.rename(target)
            raise

    def remove(self, place: str) -> None:
        folder = self.root / place
        if folder.exists():
            disk.make_folder(self._own)
            folder.rename(self._trash)
            disk.sync(folder.parent)
        with suppress(OSError):  # another separation of the track is there
            folder.parent.rmdir()
        disk.clear(self._trash)

    def is_replaced(self, place: str) -> bool:
        return self._aside(place).exists()

    def _aside(self, place: str) -> Path:
        return self._own.joinpath("replaced", *key_of(place))

    @contextmanager
    def lock(self, timeout_s: float) -> Iterator[None]:
        with locked(self.scratch / f"{OWN}.lock", timeout_s):
            try:
                yield
            finally:
                self._prune()

    def _prune(self) -> None:
        for empty in [*self._own.glob("replaced/*"), self._own / "replaced", self._own]:
            with suppress(OSError):
                empty.rmdir()

    def unsettled(self) -> bool:
        return self._own.exists()

    def settle(self) -> list[str]:
        if not self._own.exists():
            return []
        disk.clear(self._staging)
        disk.partial(self._change).unlink(missing_ok=True)
        disk.clear(self._trash)
        if self._ready.exists():
            self._apply()
        return [place for place in self._asides() if not self._restored(place)]

    def note_change(self, data: bytes) -> None:
        disk.make_folder(self._own)
        disk.write_synced(self._change, data)

    def noted_change(self) -> bytes | None:
        try:
            return self._change.read_bytes()
        except FileNotFoundError:
            return None

    def forget_change(self) -> None:
        self._change.unlink()

    def _asides(self) -> list[str]:
        return [
            f"{TRACKS}/{aside.parent.name}/{aside.name}"
            for aside in sorted(self._own.glob("replaced/*/*"))
        ]

    def _restored(self, place: str) -> bool:
        target, aside = self.root / place, self._aside(place)
        if (target / REPORT).exists() or not (aside / REPORT).exists():
            return False
        disk.clear(target)
        return self.commit(aside, place)

    def forget(self, place: str) -> None:
        aside = self._aside(place)
        # Half-removed it must never pass for a finished one.
        (aside / REPORT).unlink(missing_ok=True)
        disk.clear(aside)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        self._staging.mkdir(parents=True)
        try:
            yield self._staging
        finally:
            disk.clear(self._staging)

    def publish(self, staged: Path, remove: Sequence[str]) -> None:
        for file in staged.glob("*/*.parquet"):
            disk.sync(file)
        disk.write_synced(staged / "remove.json", json.dumps(list(remove)).encode())
        staged.rename(self._ready)
        disk.sync(self._own)
        self._apply()

    def _apply(self) -> None:
        for file in sorted(self._ready.glob("*/*.parquet")):
            folder = self.root / REPORTS / file.parent.name
            disk.make_folder(folder)
            file.replace(folder / file.name)
        for place in json.loads((self._ready / "remove.json").read_bytes()):
            (self.root / place).unlink(missing_ok=True)
        for table in self.names(REPORTS):
            disk.sync(self.root / REPORTS / table)
        self._discard_ready()

    def _discard_ready(self) -> None:
        # In one step: half-removed, it would look like work still to be done.
        self._ready.rename(self._staging)
        disk.clear(self._staging)
