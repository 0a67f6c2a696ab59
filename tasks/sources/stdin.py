"""`-`: one source a line on standard input."""

from __future__ import annotations

import sys
from typing import TextIO

from tasks.errors import CatalogError, StemwrightError
from tasks.sources.kinds import Rows, Source
from tasks.sources.manifest_formats import read_txt


class Stdin(Source):
    """Standard input, or another stream in its place."""

    name = "stdin"
    is_list = True

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def matches(self, source: str) -> bool:
        return source == "-"

    def needs_network(self, source: str) -> bool:
        return False

    def expand(self, source: str) -> Rows:
        lines = iter((self._stream or sys.stdin).readline, "")
        try:
            for row in read_txt(lines):
                if isinstance(row, StemwrightError):
                    yield CatalogError(f"stdin: {row.cause}", remedy=row.remedy)
                elif row.source != "-":
                    yield row
        except UnicodeDecodeError as error:
            cause = f"stdin: the input isn't {error.encoding}."
            yield CatalogError(cause, remedy="Send it as UTF-8.")
