"""Catalog files opened wherever they lie: on disk, on an object store, on a web server."""

from __future__ import annotations

import codecs
import io
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from tasks.errors import (
    CatalogError,
    NetworkError,
    SettingsError,
    SourceMissing,
    SourceUnreadable,
    StemwrightError,
    from_os_error,
)
from tasks.net.http_errors import error_of_status, httpx_errors
from tasks.sources.suffixes import is_address, is_web

_MAX_WEB_CATALOG_BYTES = 2 * 1024**3
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}
_PACKAGES |= {"abfs": "adlfs", "abfss": "adlfs", "sftp": "paramiko", "ssh": "paramiko"}


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL and the path in it.

    Raises:
        SettingsError: no driver for the scheme is installed; names the `pip install`.
        CatalogError: the scheme is unknown.
    """
    from fsspec.core import url_to_fs

    scheme = url.split("://", 1)[0].split("::")[-1].lower()
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        remedy = f"Run `pip install {package}`." if package else f"{error}."
        cause = f"reading {scheme}:// needs a package that isn't installed."
        raise SettingsError(cause, remedy=remedy) from error
    except ValueError as error:
        raise CatalogError(
            f"{scheme}:// is no scheme that can be read.", remedy="Check the URL."
        ) from error
    return fs, str(path)


def passed_on(error: Exception, what: str) -> StemwrightError:
    """A storage driver's exception as one of ours."""
    if isinstance(error, StemwrightError):
        return error
    if isinstance(error, FileNotFoundError):
        return SourceMissing(f"there is no {what}.")
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return SourceUnreadable(f"the {what} may not be read: {error or type(error).__name__}")
    return NetworkError(f"the {what} can't be read: {type(error).__name__}: {error}")


@contextmanager
def open_catalog(location: str) -> Iterator[IO[bytes]]:
    """A catalog as a seekable binary file.

    Raises:
        SourceMissing, SourceUnreadable, NetworkError, SettingsError: it can't be opened.
    """
    try:
        file = _open(location)
    except OSError as error:
        if is_address(location):
            raise passed_on(error, "catalog at this URL") from error
        raise _on_disk(error, location) from error
    with file:
        yield file


def _on_disk(error: OSError, location: str) -> StemwrightError:
    if isinstance(error, FileNotFoundError):
        return SourceMissing("there is no such catalog.", remedy="Check the path.")
    if isinstance(error, IsADirectoryError):
        return CatalogError("this is a folder with a catalog's name.", remedy="Rename the folder.")
    return from_os_error(error, track=location)


def _open(location: str) -> IO[bytes]:
    if is_web(location):
        return _spool(location)
    if is_address(location):
        fs, path = filesystem(location)
        try:
            return cast(IO[bytes], fs.open(path, "rb"))
        except Exception as error:  # drivers raise their vendors' own types
            raise passed_on(error, "catalog at this URL") from error
    return Path(location).open("rb")


def _spool(url: str) -> IO[bytes]:
    """Copy a web catalog to a temporary file: a connection can't stay open as long as a run."""
    import httpx

    with ExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryFile())
        with (
            httpx_errors(),
            httpx.stream("GET", url, follow_redirects=True, timeout=20.0) as response,
        ):
            if response.status_code >= 400:
                raise error_of_status(response.status_code, response.reason_phrase)
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
