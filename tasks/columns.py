"""Columns that a module of its own adds to the tables, beside the fields of their rows.

    from tasks.columns import Column, register

    register(Column("chorus_share", "tracks", float, lambda report, stem: chorus_share(report)))

The module has to be imported before rows are written, as those of `ADDERS` are. Reading needs no
registration: rows from before the column are null in it, and a process that doesn't know a column
keeps it. Values are made from the report alone, so that `stemwright reports --rebuild`, where the
module is imported, gives every row its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any, Literal

from tasks.contracts import TrackReport

ADDERS = ("tasks.quality.measures",)
"""Packages whose files add columns; named, as the rooms stand above what they share."""

Table = Literal["tracks", "stems"]
ColumnType = type[str] | type[float] | type[int] | type[bool] | type[datetime]


@dataclass(frozen=True)
class Column:
    """A further column of `reports/tracks` or `reports/stems`.

    Attributes:
        name: In snake_case, with its unit at the end (`_s`, `_hz`, `_db`).
        table: Which table has it.
        type: `str`, `float`, `int`, `bool` or an aware `datetime`.
        value: Return the value for a report and, in `stems`, the name of the stem (else empty);
            None where it isn't known. If it raises, that is logged and the value is null.
        description: One sentence for whoever reads the table.
    """

    name: str
    table: Table
    type: ColumnType
    value: Callable[[TrackReport, str], Any]
    description: str = ""


_registered: dict[tuple[Table, str], Column] = {}


def register(column: Column) -> Column:
    """Add a column to its table; the last one of a name counts.

    Raises:
        ValueError: The name isn't in snake_case.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", column.name):
        raise ValueError(f"{column.name!r} is no column's name: use snake_case.")
    _registered[column.table, column.name] = column
    return column


def unregister(column: Column) -> None:
    """Take a column out again; files that have it keep it."""
    _registered.pop((column.table, column.name), None)


def columns_of(table: str) -> tuple[Column, ...]:
    """Return the columns that were added to a table, in the order in which they came."""
    for package in ADDERS:
        import_module(package)
    return tuple(column for (of, _), column in _registered.items() if of == table)
