"""Parquet files in and out of the library's table folders."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.recording.faults import REBUILD, broken
from tasks.recording.layout import REPORTS, is_table_file, slug
from tasks.recording.rows import Row
from tasks.recording.schema import COLUMNS, Table, schema
from tasks.recording.store import Store

_READS = 5


def new_name(run_id: str) -> str:
    """A file name that no other writer has: time, run and chance."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{now}-{slug(run_id)}-{uuid.uuid4().hex[:12]}.parquet"


def files_of(store: Store, table: Table) -> list[str]:
    """The places of a table's files."""
    folder = f"{REPORTS}/{table}"
    return [f"{folder}/{name}" for name in store.names(folder) if is_table_file(name)]


def of_rows(table: Table, rows: Iterable[Row]) -> Any:
    import pyarrow as pa

    names = COLUMNS[table]
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in names} for row in rows], schema=schema(table)
    )


def stage(staged: Path, table: Table, name: str, data: Any) -> None:
    """Write one file into a store's staging folder."""
    import pyarrow.parquet as pq

    (staged / table).mkdir(exist_ok=True)
    pq.write_table(data, staged / table / name)


def read(
    store: Store, table: Table, columns: Sequence[str] = (), files: Sequence[str] | None = None
) -> Any:
    """A whole table (or some files of it) in today's schema, as a `pyarrow.Table`.

    Raises:
        ProtocolError: A file of it is damaged.
        OSError: The disk; an object store's driver may raise its own.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    wanted = list(columns) or list(COLUMNS[table])
    for _ in range(_READS):
        places = files_of(store, table) if files is None else list(files)
        if not places:
            break
        paths, fs = store.parquet(places)
        try:
            data = ds.dataset(paths, schema=schema(table), format="parquet", filesystem=fs)
            return data.to_table(columns=wanted)
        except FileNotFoundError:
            if files is not None:
                raise
            continue  # a rebuild has put other files in their place
        except pa.ArrowException as error:
            raise _damaged(table, error) from error
    return schema(table).empty_table().select(wanted)


def _damaged(table: Table, error: Exception) -> Exception:
    remedy = REBUILD if table in ("tracks", "stems") else "Remove the file that it names."
    return broken(f"a file of reports/{table} is damaged: {error}", remedy)
