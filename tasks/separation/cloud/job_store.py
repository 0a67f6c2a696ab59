"""Which jobs are under way at services, so that a run that was killed pays for none twice.

An entry is made, with its idempotency key, before the submit; the job is added before it is first
asked for. It stays until the engine may release the track (its stems are in the
library, or were found to be no use), until the service no longer knows the job or says that it
failed, or for `KEPT_S`. A run that finds an entry goes on with its job.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tasks.contracts import Value
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.state import Database

KEPT_S = 14 * 24 * 3600.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    service TEXT NOT NULL,
    track_id TEXT NOT NULL,
    separation_id TEXT NOT NULL,
    stems TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    made_at REAL NOT NULL,
    wanted TEXT,
    job TEXT,
    PRIMARY KEY (service, track_id, separation_id, stems)
);
"""
_IS = "service = ? AND track_id = ? AND separation_id = ? AND stems = ?"


class JobKey(Value):
    """What a job is about: `service` is its origin."""

    service: str
    track_id: str
    separation_id: str
    stems: tuple[str, ...]

    @property
    def row(self) -> tuple[str, str, str, str]:
        return self.service, self.track_id, self.separation_id, json.dumps(sorted(self.stems))


class Entry(Value):
    """A job under way, or one that is about to be submitted under this key."""

    key: JobKey
    idempotency_key: str
    request: ProviderRequest | None = None
    job: ProviderJob | None = None


class JobStore:
    """The jobs of all processes of this host. Safe to call from several threads.

    Args:
        folder: Where the file is; the state folder by default.
        clock: Seconds since the epoch.
    """

    def __init__(
        self, folder: Path | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._database = Database("jobs", _SCHEMA, folder=folder)

    def open(self, key: JobKey) -> Entry:
        """The entry of a key, made where there is none.

        Raises:
            StorageError, DiskFull: The state folder can't be used; nothing may be submitted then.
        """
        now = self._clock()
        with self._database.write() as rows:
            rows.execute("DELETE FROM jobs WHERE made_at < ?", (now - KEPT_S,))
            rows.execute(
                "INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
                (*key.row, str(uuid.uuid4()), now),
            )
            idempotency_key, wanted, job = rows.execute(
                f"SELECT idempotency_key, wanted, job FROM jobs WHERE {_IS}", key.row
            ).fetchone()
        return Entry(
            key=key,
            idempotency_key=idempotency_key,
            request=wanted and ProviderRequest.model_validate_json(wanted),
            job=job and ProviderJob.model_validate_json(job),
        )

    def submitted(self, entry: Entry, request: ProviderRequest, job: ProviderJob) -> Entry:
        """Keep an entry's job, before it is asked for."""
        with self._database.write() as rows:
            rows.execute(
                f"UPDATE jobs SET wanted = ?, job = ? WHERE {_IS} AND idempotency_key = ?",
                (
                    request.model_dump_json(),
                    job.model_dump_json(),
                    *entry.key.row,
                    entry.idempotency_key,
                ),
            )
        return entry.model_copy(update={"request": request, "job": job})

    def drop(self, entry: Entry) -> None:
        """Forget an entry; a newer one of the same key is left alone."""
        with self._database.write() as rows:
            rows.execute(
                f"DELETE FROM jobs WHERE {_IS} AND idempotency_key = ?",
                (*entry.key.row, entry.idempotency_key),
            )

    def entries(self) -> int:
        """How many jobs are under way."""
        with self._database.read() as rows:
            return int(rows.execute("SELECT COUNT(*) FROM jobs").fetchone()[0])
