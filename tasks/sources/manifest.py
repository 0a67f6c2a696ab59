"""Manifests: catalog files, wherever they lie: on disk, on an object store, on a web server."""

from __future__ import annotations

import codecs
import io
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from tasks.contracts import IngestPolicy
from tasks.errors import CatalogError, SourceMissing, StemwrightError, from_os_error
from tasks.net.http_errors import check_status, httpx_errors
from tasks.paths import path_of
from tasks.sources.kinds import Rows, Source
from tasks.sources.manifest_formats import TEXT_READERS, read_parquet
from tasks.sources.objects import check_scheme, driver_error, filesystem
from tasks.sources.suffixes import (
    CATALOG_SUFFIXES,
    is_address,
    is_elsewhere,
    is_web,
    suffix_of,
)

_MAX_WEB_CATALOG_BYTES = 2 * 1024**3
_WHAT = "catalog at this URL"


class Manifest(Source):
    """A catalog: a row a source, with whatever its columns say of it."""

    name = "manifest"
    is_list = True
    is_base = True

    def matches(self, source: str) -> bool:
        suffix = suffix_of(source)
        if suffix not in CATALOG_SUFFIXES or "::" in source:
            return False
        # On the web these are a stream's index more often than a list of tracks.
        return not (suffix in (".m3u", ".m3u8") and is_web(source))

    def needs_network(self, source: str) -> bool:
        return is_elsewhere(source)

    def is_cheap_to_count(self, source: str) -> bool:
        return not is_address(source)

    def expand(self, source: str) -> Rows:
        suffix = suffix_of(source)
        with open_catalog(source, self.policy) as file:
            if suffix == ".parquet":
                yield from read_parquet(file)
                return
            try:
                with as_text(file) as text:
                    yield from TEXT_READERS[suffix](text)
            except UnicodeError as error:
                cause = f"the file can't be decoded: {error}."
                yield CatalogError(cause, remedy="Save it as UTF-8.")


@contextmanager
def open_catalog(location: str, policy: IngestPolicy) -> Iterator[IO[bytes]]:
    """A catalog as a seekable binary file.

    Raises:
        SourceMissing, SourceUnreadable, NetworkError, SettingsError: it can't be opened.
    """
    try:
        file = _open(location, policy)
    except OSError as error:
        if is_address(location):
            raise driver_error(error, _WHAT) from error
        raise _on_disk(error, location) from error
    with file:
        yield file


def _on_disk(error: OSError, location: str) -> StemwrightError:
    if isinstance(error, FileNotFoundError):
        return SourceMissing("there is no such catalog.", remedy="Check the path.")
    return from_os_error(error, track=location)


def _open(location: str, policy: IngestPolicy) -> IO[bytes]:
    if is_web(location):
        return _spool(location, policy)
    if is_address(location):
        check_scheme(location, policy)
        fs, path = filesystem(location)
        try:
            return cast(IO[bytes], fs.open(path, "rb"))
        except Exception as error:  # drivers raise their vendors' own types
            raise driver_error(error, _WHAT) from error
    return Path(path_of(location)).open("rb")


def _spool(url: str, policy: IngestPolicy) -> IO[bytes]:
    """Copy a web catalog to a temporary file: a connection can't stay open as long as a run."""
    from tasks.net.addresses import client

    with ExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryFile())
        with (
            httpx_errors(),
            client(policy, timeout=20.0) as web,
            web.stream("GET", url) as response,
        ):
            check_status(response)
            for chunk in response.iter_bytes():
                spool.write(chunk)
                if spool.tell() > _MAX_WEB_CATALOG_BYTES:
                    raise CatalogError("the catalog is over 2 GiB.", remedy="Download it first.")
        spool.seek(0)
        stack.pop_all()  # the caller closes it
        return spool


def as_text(file: IO[bytes]) -> io.TextIOWrapper:
    """Decode UTF-8 (with or without a mark) or UTF-16; bytes that aren't UTF-8 stay as surrogates.

    So one badly encoded row can be named, and the rest still read.
    """
    head = file.read(4)
    file.seek(0)
    encoding = "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif head[1::2] == b"\0\0":
        encoding = "utf-16-le"
    elif head[::2] == b"\0\0":
        encoding = "utf-16-be"
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    return io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")
