"""Parquet files in and out of the library's table folders.

Every file has the whole schema, so that a column with nothing but nulls keeps its type.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel

from tasks.recording.layout import REPORTS, is_table_file, slug
from tasks.recording.rows import ROWS, added, cells
from tasks.recording.storage import Storage
from tasks.recording.storage_errors import REBUILD, damaged

Table = Literal["tracks", "stems", "failures", "aliases"]

_READS = 5


def schema(table: Table) -> Any:
    """Return the `pyarrow.Schema` of a table: the fields of its rows, then the added columns."""
    import pyarrow as pa

    types = {
        float: pa.float64(),
        int: pa.int64(),
        bool: pa.bool_(),
        datetime: pa.timestamp("us", tz="UTC"),
    }

    def of(annotation: Any) -> Any:
        # Whatever else there is (words, one of some words, JSON) is text.
        kinds = (annotation, *get_args(annotation))
        return next((types[kind] for kind in kinds if kind in types), pa.string())

    fields = [(name, of(field.annotation)) for name, field in ROWS[table].model_fields.items()]
    return pa.schema([*fields, *((column.name, of(column.type)) for column in added(table))])


def new_name(run_id: str) -> str:
    """Return a file name that no other writer has: time, run and chance."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return f"{now}-{slug(run_id)}-{uuid.uuid4().hex[:12]}.parquet"


def files_of(store: Storage, table: Table) -> list[str]:
    """Return the places of a table's files."""
    folder = f"{REPORTS}/{table}"
    return [f"{folder}/{name}" for name in store.names(folder) if is_table_file(name)]


def of_rows(table: Table, rows: Iterable[BaseModel]) -> Any:
    """Return rows as a `pyarrow.Table`."""
    import pyarrow as pa

    return pa.Table.from_pylist([cells(row) for row in rows], schema=schema(table))


def stage(staged: Path, table: Table, name: str, data: Any) -> None:
    """Write one file into a store's staging folder."""
    import pyarrow.parquet as pq

    (staged / table).mkdir(exist_ok=True)
    pq.write_table(data, staged / table / name)


def read(
    store: Storage, table: Table, columns: Sequence[str] = (), files: Sequence[str] | None = None
) -> Any:
    """Return a whole table, or some files or columns of it, as a `pyarrow.Table`.

    It has today's columns, and those of its newest file that another process added.

    Raises:
        ProtocolError: A file of it is damaged.
        OSError: The disk; an object store's driver may raise its own.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    known = schema(table)
    for _ in range(_READS):
        places = files_of(store, table) if files is None else list(files)
        if not places:
            break
        paths, fs = store.parquet(places)
        try:
            whole = known if columns else _with_strange_columns(known, paths[-1], fs)
            data = ds.dataset(paths, schema=whole, format="parquet", filesystem=fs)
            return data.to_table(columns=list(columns) or None)
        except FileNotFoundError:
            if files is not None:
                raise
            continue  # a rebuild has put other files in their place
        except pa.ArrowException as error:
            raise _damaged(table, error) from error
    return known.empty_table().select(list(columns) or known.names)


def _with_strange_columns(known: Any, newest: str, fs: Any) -> Any:
    """Return the schema with the columns of the newest file that this process doesn't know."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pq.read_schema(newest, filesystem=fs).remove_metadata()
    return pa.schema([*known, *(field for field in found if field.name not in known.names)])


def _damaged(table: Table, error: Exception) -> Exception:
    remedy = REBUILD if table in ("tracks", "stems") else "Remove the file that it names."
    return damaged(f"a file of reports/{table} is damaged: {error}", remedy)
