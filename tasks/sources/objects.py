"""Object stores (any fsspec URL): prefixes and globs listed, objects copied into scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.contracts import IngestPolicy
from tasks.errors import (
    CatalogError,
    EmptyAudio,
    InputError,
    NetworkError,
    SettingsError,
    SourceMissing,
    SourceRefused,
    SourceUnreadable,
    StemwrightError,
)
from tasks.net.drivers import DRIVERS
from tasks.sources.kinds import Fetched, Note, Row, Rows, Source
from tasks.sources.limits import Deadline, check_size
from tasks.sources.partial_download import Part, Version, fetch_into
from tasks.sources.suffixes import (
    NO_AUDIO_REMEDY,
    is_address,
    is_audio,
    is_elsewhere,
    is_glob,
    left_out,
    why_left_out,
)

_CHUNK_BYTES = 1 << 20
_PUBLIC_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
_ETAGS = ("ETag", "etag", "md5Hash", "content_md5")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")


class Objects(Source):
    """An fsspec URL: an object, a prefix, or a glob."""

    name = "fsspec"

    def matches(self, source: str) -> bool:
        return is_address(source)

    def needs_network(self, source: str) -> bool:
        return is_elsewhere(source)

    def is_cheap_to_count(self, source: str) -> bool:
        return "::" in source or (is_audio(source) and not is_glob(source))

    def expand(self, source: str) -> Rows:
        if self.is_cheap_to_count(source):
            yield Row(source)
            return
        skipped: Counter[str] = Counter()
        found = False
        try:
            check_scheme(source, self.policy)
            for url in _listed(source, skipped):
                found = True
                yield Row(url)
        except Exception as error:  # drivers raise their vendors' own types
            yield driver_error(error, "folder at this URL")
            return
        if skipped:
            yield Note(left_out(skipped))
        if not found:
            yield CatalogError("nothing there is an audio file.", remedy=NO_AUDIO_REMEDY)

    def fetch(self, source: str, scratch: Path, policy: IngestPolicy) -> Fetched:
        """Copy an object to `scratch`; a part of the same version that lies there is continued."""
        check_scheme(source, policy)
        fs, path = filesystem(source, SourceRefused)
        part = Part(scratch, source.split("::")[0])
        return fetch_into(part, lambda left: _attempt(fs, path, part, policy, left), policy)


def check_scheme(url: str, policy: IngestPolicy) -> None:
    """Refuse a driver that connects wherever its URL says, unless the policy allows everything.

    Raises:
        SourceRefused: It is one.
    """
    from fsspec.registry import known_implementations

    scheme = _scheme(url)
    if policy.allow_private_addresses or scheme not in known_implementations:
        return
    if "::" in url or scheme not in _PUBLIC_STORES:
        raise SourceRefused(
            f"{scheme}:// may lead to a private address.",
            remedy="If it is meant, set ingest.allow_private_addresses, or say --allow-private.",
        )


def filesystem(url: str, unknown: type[InputError] = CatalogError) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL and the path in it.

    Raises:
        SettingsError: No driver for the scheme is installed; names the `pip install`.
        unknown: The scheme is.
    """
    from fsspec.core import url_to_fs

    scheme = _scheme(url)
    try:
        fs, path = url_to_fs(url)
    except ImportError as error:
        package = DRIVERS.get(scheme)
        raise SettingsError(
            f"reading {scheme}:// needs a package that isn't installed.",
            remedy=f"Run `pip install {package}`." if package else f"{error}.",
        ) from error
    except ValueError as error:
        cause = f"{scheme}:// is no scheme that can be read."
        raise unknown(cause, remedy="Check the URL.") from error
    return fs, str(path)


def driver_error(error: Exception, what: str) -> StemwrightError:
    """Return a storage driver's exception as one of ours."""
    if isinstance(error, StemwrightError):
        return error
    said = str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return SourceMissing(f"there is no {what}.")
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        remedy = "Check the store's credentials in the environment."
        return SourceUnreadable(f"the store won't give it out: {said}", remedy=remedy)
    return NetworkError(f"the store failed: {type(error).__name__}: {error}")


def _scheme(url: str) -> str:
    return url.split("://", 1)[0].split("::")[-1].lower()


def _listed(url: str, skipped: Counter[str]) -> Iterator[str]:
    """List the audio files of a glob or under a prefix; the URL itself where it is neither.

    What isn't picked up is counted.
    """
    fs, path = filesystem(url)
    if is_glob(path):
        names: Iterator[str] = iter(sorted(fs.glob(path)))
    elif fs.isdir(path):
        names = _walk(fs, path, skipped)
    else:
        yield url
        return
    for name in names:
        if why := why_left_out(name.rsplit("/", 1)[-1]):
            skipped[why] += 1
        else:
            yield str(fs.unstrip_protocol(name))


def _walk(fs: Any, path: str, skipped: Counter[str]) -> Iterator[str]:
    for here, folders, files in fs.walk(path, on_error="raise"):
        shown = sorted(name for name in folders if not name.startswith("."))
        if len(shown) < len(folders):
            skipped["hidden"] += len(folders) - len(shown)
        folders[:] = shown
        for name in sorted(files):
            yield f"{here.rstrip('/')}/{name}"


def _attempt(fs: Any, path: str, part: Part, policy: IngestPolicy, deadline: Deadline) -> Version:
    try:
        if part.size:  # a resumed copy must not trust what was listed before
            fs.invalidate_cache()
        info = fs.info(path)
        version = _version(part.url, info)
        _check(info, version, policy)
        if (before := part.version) is None or not version.continues(before):
            part.begin(version)
        source = fs.open(path, "rb")
    except Exception as error:  # drivers raise their vendors' own types
        raise driver_error(error, "such object") from error
    with source:
        part.append(_chunks(source, part.size), policy, deadline)
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


def _chunks(source: Any, start: int) -> Iterator[bytes]:
    try:
        if source.tell() != start:
            source.seek(start)
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk
    except Exception as error:  # drivers raise their vendors' own types
        raise driver_error(error, "such object") from error
