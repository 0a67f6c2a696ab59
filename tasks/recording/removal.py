"""Takes rows out of the tables whose separations are no longer there."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ProtocolError
from tasks.recording import tables
from tasks.recording.layout import REPORT, REPORTS, Key, place_of
from tasks.recording.rows import Alias
from tasks.recording.storage import Storage
from tasks.recording.tables import Table

log = logging.getLogger(__name__)

_TWINS: tuple[Table, ...] = ("tracks", "stems")

RUN = "kept"
"""In the place of a run's id, in the names of files that lost some of their rows."""


def remove_rows(
    store: Storage, removed: Collection[Key], sources: Collection[str], aliases: Sequence[Alias]
) -> None:
    """Make the tables say nothing of separations that are gone, in one step for who reads them.

    The aliases of a track go with its last separation, and its failures with them.

    Args:
        store: Its lock is held.
        removed: Separations; those that are still there, or there again, keep their rows.
        sources: Those of which the failures go, too.
        aliases: Rows to add at the same time.
    """
    gone = {key for key in removed if not store.exists(f"{place_of(*key)}/{REPORT}")}
    with store.staging() as staged:
        removing = _Removing(store, staged, gone, frozenset(sources))
        old = [*removing.separations(), *removing.aliases(), *removing.failures()]
        if aliases:
            name = tables.new_name(RUN)
            tables.stage(staged, "aliases", name, tables.of_rows("aliases", aliases))
        if old or aliases:
            store.publish(staged, remove=old)


class _Removing:
    """One removal: stages the files that lose rows, and names those that they replace.

    A file that loses rows gets another name: other processes know its rows by its name.
    """

    def __init__(
        self, store: Storage, staged: Path, gone: set[Key], sources: frozenset[str]
    ) -> None:
        self._store = store
        self._staged = staged
        self._gone = gone
        self._sources = sources
        self._stays: dict[str, str] = {}
        """Of each track of `gone` the newest separation that stays."""

    def separations(self) -> list[str]:
        """Stage `reports/tracks` and `reports/stems`, whose files are twins by name."""
        tracks = {track_id for track_id, _ in self._gone}
        old: list[str] = []
        names = {file.rsplit("/", 1)[-1] for file in self._files(*_TWINS)}
        for name in sorted(names):
            twins = {table: self._read(table, name) for table in _TWINS}
            found = {table: _keys(data) for table, data in twins.items() if data is not None}
            self._stays |= {
                track_id: separation_id
                for track_id, separation_id in found.get("tracks", [])
                if track_id in tracks and (track_id, separation_id) not in self._gone
            }
            if any(key in self._gone for keys in found.values() for key in keys):
                new = tables.new_name(RUN)
                for table, keys in found.items():
                    kept = [key not in self._gone for key in keys]
                    old.append(self._stage(table, name, new, _where(twins[table], kept)))
        return old

    def aliases(self) -> list[str]:
        """Stage `reports/aliases`: of what stays, each names a separation that is there."""
        import pyarrow as pa

        old: list[str] = []
        for file in self._files("aliases"):
            name = file.rsplit("/", 1)[-1]
            data = self._read("aliases", name)
            keys = [] if data is None else _keys(data)
            if not any(key in self._gone for key in keys):
                continue
            stays = [key if key not in self._gone else self._moved(key) for key in keys]
            kept = _where(data, [key is not None for key in stays])
            ids = pa.array([key[1] for key in stays if key is not None], pa.string())
            at = kept.column_names.index("separation_id")
            kept = kept.set_column(at, kept.schema.field(at), ids)
            old.append(self._stage("aliases", name, tables.new_name(RUN), kept))
        return old

    def failures(self) -> list[str]:
        """Stage `reports/failures`."""
        tracks = {track_id for track_id, _ in self._gone} - self._stays.keys()
        old: list[str] = []
        for file in self._files("failures") if tracks or self._sources else ():
            name = file.rsplit("/", 1)[-1]
            data = self._read("failures", name)
            if data is None:
                continue
            columns = (data.column(column).to_pylist() for column in ("track_id", "source"))
            kept = [
                track_id not in tracks and source not in self._sources
                for track_id, source in zip(*columns, strict=True)
            ]
            if not all(kept):
                new = tables.new_name(RUN)
                old.append(self._stage("failures", name, new, _where(data, kept)))
        return old

    def _moved(self, key: Key) -> Key | None:
        stays = self._stays.get(key[0])
        return (key[0], stays) if stays else None

    def _files(self, *names: Table) -> list[str]:
        return [file for table in names for file in tables.files_of(self._store, table)]

    def _read(self, table: Table, name: str) -> Any:
        """Return a file of a table; None where there is none, or a damaged one."""
        file = f"{REPORTS}/{table}/{name}"
        if not self._store.exists(file):
            return None
        try:
            return tables.read(self._store, table, files=[file])
        except ProtocolError as error:
            log.warning("%s", error)
            return None

    def _stage(self, table: Table, name: str, new: str, data: Any) -> str:
        if data.num_rows:
            tables.stage(self._staged, table, new, data)
        return f"{REPORTS}/{table}/{name}"


def _keys(data: Any) -> list[Key]:
    columns = (data.column(name).to_pylist() for name in ("track_id", "separation_id"))
    return list(zip(*columns, strict=True))


def _where(data: Any, kept: Sequence[bool]) -> Any:
    import pyarrow as pa

    return data.filter(pa.array(kept, pa.bool_()))
