"""What a run needs to know of a library to resume, loaded once and small."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.contracts import Failure, TrackRef
from tasks.recording import tables
from tasks.recording.keys import digest
from tasks.recording.storage import Storage
from tasks.recording.words import KnownWords

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LibraryIndex:
    """A snapshot: which sources are finished, and which failed for what they are.

    About 40 bytes a source and separation: hashes in sorted arrays.
    """

    def __init__(self, entries: _Entries, failures: _Failures, words: KnownWords) -> None:
        self._entries = entries
        self._failures = failures
        self._words = words

    @property
    def separation_ids(self) -> frozenset[str]:
        """The identities of all finished separations."""
        return self._entries.separation_ids

    def __len__(self) -> int:
        return len(self._entries.keys)

    def find(self, source: str, fingerprint: str, separation_id: str) -> str | None:
        """Return the track that `source` was when it was separated so, or None.

        A source whose fingerprint is another one now counts as another track; an unknown (empty)
        fingerprint, then or now, counts as the same.
        """
        found = self._entries.of(digest(source, separation_id))
        now = digest(fingerprint) if fingerprint else 0
        for then, track_id in found:
            if now and then == now:
                return track_id
        if found and (not now or not found[0][0]):
            return found[0][1]
        return None

    def covers(self, ref: TrackRef) -> bool:
        """Tell whether the tables have all that a catalog says of a source that was found."""
        return self._words.cover(ref)

    def failed(self, source: str, fingerprint: str) -> Failure | None:
        """Return the failure that will only repeat itself: the source's latest, about its input.

        None when a success came after it, when the source has changed since, or when the failure
        could have passed.
        """
        failure = self._failures.latest(source)
        if failure is None or not failure.input_error:
            return None
        if fingerprint and failure.fingerprint and fingerprint != failure.fingerprint:
            return None
        return failure


class _Entries:
    """(source, separation) to (fingerprint, track): sorted by key, the newest first in each."""

    def __init__(
        self, rows: Iterable[tuple[int, int, int, str]], separation_ids: Collection[str]
    ) -> None:
        import numpy as np

        self.separation_ids = frozenset(separation_ids)
        packed = list(rows)
        keys = np.array([row[0] for row in packed], dtype=np.uint64)
        times = np.array([row[1] for row in packed], dtype=np.int64)
        order = np.lexsort((-times, keys))
        self.keys = keys[order]
        self._fingerprints = np.array([row[2] for row in packed], dtype=np.uint64)[order]
        self._tracks = np.array([row[3].encode() for row in packed], dtype=np.bytes_)[order]

    def of(self, key: int) -> list[tuple[int, str]]:
        import numpy as np

        wanted = np.uint64(key)
        start, end = (int(np.searchsorted(self.keys, wanted, side)) for side in ("left", "right"))
        return [
            (int(self._fingerprints[at]), self._tracks[at].decode()) for at in range(start, end)
        ]


class _Failures:
    """The latest failure of each source that has had no success since; rows stay in Arrow."""

    def __init__(self, table: Any, successes: dict[int, int]) -> None:
        import numpy as np

        latest: dict[int, tuple[int, int]] = {}
        columns = (table.column(name).to_pylist() for name in ("source", "created_at"))
        for at, (source, created) in enumerate(zip(*columns, strict=True)):
            key, time = digest(source or ""), _us(created)
            if time >= latest.get(key, (-1, 0))[0] and time > successes.get(key, -1):
                latest[key] = (time, at)
        rows = sorted(at for _, at in latest.values())
        self._table = table.take(np.array(rows, dtype=np.int64))
        moved = {at: new for new, at in enumerate(rows)}
        self._row = {key: moved[at] for key, (_, at) in latest.items()}

    def latest(self, source: str) -> Failure | None:
        at = self._row.get(digest(source))
        if at is None:
            return None
        row = self._table.slice(at, 1).to_pylist()[0]
        needed = dict.fromkeys(("source", "stage", "error_type", "message"), "")
        return Failure(**needed | {name: value for name, value in row.items() if value is not None})


class _Loader:
    """Gathers the rows of the index while the tables stream by."""

    def __init__(self, wanted: Collection[str] | None, aliased: set[str]) -> None:
        self.rows: list[tuple[int, int, int, str]] = []
        self.successes: dict[int, int] = {}
        self._wanted = wanted
        self._aliased = aliased
        self._separations: dict[str, list[str]] = {}
        self.separation_ids: set[str] = set()

    def separation(self, row: dict[str, Any]) -> None:
        track_id, separation = row["track_id"], row["separation_id"]
        done = [separation] if self._wanted is None or separation in self._wanted else []
        self.separation_ids.update(done)
        if done and track_id in self._aliased:
            self._separations.setdefault(track_id, []).extend(done)
        self._enter(row["source"], row["fingerprint"], row, done)
        for other in json.loads(row["aliases"] or "[]"):
            self._enter(other, None, row, done)

    def alias(self, row: dict[str, Any]) -> None:
        done = self._separations.get(row["track_id"], [])
        self._enter(row["source"], row["fingerprint"], row, done)

    def _enter(
        self, source: str | None, fingerprint: str | None, row: dict[str, Any], done: list[str]
    ) -> None:
        name, time = source or "", _us(row["created_at"])
        key = digest(name)
        self.successes[key] = max(time, self.successes.get(key, -1))
        seen = digest(fingerprint) if fingerprint else 0
        for separation in done:
            self.rows.append((digest(name, separation), time, seen, row["track_id"]))


def load(store: Storage, separation_ids: Collection[str] | None) -> LibraryIndex:
    """Read the tables into an index; of finished separations only those of `separation_ids`."""
    names = ["source", "fingerprint", "track_id", "separation_id", "aliases", "created_at"]
    columns = ["source", "fingerprint", "track_id", "created_at"]
    aliases = tables.read(store, "aliases", columns).to_pylist()
    loader = _Loader(separation_ids, {alias["track_id"] for alias in aliases})
    for batch in tables.read(store, "tracks", names).to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            loader.separation(row)
    for alias in aliases:
        loader.alias(alias)
    failures = _Failures(tables.read(store, "failures"), loader.successes)
    return LibraryIndex(_Entries(loader.rows, loader.separation_ids), failures, KnownWords(store))


def _us(time: datetime | None) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1) if time else 0
