"""Paths as text, whatever their bytes are.

A name on a disk is bytes, a report is text. A path stands in a source, a table and a message as its
UTF-8 text or, where its bytes are none, as a `file:` URL with those bytes percent-encoded, from
which the path can be had back. The locale doesn't change it.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote

_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE = re.compile("[\udc80-\udcff]")
_FILE_URL = re.compile(r"(?:file|local)://[^/]*", re.IGNORECASE)


def is_text(path: str) -> bool:
    """Tell whether UTF-8 can hold it."""
    return _SURROGATE.search(path) is None


def is_file_url(source: str) -> bool:
    """Tell whether it is a `file:` URL: a path of this machine, however it is written."""
    return _FILE_URL.match(source) is not None


def text_of(path: str) -> str:
    """Return a path of the system's as text that UTF-8 can hold."""
    if path.isascii():
        return path
    raw = os.fsencode(path)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"file://{quote(os.path.abspath(raw))}"  # noqa: PTH100


def escaped(url: str) -> str:
    """Return a URL with those bytes percent-encoded that aren't UTF-8."""
    return _BYTE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", url)


def path_of(source: str) -> str:
    """Return the path by which the system opens what a text or a `file:` URL names.

    Bytes that aren't UTF-8 may stand in the text as `surrogateescape` leaves them.

    Raises:
        ValueError: No file can have this name.
    """
    url = _FILE_URL.match(source)
    text = unquote(source[url.end() :], errors="surrogateescape") if url else source
    return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogateescape"))


def shown(source: str) -> str:
    """Return a path or source as a person reads it; what isn't UTF-8 as replacement characters."""
    url = _FILE_URL.match(source)
    return readable(unquote(source[url.end() :]) if url else source)


def readable(text: str) -> str:
    """Return text in which what UTF-8 can't hold is a replacement character."""
    return _SURROGATE.sub("\ufffd", text)
