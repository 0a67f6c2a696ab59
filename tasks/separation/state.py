"""What must outlive a run and isn't the library's: small SQLite files in the state folder."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from tasks.errors import DiskFull, StemwrightError, StorageError, from_os_error

VARIABLE = "STEMWRIGHT_STATE"
_BUSY_S = 30.0
_REMEDY = f"Set {VARIABLE} to a folder that can be written to."


def state_folder() -> Path:
    """Return `$STEMWRIGHT_STATE`, else where state is kept here: `~/.local/state/stemwright`."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_state_path("stemwright")


class Database:
    """One file of tables, shared by all threads and processes of this host.

    Each use opens it anew: no connection is shared between threads, or survives a fork.

    Args:
        name: The file is `NAME.sqlite3`.
        schema: Statements that make what isn't there yet.
        folder: By default the state folder, looked up at each use.
    """

    def __init__(self, name: str, schema: str, *, folder: Path | None = None) -> None:
        self._name = name
        self._schema = schema
        self._folder = folder

    @property
    def path(self) -> Path:
        return (self._folder or state_folder()) / f"{self._name}.sqlite3"

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with.

        Raises:
            StorageError, DiskFull, SourceUnreadable: The file can't be had or isn't ours.
        """
        with self._opened() as rows:
            yield rows

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the file alone; on the disk when it ends, or not at all.

        Raises:
            As `read`.
        """
        with self._opened() as rows:
            rows.execute("BEGIN IMMEDIATE")
            try:
                yield rows
            except BaseException:
                rows.rollback()
                raise
            rows.commit()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            # Keys of jobs are nobody else's to read.
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        rows: sqlite3.Connection | None = None
        try:
            rows = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            self._prepare(rows)
            yield rows
        except sqlite3.Error as error:
            raise self._fault(error) from error
        finally:
            if rows is not None:
                rows.close()

    def _prepare(self, rows: sqlite3.Connection) -> None:
        # SQLite never waits for whoever else is setting the journal's mode: it says "locked".
        lock = FileLock(f"{self.path}.lock", mode=0o600, timeout=_BUSY_S, poll_interval=0.005)
        try:
            with lock:
                rows.execute("PRAGMA journal_mode=WAL")
                rows.execute("PRAGMA synchronous=FULL")
                rows.executescript(self._schema)
        except Timeout as error:
            raise StorageError(f"{self.path} is held by others.", remedy=_REMEDY) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StemwrightError:
        fault = from_os_error(error)
        fault.remedy = _REMEDY
        return fault

    def _fault(self, error: sqlite3.Error) -> StorageError | DiskFull:
        code = getattr(error, "sqlite_errorname", "")
        if code == "SQLITE_FULL":
            return DiskFull(f"there is no room for {self.path}.")
        if code in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            return StorageError(
                f"{self.path} is damaged ({error}).", remedy="Move it away; it is made anew."
            )
        return StorageError(f"{self.path} can't be used ({error}).", remedy=_REMEDY)
