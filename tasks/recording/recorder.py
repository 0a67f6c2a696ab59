"""Writes table rows so that each separation has exactly one, whoever writes and however often."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tasks.contracts import TrackReport
from tasks.errors import StemwrightError
from tasks.recording import sidecar, tables
from tasks.recording.keys import KnownAliases, RowKeys
from tasks.recording.layout import REPORT, Key, key_of, place_of
from tasks.recording.rows import Alias, Row, StemRow, TrackRow
from tasks.recording.storage import Storage
from tasks.recording.storage_errors import incomplete, storage_error
from tasks.recording.tables import Table

log = logging.getLogger(__name__)

ROWS_PER_FILE = 5_000
Unreadable = Callable[[str, StemwrightError], None]
"""Told of a separation's folder and why its report.json can't be read."""


class Recorder:
    """The tables of one store. Every method expects the store's lock to be held."""

    def __init__(self, store: Storage) -> None:
        self._store = store
        self._keys = RowKeys()
        self._aliases = KnownAliases()

    def record(self, reports: Iterable[TrackReport], run_id: str = "") -> None:
        """Write the rows of `reports`; a separation with a row keeps one, brought up to date."""
        by_key = {(report.track_id, report.separation_id): report for report in reports}
        self._keys.refresh(self._store)
        fresh: dict[Key, TrackReport] = {}
        again: dict[str, dict[Key, TrackReport]] = {}
        for key, report in by_key.items():
            file = self._keys.file_of(key)
            (fresh if file is None else again.setdefault(file, {}))[key] = report
        with self._store.staging() as staged:
            name = tables.new_name(run_id)
            if fresh:
                _stage_reports(staged, name, fresh.values())
            for file, changed in again.items():
                self._stage_rewritten(staged, file, changed)
            if any(staged.iterdir()):
                self._store.publish(staged, remove=[])
        if fresh:
            self._keys.add(f"reports/tracks/{name}", fresh)

    def _stage_rewritten(self, staged: Path, file: str, changed: dict[Key, TrackReport]) -> None:
        """Stage `file`, and its twin of stems, with the rows of some separations replaced."""
        old = tables.read(self._store, "tracks", files=[file])
        # The folder knows which of two writers won its place; their clocks don't.
        truth = {key: self.sidecar(key) or report for key, report in changed.items()}
        rows = [TrackRow.of(report) for report in truth.values()]
        if _holds(old, rows):
            return
        twin = file.replace("reports/tracks/", "reports/stems/")
        stems = [row for report in truth.values() for row in StemRow.all_of(report)]
        files = [twin] if self._store.exists(twin) else []
        old_stems = tables.read(self._store, "stems", files=files)
        name = file.rsplit("/", 1)[-1]
        tables.stage(staged, "tracks", name, _replaced("tracks", old, rows))
        tables.stage(staged, "stems", name, _replaced("stems", old_stems, stems))

    def ensure(self, keys: Iterable[Key]) -> int:
        """Write, from the sidecars, the rows that finished separations of `keys` lack."""
        self._keys.refresh(self._store)
        missing = (self.sidecar(key) for key in keys if self._keys.file_of(key) is None)
        found = [report for report in missing if report is not None]
        if found:
            self.record(found, "ensured")
        return len(found)

    def refresh(self, places: Iterable[str]) -> None:
        """Bring the rows that there are for `places` up to date with their sidecars."""
        self._keys.refresh(self._store)
        keys = [key for key in map(key_of, places) if self._keys.file_of(key) is not None]
        self.record(report for key in keys if (report := self.sidecar(key)) is not None)

    def sidecar(self, key: Key) -> TrackReport | None:
        place = f"{place_of(*key)}/{REPORT}"
        if not self._store.exists(place):
            return None
        try:
            return sidecar.parse(self._store.read(place), key)
        except StemwrightError as error:
            log.warning("%s", error)
            return None

    def rebuild(self, on_unreadable: Unreadable) -> int:
        """Make both tables anew from every sidecar, in one step for who reads them."""
        old = [*tables.files_of(self._store, "tracks"), *tables.files_of(self._store, "stems")]
        count = 0
        with self._store.staging() as staged:
            chunk: list[TrackReport] = []
            for report in self._all_sidecars(on_unreadable):
                chunk.append(report)
                count += 1
                if len(chunk) == ROWS_PER_FILE:
                    _stage_reports(staged, tables.new_name("rebuilt"), chunk)
                    chunk.clear()
            if chunk:
                _stage_reports(staged, tables.new_name("rebuilt"), chunk)
            self._store.publish(staged, remove=old)
        return count

    def _all_sidecars(self, on_unreadable: Unreadable) -> Iterable[TrackReport]:
        for place, data in self._store.sidecars():
            try:
                if isinstance(data, OSError):
                    raise storage_error(data)
                if missing := sidecar.lost(data, self._store.sizes(place)):
                    raise incomplete(place, missing)
                yield sidecar.parse(data, key_of(place))
            except StemwrightError as error:
                on_unreadable(place, error)

    def add_aliases(self, aliases: Iterable[Alias]) -> None:
        """Add those aliases that the table doesn't have."""
        if fresh := self.unknown_aliases(aliases):
            self.append("aliases", fresh, fresh[0].run_id)

    def unknown_aliases(self, aliases: Iterable[Alias]) -> list[Alias]:
        """Return those aliases that the table doesn't have, each once."""
        self._aliases.refresh(self._store)
        return self._aliases.fresh(aliases)

    def append(self, table: Table, rows: Sequence[BaseModel], run_id: str) -> None:
        """Add one file of rows to a table that keeps all of its history."""
        with self._store.staging() as staged:
            tables.stage(staged, table, tables.new_name(run_id), tables.of_rows(table, rows))
            self._store.publish(staged, remove=[])


def _stage_reports(staged: Path, name: str, reports: Iterable[TrackReport]) -> None:
    some = list(reports)
    tables.stage(staged, "tracks", name, tables.of_rows("tracks", map(TrackRow.of, some)))
    stems = [row for report in some for row in StemRow.all_of(report)]
    tables.stage(staged, "stems", name, tables.of_rows("stems", stems))


def _holds(table: Any, rows: Sequence[TrackRow]) -> bool:
    """Return whether a table has these very rows, as far as this process knows their columns."""
    wanted = tables.of_rows("tracks", rows)
    if not set(wanted.column_names) <= set(table.column_names):
        return False
    found = {_key(row): row for row in table.select(wanted.column_names).to_pylist()}
    return bool(
        wanted.to_pylist() == [found.get((row.track_id, row.separation_id)) for row in rows]
    )


def _replaced(table: Table, old: Any, rows: Sequence[Row]) -> Any:
    import pyarrow as pa

    gone = {(row.track_id, row.separation_id) for row in rows}
    columns = (old.column(name).to_pylist() for name in ("track_id", "separation_id"))
    kept = old.filter(pa.array([key not in gone for key in zip(*columns, strict=True)], pa.bool_()))
    return pa.concat_tables([kept, tables.of_rows(table, rows)], promote_options="default")


def _key(row: dict[str, Any]) -> Key:
    return row["track_id"], row["separation_id"]
