"""Rows out of manifests: `.csv`, `.jsonl`, `.txt`, `.m3u`, `.parquet`.

A reader yields a `Row` for each good row and a `CatalogError` for each bad one, and goes on. A
source that isn't UTF-8 is left as it is: only who knows the folder can tell what it names.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from tasks.errors import CatalogError
from tasks.sources.kinds import Row, Rows

_COLUMNS = frozenset({"source", "title", "artist", "album", "genre", "isrc"})
_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
LEGACY = ", read as Windows-1252"
"""Stands behind the place of a row whose bytes aren't UTF-8."""
_EXTINF = re.compile(r"#EXTINF:\s*-?[\d.]*(?:\s+[\w-]+=\"[^\"]*\")*\s*,(?P<name>.*)", re.IGNORECASE)
_M3U_TAGS = {"#EXTALB:": "album", "#EXTART:": "artist", "#EXTGENRE:": "genre"}
_UTF8_REMEDY = "Save the file as UTF-8 (`iconv -f WINDOWS-1252 -t UTF-8`, if it came from Excel)."
_ROWS_A_BATCH = 4096


def undecodable(text: str) -> str:
    """The first byte that wasn't UTF-8 (kept by `surrogateescape`), in hexadecimal, or ""."""
    if text.isascii():
        return ""
    return next((f"0x{ord(c) - 0xDC00:02x}" for c in text if "\udc80" <= c <= "\udcff"), "")


def legacy(text: str, errors: str = "strict") -> str | None:
    """Text that isn't UTF-8 as Windows-1252, which older tools write; None if it isn't that."""
    if not undecodable(text):
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("cp1252", errors)
    except UnicodeError:
        return None


def _bad_row(where: str, what: str, remedy: str) -> CatalogError:
    return CatalogError(f"{where} {what}", remedy=remedy)


def _not_utf8(where: str, byte: str) -> CatalogError:
    return _bad_row(where, f"holds the byte {byte}, which isn't UTF-8.", _UTF8_REMEDY)


def _row(where: str, cells: dict[str, str]) -> Row | CatalogError:
    source = cells.pop("source", "").strip()
    if not source:
        return _bad_row(where, "has no source.", "Fill in its `source` column, or delete it.")
    note = ""
    for name, cell in cells.items():
        if byte := undecodable(cell):
            read = legacy(cell)
            if read is None:
                return _not_utf8(f"{where}, column `{name}`,", byte)
            cells[name], note = read, LEGACY
    return Row(source, where + note, cells)


def _no_source_column(columns: Iterable[str]) -> CatalogError:
    named = ", ".join(f"`{name}`" for name in list(columns)[:20]) or "none"
    return CatalogError(
        f"there is no column `source`; its columns are {named}.",
        remedy="Name the column that holds the paths or URLs `source`.",
    )


def _column(name: str) -> str:
    """Our own columns in any case; the others as given."""
    plain = name.strip()
    return plain.lower() if plain.lower() in _COLUMNS else plain


def _header(line: str, delimiters: str) -> tuple[str, list[str]]:
    """The delimiter that gives a `source` column (the most columns, if several do)."""
    split = {d: [_column(c) for c in next(_csv([line], d), [])] for d in delimiters}
    best = max(split, key=lambda d: ("source" in split[d], len(split[d])))
    return best, split[best]


