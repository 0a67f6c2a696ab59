"""`-`: one source a line on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TextIO

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
        rows = read_txt(_lines(self._stream or sys.stdin))
        yield from (row for row in rows if row.source != "-")


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines as they come, whatever the locale says that their bytes are."""
    try:
        binary = stream.buffer
    except AttributeError:  # text from the start
        yield from iter(stream.readline, "")
        return
    for line in iter(binary.readline, b""):
        yield line.decode("utf-8", "surrogateescape")
