"""Rows out of manifests: `.csv`, `.jsonl`, `.txt`, `.m3u`, `.parquet`.

A reader yields a `Row` for each good row and a `CatalogError` for each bad one, and goes on.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable
from typing import IO, Any

from tasks.errors import CatalogError
from tasks.sources.source import Row, Rows

_COLUMNS = frozenset({"source", "title", "artist", "album", "genre", "isrc"})
_DELIMITERS = ",;\t|"
_EXTINF = re.compile(r"#EXTINF:\s*-?[\d.]*(?:\s+[\w-]+=\"[^\"]*\")*\s*,(?P<name>.*)", re.IGNORECASE)
_M3U_TAGS = {"#EXTALB:": "album", "#EXTART:": "artist", "#EXTGENRE:": "genre"}
_UTF8_REMEDY = "Save the file as UTF-8 (`iconv -f WINDOWS-1252 -t UTF-8`, if it came from Excel)."
_ROWS_A_BATCH = 4096


def _undecodable(text: str) -> str:
    """The first byte that wasn't UTF-8 (kept by `surrogateescape`), in hexadecimal, or ""."""
    if text.isascii():
        return ""
    return next((f"0x{ord(c) - 0xDC00:02x}" for c in text if "\udc80" <= c <= "\udcff"), "")


def _bad_row(where: str, what: str, remedy: str) -> CatalogError:
    return CatalogError(f"{where} {what}", remedy=remedy)


def _not_utf8(where: str, byte: str) -> CatalogError:
    return _bad_row(where, f"holds the byte {byte}, which isn't UTF-8.", _UTF8_REMEDY)


def _row(where: str, cells: dict[str, str]) -> Row | CatalogError:
    source = cells.pop("source", "").strip()
    if not source:
        return _bad_row(where, "has no source.", "Fill in its `source` column, or delete it.")
    return Row(source, where, cells)


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


def _header(line: str) -> tuple[str, list[str]]:
    """The delimiter that gives a `source` column (the most columns, if several do)."""
    split = {
        d: [_column(c) for c in next(csv.reader([line], delimiter=d), [])] for d in _DELIMITERS
    }
    best = max(split, key=lambda d: ("source" in split[d], len(split[d])))
    return best, split[best]


def read_csv(lines: IO[str]) -> Rows:
    """Comma, semicolon, tab or bar separated, with a header; quoted cells may hold newlines."""
    header = lines.readline()
    if byte := _undecodable(header):
        yield _not_utf8("line 1", byte)
        return
    delimiter, columns = _header(header)
    if "source" not in columns:
        yield _no_source_column(columns)
        return
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        where = f"line {reader.line_num + 2}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _bad_row(where, f"isn't CSV: {error}.", "Look for a quote that is never closed.")
            continue
        if cells:
            yield _csv_row(where, columns, cells, delimiter)


def _csv_row(
    where: str, columns: list[str], cells: list[str], delimiter: str
) -> Row | CatalogError:
    if byte := _undecodable("".join(cells)):
        return _not_utf8(where, byte)
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
        if byte := _undecodable(line):
            yield _not_utf8(where, byte)
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
        return cell.decode("utf-8", "replace")
    if isinstance(cell, bool | list | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def read_txt(lines: Iterable[str]) -> Rows:
    """One source a line; blank lines and lines that begin with `#` are skipped."""
    for number, line in enumerate(lines, start=1):
        source = line.strip()
        if byte := _undecodable(source):
            yield _not_utf8(f"line {number}", byte)
        elif source and not source.startswith("#"):
            yield Row(source, f"line {number}")


def read_m3u(lines: IO[str]) -> Rows:
    """An M3U playlist with `#EXTINF` titles; outside UTF-8 its bytes are taken as Windows-1252."""
    fields: dict[str, str] = {}
    for number, raw in enumerate(lines, start=1):
        line = _legacy(raw.strip())
        if line.upper().startswith("#EXT-X-"):
            yield CatalogError(
                "this is the index of an HLS stream, not a list of tracks.",
                remedy="Give the stream's http(s) URL instead of the downloaded index.",
            )
            return
        if not line:
            continue
        if line.startswith("#"):
            fields |= _m3u_fields(line)
        else:
            yield Row(line, f"line {number}", fields)
            fields = {}


def _legacy(line: str) -> str:
    if not _undecodable(line):
        return line
    return line.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


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
        if "source" not in columns:
            yield _no_source_column(columns)
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
