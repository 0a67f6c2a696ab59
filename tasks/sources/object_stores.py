"""A file of an object store (any fsspec URL) into scratch, resumed and bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.contracts import IngestPolicy
from tasks.errors import (
    EmptyAudio,
    NetworkError,
    SettingsError,
    SourceMissing,
    SourceRefused,
    SourceUnreadable,
    StemwrightError,
    TransientError,
    from_os_error,
)
from tasks.sources.fetched import Fetched
from tasks.sources.limits import Deadline, check_size, resuming
from tasks.sources.partial_download import Part, Version

_CHUNK_BYTES = 1 << 20
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}
_PACKAGES |= {"abfs": "adlfs", "abfss": "adlfs", "sftp": "paramiko", "ssh": "paramiko"}
_PUBLIC_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
_ETAGS = ("ETag", "etag", "md5Hash", "content_md5")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


def copy(url: str, scratch: Path, policy: IngestPolicy) -> Fetched:
    """Copy an object to `scratch`; a part of the same version that lies there is continued.

    Raises:
        StemwrightError: as `tasks.sources.ingest` says.
    """
    fs, path = _filesystem(url, policy)
    part = Part(scratch, url.split("::")[0])
    try:
        version = resuming(lambda left: _attempt(fs, path, part, policy, left), policy)
        return Fetched(part.finish(), version.fingerprint)
    except TransientError:
        part.discard_if_empty()
        raise
    except StemwrightError:
        part.discard()
        raise


def _filesystem(url: str, policy: IngestPolicy) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    scheme = url.split("://", 1)[0].split("::")[-1].lower()
    if not policy.allow_private_addresses and ("::" in url or scheme not in _PUBLIC_STORES):
        raise SourceRefused(
            f"{scheme}:// may lead to a private address.",
            remedy="Set allow_private_addresses of the ingest policy to allow it.",
        )
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        raise SettingsError(
            f"reading {scheme}:// needs a package that isn't installed.",
            remedy=f"Run `pip install {package}`." if package else f"{error}.",
        ) from error
    except ValueError as error:
        raise SourceRefused(
            f"{scheme}:// is no scheme that can be read.", remedy="Check the URL."
        ) from error
    return fs, str(path)


def _attempt(fs: Any, path: str, part: Part, policy: IngestPolicy, deadline: Deadline) -> Version:
    deadline.check()
    try:
        if part.size:  # a resumed copy must not trust what was listed before
            fs.invalidate_cache()
        info = fs.info(path)
        version = _version(part.url, info)
        _check(info, version, policy)
        if (before := part.version) is None or not version.continues(before):
            part.begin(version)
        source = fs.open(path, "rb")
    except StemwrightError:
        raise
    except Exception as error:  # drivers raise their vendors' own types
        raise _translated(error) from error
    with source:
        _append(source, part, policy, deadline)
    if version.total is not None and part.size != version.total:
        raise NetworkError(f"only {part.size:,} of {version.total:,} bytes arrived.")
    return version


def _version(url: str, info: dict[str, Any]) -> Version:
    etag = next((str(info[name]) for name in _ETAGS if info.get(name)), "")
    modified = next((str(info[name]) for name in _TIMES if info.get(name)), "")
    size = info.get("size")
    return Version(url, None if size is None else int(size), etag, modified)


def _check(info: dict[str, Any], version: Version, policy: IngestPolicy) -> None:
    if info.get("type") == "directory":
        raise SourceRefused("it is a folder, not a file.", remedy="Name a file.")
    if version.total == 0:
        raise EmptyAudio("the object is empty (0 bytes).", remedy="Upload it again.")
    check_size(version.total, policy)


def _append(source: Any, part: Part, policy: IngestPolicy, deadline: Deadline) -> None:
    with _for_appending(part) as file:
        while True:
            try:
                if source.tell() != file.tell():
                    source.seek(file.tell())
                chunk = source.read(_CHUNK_BYTES)
            except Exception as error:  # drivers raise their vendors' own types
                raise _translated(error) from error
            if not chunk:
                return
            check_size(file.tell() + len(chunk), policy)
            try:
                file.write(chunk)
            except OSError as error:
                raise from_os_error(error) from error
            deadline.check()


def _for_appending(part: Part) -> Any:
    try:
        return part.path.open("ab", buffering=0)
    except OSError as error:
        raise from_os_error(error) from error


def _translated(error: Exception) -> StemwrightError:
    if isinstance(error, FileNotFoundError):
        return SourceMissing("there is no such object.")
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        said = str(error) or type(error).__name__
        remedy = "Check the store's credentials in the environment."
        return SourceUnreadable(f"the store won't give it out: {said}", remedy=remedy)
    return NetworkError(f"the store failed: {type(error).__name__}: {error}")
