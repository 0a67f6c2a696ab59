"""State that outlives a run: one folder, shared by processes, and never half written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.errors import SourceUnreadable, StorageError
from tasks.separation.state import Database, state_folder

_SCHEMA = "CREATE TABLE IF NOT EXISTS ticks (number INTEGER);"


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEMWRIGHT_STATE", str(tmp_path / "own"))
    assert state_folder() == tmp_path / "own"
    monkeypatch.delenv("STEMWRIGHT_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "stemwright"
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local" / "state" / "stemwright"


def test_a_write_that_fails_leaves_nothing() -> None:
    database = Database("ticks", _SCHEMA)
    with pytest.raises(StorageError), database.write() as rows:
        rows.executemany("INSERT INTO ticks VALUES (?)", [(1,), (2, 3)])
    with database.read() as rows:
        assert rows.execute("SELECT COUNT(*) FROM ticks").fetchone() == (0,)


def test_processes_that_start_at_once_share_it() -> None:
    script = (
        "from tasks.separation.state import Database\n"
        f"database = Database('ticks', {_SCHEMA!r})\n"
        "for number in range(10):\n"
        "    with database.write() as rows:\n"
        "        rows.execute('INSERT INTO ticks VALUES (?)', (number,))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait() for process in running] == [0] * 3
    with Database("ticks", _SCHEMA).read() as rows:
        assert rows.execute("SELECT COUNT(*) FROM ticks").fetchone() == (30,)


def test_threads_that_open_it_at_once_all_get_it(tmp_path: Path) -> None:
    def use(folder: Path) -> None:
        together.wait()
        with Database("ticks", _SCHEMA, folder=folder).write() as rows:
            rows.execute("INSERT INTO ticks VALUES (1)")

    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as threads:
        for number in range(40):
            folder = tmp_path / str(number)
            list(threads.map(use, [folder] * 8))
            with Database("ticks", _SCHEMA, folder=folder).read() as rows:
                assert rows.execute("SELECT COUNT(*) FROM ticks").fetchone() == (8,)


def test_a_file_that_is_no_database_is_named() -> None:
    database = Database("ticks", _SCHEMA)
    database.path.write_text("a shopping list, and certainly no database at all" * 99)
    with pytest.raises(StorageError, match=r"ticks\.sqlite3 is damaged") as caught, database.read():
        pass
    assert "Move it away" in caught.value.remedy


def test_a_folder_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if os.geteuid() == 0:
        # Root may write anywhere, but not below a file.
        (tmp_path / "file").write_text("")
        kinds: tuple[type[Exception], ...] = (StorageError,)
    else:
        (tmp_path / "file").mkdir(mode=0o500)
        kinds = (SourceUnreadable,)
    monkeypatch.setenv("STEMWRIGHT_STATE", str(tmp_path / "file" / "state"))
    with pytest.raises(kinds) as caught, Database("ticks", _SCHEMA).read():
        pass
    assert "STEMWRIGHT_STATE" in str(caught.value)


def test_only_its_owner_may_look(tmp_path: Path) -> None:
    database = Database("ticks", _SCHEMA, folder=tmp_path / "fresh")
    with database.read():
        pass
    assert (tmp_path / "fresh").stat().st_mode & 0o077 == 0
    assert sqlite3.connect(database.path).execute("PRAGMA journal_mode").fetchone() == ("wal",)
