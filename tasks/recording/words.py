"""What the tables say of sources, looked up by source."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from tasks.contracts import TrackRef
from tasks.recording import tables
from tasks.recording.keys import digest
from tasks.recording.sidecar import plain
from tasks.recording.storage import Storage

_NAMES = ("title", "artist", "album", "genre", "isrc")


class KnownWords:
    """The titles, artists and further columns of every source. Read when first asked for.

    Rows stay in Arrow: beside them it costs 16 bytes a row.
    """

    def __init__(self, store: Storage) -> None:
        self._store = store

    def cover(self, ref: TrackRef) -> bool:
        """Tell whether some row of this source has all that a catalog's row says of it."""
        given = {name: plain(text) for name in _NAMES if (text := getattr(ref, name))}
        extra = {plain(name): plain(text) for name, text in ref.extra.items()}
        if not given and not extra:
            return True
        return any(self._has(at, given, extra) for at in self._rows_of(ref.source))

    def _has(self, at: int, given: dict[str, str], extra: dict[str, str]) -> bool:
        columns = self._table
        if any(columns[name][at].as_py() != text for name, text in given.items()):
            return False
        known: dict[str, Any] = json.loads(columns["extra"][at].as_py() or "{}") if extra else {}
        return extra.items() <= known.items()

    def _rows_of(self, source: str) -> list[int]:
        import numpy as np

        keys, order = self._sources
        wanted = np.uint64(digest(plain(source)))
        start, end = (int(np.searchsorted(keys, wanted, side)) for side in ("left", "right"))
        return [int(at) for at in order[start:end]]

    @cached_property
    def _table(self) -> Any:
        import pyarrow as pa

        names = ["source", *_NAMES, "extra"]
        both = [tables.read(self._store, table, names) for table in ("tracks", "aliases")]
        return pa.concat_tables(both).combine_chunks()

    @cached_property
    def _sources(self) -> tuple[Any, Any]:
        import numpy as np

        sources = self._table["source"].to_pylist()
        hashes = np.array([digest(source or "") for source in sources], dtype=np.uint64)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order