def _fault_of(columns: list[str]) -> CatalogError | None:
    twice = [f"`{name}`" for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
    if twice:
        cause = f"of the columns these stand twice: {', '.join(twice)}."
        return CatalogError(cause, remedy="Rename or delete one of each.")
    return None if "source" in columns else _no_source_column(columns)


def _csv(lines: Iterable[str], delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=strict)


class _Lines:
    """The lines of a CSV file; those of the row under way are kept, to be read again."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._again: list[str] = []
        self.row: list[str] = []
        self.number = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else next(self._lines, "")
        if not line:
            self.ended = True
            raise StopIteration
        self.number += 1
        self.row.append(line)
        return line

    def begin_row(self) -> None:
        self.row.clear()
        self.ended = False

    def back_to_second(self) -> None:
        """Go back to the second line of the row."""
        self._again += reversed(self.row[1:])
        self.number -= len(self.row) - 1


def read_csv(lines: IO[str]) -> Rows:
    """Comma, semicolon, tab or bar separated, with a header; quoted cells may hold newlines.

    Excel's `sep=;` line may stand in front. A quote that is never closed costs its own row alone.
    """
    source = _Lines(lines)
    header = next(source, "")
    delimiters = _DELIMITERS
    if named := _SEPARATOR.fullmatch(header.rstrip("\r\n")):
        delimiters, header = named[1], next(source, "")
    decoded = legacy(header)
    if decoded is None:
        yield _not_utf8(f"line {source.number}", undecodable(header))
        return
    delimiter, columns = _header(decoded, delimiters)
    if fault := _fault_of(columns):
        yield fault
        return
    reader = _csv(source, delimiter)
    while True:
        source.begin_row()
        where = f"line {source.number + 1}"
        try:
            cells = next(reader)
            if len(source.row) > 1 or source.ended:
                _check_quotes(source.row, delimiter)
        except StopIteration:
            return
        except csv.Error as error:
            why = _open_quote(source.row, columns, delimiter) or f"{error}."
            yield _bad_row(where, f"isn't CSV: {why}", "Look for a quote that is never closed.")
            source.back_to_second()
            continue
        if any(cell.strip() for cell in cells):  # spreadsheets leave rows of commas
            yield _csv_row(where, columns, cells, delimiter)


def _check_quotes(row: list[str], delimiter: str) -> None:
    """Raise `csv.Error` if a row that goes on over lines does so by a quote never closed."""
    spaced = re.compile(f'" +(?=[{re.escape(delimiter)}\\r\\n]|$)')
    for _ in _csv((spaced.sub('"', line) for line in row), delimiter, strict=True):
        pass


def _open_quote(row: list[str], columns: list[str], delimiter: str) -> str:
    """Say in which column a row's first line opens a quote without closing it; "" if it doesn't."""
    if row[0].count('"') % 2 == 0:
        return ""
    place = len(next(_csv(row[:1], delimiter))) - 1
    column = f" in the column `{columns[place]}`" if place < len(columns) else ""
    return f"a quote opens{column} and isn't closed."


def _csv_row(
    where: str, columns: list[str], cells: list[str], delimiter: str
) -> Row | CatalogError:
    if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
        what = f"has {len(cells)} cells where the header has {len(columns)}."
        return _bad_row(where, what, f"Put quotes round the cell that holds a {delimiter!r}.")
    return _row(where, dict(zip(columns, cells, strict=False)))


def read_jsonl(lines: IO[str]) -> Rows:
    """A JSON object a line with the key `source`; a bare string is a source."""
    for number, line in enumerate(lines, start=1):
        where = f"line {number}"
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield _bad_row(where, f"isn't JSON: {error}.", 'Write {"source": "…"} on each line.')
            continue
        if isinstance(value, str):
            value = {"source": value}
        if isinstance(value, dict):
            yield _row(where, {_column(key): _text(cell) for key, cell in value.items()})
        else:
            yield _bad_row(where, "isn't a JSON object.", 'Write {"source": "…"} on each line.')


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "surrogateescape")
    if isinstance(cell, bool | list | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def read_txt(lines: Iterable[str]) -> Iterator[Row]:
    """One source a line; blank lines and lines that begin with `#` are skipped."""
    for number, line in enumerate(lines, start=1):
        source = line.strip()
        if source and not source.startswith("#"):
            yield Row(source, f"line {number}")


def read_m3u(lines: IO[str]) -> Rows:
    """An M3U playlist with `#EXTINF` titles; outside UTF-8 these are taken as Windows-1252."""
    fields: dict[str, str] = {}
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if line.upper().startswith("#EXT-X-"):
            yield CatalogError(
                "this is the index of an HLS stream, not a list of tracks.",
                remedy="Give the stream's http(s) URL instead of the downloaded index.",
            )
            return
        if not line:
            continue
        if line.startswith("#"):
            fields |= _m3u_fields(legacy(line, "replace") or "")
        else:
            yield Row(line, f"line {number}", fields)
            fields = {}


def _m3u_fields(line: str) -> dict[str, str]:
    if match := _EXTINF.match(line):
        artist, dash, title = match["name"].strip().partition(" - ")
        return {"artist": artist, "title": title} if dash else {"title": artist}
    for tag, name in _M3U_TAGS.items():
        if line.upper().startswith(tag):
            return {name: line[len(tag) :].strip()}
    return {}


TEXT_READERS: dict[str, Callable[[IO[str]], Rows]] = {
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".txt": read_txt,
    ".m3u": read_m3u,
    ".m3u8": read_m3u,
}


def read_parquet(file: IO[bytes]) -> Rows:
    """A Parquet file, a batch of rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = itertools.count(1)
    try:
        table = pq.ParquetFile(file)
        columns = [_column(name) for name in table.schema_arrow.names]
        if fault := _fault_of(columns):
            yield fault
            return
        for batch in table.iter_batches(batch_size=_ROWS_A_BATCH):
            for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                texts = dict(zip(columns, map(_text, cells), strict=True))
                yield _row(f"row {next(number)}", texts)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason"
        yield CatalogError(
            f"this isn't a whole Parquet file (after row {next(number) - 1}): {reason}",
            remedy="Write the file again; it may have been cut short.",
        )
