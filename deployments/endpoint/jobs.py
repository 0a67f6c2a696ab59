"""Jobs in SQLite: what was asked for, how far it is, and what came of it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ConfigDict, Field

from tasks.contracts import BitDepth, StemFormat, Value
from tasks.errors import StorageError

T = TypeVar("T")

Status = Literal["queued", "processing", "complete", "failed"]
STATUSES: tuple[Status, ...] = ("queued", "processing", "complete", "failed")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    idempotency_key TEXT,
    status TEXT NOT NULL,
    expires_at REAL,
    document TEXT NOT NULL,
    UNIQUE (owner, idempotency_key)
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, seq);
CREATE INDEX IF NOT EXISTS jobs_by_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;
"""


class Job(Value):
    """One submit. Times are seconds since the epoch; `files` maps stems to names in its folder.

    `fingerprint` is of the audio and the fields, so that a key used for something else is told
    from a repeat. `gain` is what every stem is multiplied by. `attempts` counts the times that it
    was begun, `separation_s` what the last one took. Fields of another version are passed over.
    """

    model_config = ConfigDict(extra="ignore")

    job_id: str
    owner: str
    idempotency_key: str | None = None
    fingerprint: str
    filename: str
    upload_bytes: int
    model: str
    stems: tuple[str, ...]
    format: StemFormat
    bit_depth: BitDepth
    status: Status = "queued"
    duration_s: float | None = None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    attempts: int = 0
    files: dict[str, str] = Field(default_factory=dict)
    gain: float = 1.0
    separation_s: float | None = None
    error_message: str | None = None

    def changed(self, **fields: object) -> Job:
        """The same job with other fields, checked."""
        return Job.model_validate(self.model_dump() | fields)


class JobStore:
    """The table of jobs. Safe to call from several threads; one process owns the file.

    Each change is on disk before the call returns, so that an accepted job outlives a power cut.

    Raises:
        StorageError: The file is damaged, or can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StorageError(
                f"the table of jobs {path} can't be used ({error}).",
                remedy="Move it away; it is made anew, and the jobs in it are forgotten.",
            ) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, job: Job) -> None:
        """Keep a new job.

        Raises:
            sqlite3.IntegrityError: Its owner has used the idempotency key before.
        """
        row = (
            job.job_id,
            job.owner,
            job.idempotency_key,
            job.status,
            job.expires_at,
            job.model_dump_json(),
        )
        self._change(
            "INSERT INTO jobs (job_id, owner, idempotency_key, status, expires_at, document) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            *row,
        )

    def save(self, job: Job) -> bool:
        """Keep what became of a job; False if it was forgotten meanwhile."""
        return self._change(
            "UPDATE jobs SET status = ?, expires_at = ?, document = ? WHERE job_id = ?",
            job.status,
            job.expires_at,
            job.model_dump_json(),
            job.job_id,
        )

    def remove(self, job_id: str) -> bool:
        return self._change("DELETE FROM jobs WHERE job_id = ?", job_id)

    def get(self, job_id: str) -> Job | None:
        return _first(self._jobs("WHERE job_id = ?", job_id))

    def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The job that this owner made with this key."""
        where = "WHERE owner = ? AND idempotency_key = ?"
        return _first(self._jobs(where, owner, idempotency_key))

    def claim(self) -> Job | None:
        """The oldest queued job, now processing; None when none waits."""
        waiting = _first(self._jobs("WHERE status = 'queued' ORDER BY seq LIMIT 1"))
        if waiting is None:
            return None
        claimed = waiting.changed(
            status="processing", started_at=time.time(), attempts=waiting.attempts + 1
        )
        return claimed if self.save(claimed) else self.claim()

    def interrupted(self) -> list[Job]:
        """Jobs that were being processed when the process that did so ended."""
        return self._jobs("WHERE status = 'processing' ORDER BY seq")

    def expired(self, now: float) -> list[Job]:
        return self._jobs("WHERE expires_at <= ?", now)

    def newest_complete(self, count: int) -> list[Job]:
        return self._jobs("WHERE status = 'complete' ORDER BY seq DESC LIMIT ?", count)

    def waiting_before(self, job_id: str) -> int:
        """How many queued jobs are older than this one."""
        return self._number(
            "SELECT COUNT(*) FROM jobs WHERE status = 'queued' "
            "AND seq < (SELECT seq FROM jobs WHERE job_id = ?)",
            job_id,
        )

    def waiting(self) -> int:
        return self._number("SELECT COUNT(*) FROM jobs WHERE status = 'queued'")

    def counts(self) -> dict[Status, int]:
        """How many jobs there are in each status."""
        rows = self._run(
            lambda db: db.execute("SELECT status, COUNT(*) FROM jobs GROUP BY status").fetchall()
        )
        found = dict(rows)
        return {status: int(found.get(status, 0)) for status in STATUSES}

    def ids(self) -> set[str]:
        return {
            row[0] for row in self._run(lambda db: db.execute("SELECT job_id FROM jobs").fetchall())
        }

    def _jobs(self, where: str, *values: object) -> list[Job]:
        rows = self._run(
            lambda db: db.execute(f"SELECT document FROM jobs {where}", values).fetchall()
        )
        return [Job.model_validate_json(row[0]) for row in rows]

    def _number(self, query: str, *values: object) -> int:
        return int(self._run(lambda db: db.execute(query, values).fetchone())[0])

    def _change(self, statement: str, *values: object) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            with db:
                return db.execute(statement, values).rowcount > 0

        return self._run(change)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            return work(self._db)


def _first(jobs: list[Job]) -> Job | None:
    return jobs[0] if jobs else None
