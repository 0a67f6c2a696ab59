"""`read_catalog`: any mix of sources into `TrackRef`s, one by one."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TextIO
from urllib.parse import unquote, urljoin, urlsplit

from tasks.contracts import Failure, SourceKind, TrackRef
from tasks.errors import CatalogError, SourceRefused, StemwrightError
from tasks.sources.folders import audio_of_folder, audio_of_objects
from tasks.sources.manifests import TEXT_READERS, Row, Rows, read_parquet, read_txt
from tasks.sources.opening import as_text, open_catalog
from tasks.sources.playlists import tracks_of_page
from tasks.sources.suffixes import (
    AUDIO_SUFFIXES,
    CATALOG_SUFFIXES,
    is_address,
    is_web,
    suffix_of,
)

_NAMED = ("title", "artist", "album", "genre", "isrc")
_OF_ONE_TRACK = ("title", "isrc")
_LOCAL_SCHEMES = ("memory",)
_LOCAL = re.compile(r"(?:^|::)(?:file|local):", re.IGNORECASE)

Item = TrackRef | Failure


def read_catalog(
    sources: Iterable[str],
    *,
    stdin: TextIO | None = None,
    offline: bool = False,
    limit: int | None = None,
) -> Iterator[Item]:
    """The tracks of any mix of sources, lazily and each once.

    Args:
        sources: Files, folders, http(s) and fsspec URLs, catalogs, `-` for `stdin`; see
            `interfaces.md` section 1. What a catalog names is relative to the catalog's folder.
        stdin: Where `-` reads sources from, one a line; the process's own by default.
        offline: Touch no network: URLs pass as they are and only catalogs there are failures.
        limit: Stop after this many tracks (failures aren't counted).

    Yields:
        A `TrackRef` for each track, a `Failure` for each row, catalog or folder that can't be
        read. A missing audio file is a `TrackRef`, which ingest then fails as one track.
    """
    reading = _Reading(offline=offline, stdin=stdin)
    left = sys.maxsize if limit is None else limit
    for source in sources:
        if left <= 0:
            return
        for item in reading.expand(Row(source), _Place()):
            yield item
            left -= isinstance(item, TrackRef)
            if left <= 0:
                return


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a source was written: the catalogs around it, outermost first; none on the command."""

    catalogs: tuple[str, ...] = ()

    @property
    def catalog(self) -> str:
        return self.catalogs[-1] if self.catalogs else ""

    @property
    def remote(self) -> bool:
        return is_address(self.catalog)

    def origin(self, row: Row) -> str:
        """ "songs.csv, line 12"."""
        name = self.catalog.rstrip("/").rsplit("/", 1)[-1]
        return ", ".join(part for part in (name, row.where) if part)

    def resolve(self, source: str) -> str:
        """A path or URL as an absolute path or URL.

        Raises:
            CatalogError: a catalog from elsewhere names a file of this machine.
        """
        if is_address(source):
            if _LOCAL.search(source):
                self._refuse_local(source)
            if not source.lower().startswith(("file:", "local:")):
                return source
            return _absolute(unquote(urlsplit(source).path), "")
        if is_web(self.catalog):
            return urljoin(self.catalog, source)
        if self.remote:
            if source.startswith("/"):
                self._refuse_local(source)
            return f"{self.catalog.rsplit('/', 1)[0]}/{source}"
        return _absolute(source, os.path.dirname(self.catalog))  # noqa: PTH120

    def _refuse_local(self, source: str) -> None:
        if self.remote:
            raise CatalogError(
                f"a catalog from elsewhere names a file of this machine, {source}.",
                remedy="Download the catalog, and run it from here if you trust it.",
            )


@dataclass(slots=True)
class _Reading:
    """One run over sources; remembers an eight-byte hash of each track that it passed on."""

    offline: bool
    stdin: TextIO | None
    seen: set[int] = field(default_factory=set)

    def expand(self, row: Row, place: _Place) -> Iterator[Item]:
        try:
            if row.source == "-" and not place.catalogs:
                yield from self._stdin()
                return
            source = place.resolve(_sound(row.source))
            yield from self._expand_resolved(source, row, place)
        except StemwrightError as error:
            yield _failed(error, place, row)

    def _expand_resolved(self, source: str, row: Row, place: _Place) -> Iterator[Item]:
        suffix = suffix_of(source)
        stream = suffix in (".m3u", ".m3u8") and is_web(source)
        if suffix in CATALOG_SUFFIXES and not stream and "::" not in source:
            yield from self._catalog(source, suffix, row, place)
        elif is_web(source):
            yield from self._web(source, row, place)
        elif is_address(source):
            yield from self._objects(source, row, place)
        elif suffix not in AUDIO_SUFFIXES and Path(source).is_dir():
            yield from self._many(audio_of_folder(source), source, "file", row, place)
        else:
            yield from self._track(source, "file", row, place)

    def _stdin(self) -> Iterator[Item]:
        lines = iter((self.stdin or sys.stdin).readline, "")
        try:
            for row in read_txt(lines):
                if isinstance(row, StemwrightError):
                    yield _failed(row, _Place(("stdin",)), Row("-"))
                elif row.source != "-":
                    yield from self.expand(row, _Place())
        except UnicodeDecodeError as error:
            bad = CatalogError(f"the input isn't {error.encoding}.", remedy="Send it as UTF-8.")
            yield _failed(bad, _Place(("stdin",)), Row("-"))

    def _catalog(self, source: str, suffix: str, row: Row, place: _Place) -> Iterator[Item]:
        inside = _Place((*place.catalogs, source))
        if source in place.catalogs:
            raise CatalogError("this catalog names itself.", remedy="Delete that row.")
        try:
            if self.offline and is_address(source) and not _is_local(source):
                raise SourceRefused(
                    "the catalog is on the network, and this run is offline.",
                    remedy="Download it first, or leave --offline out.",
                )
            with open_catalog(source) as file:
                for read in _rows(file, suffix):
                    if isinstance(read, StemwrightError):
                        yield _failed(read, inside, Row(""))
                    else:
                        yield from self.expand(read, inside)
        except StemwrightError as error:
            yield _failed(error, inside, Row(""))

    def _web(self, source: str, row: Row, place: _Place) -> Iterator[Item]:
        if self.offline:
            yield from self._track(source, "url", row, place)
            return
        for entry in tracks_of_page(source):
            one = entry.url == source
            fields = row.fields if one else entry.fields | _shared(row.fields)
            yield from self._track(entry.url, "url", replace(row, fields=fields), place)

    def _objects(self, source: str, row: Row, place: _Place) -> Iterator[Item]:
        if self.offline and not _is_local(source):
            yield from self._track(source, "fsspec", row, place)
        else:
            yield from self._many(audio_of_objects(source), source, "fsspec", row, place)

    def _many(
        self,
        found: Iterable[str | StemwrightError],
        source: str,
        kind: SourceKind,
        row: Row,
        place: _Place,
    ) -> Iterator[Item]:
        shared = replace(row, fields=_shared(row.fields))
        for each in found:
            if isinstance(each, StemwrightError):
                yield _failed(each, place, Row(source, row.where))
            else:
                yield from self._track(each, kind, row if each == source else shared, place)

    def _track(self, source: str, kind: SourceKind, row: Row, place: _Place) -> Iterator[Item]:
        try:
            _sound(source)
        except CatalogError as error:
            yield _failed(error, place, Row(source, row.where))
            return
        digest = hashlib.blake2b(source.encode(), digest_size=8).digest()
        hashed = int.from_bytes(digest, "little")
        if hashed in self.seen:
            return
        self.seen.add(hashed)
        fields = {name: _clean(text) for name, text in row.fields.items() if text and text.strip()}
        named = {name: fields.pop(name) for name in _NAMED if name in fields}
        yield TrackRef(source=source, kind=kind, extra=fields, origin=place.origin(row), **named)


def _rows(file: IO[bytes], suffix: str) -> Rows:
    if suffix == ".parquet":
        yield from read_parquet(file)
        return
    read: Callable[[IO[str]], Rows] = TEXT_READERS[suffix]
    try:
        with as_text(file) as text:
            yield from read(text)
    except UnicodeError as error:
        yield CatalogError(f"the file can't be decoded: {error}.", remedy="Save it as UTF-8.")


def _absolute(path: str, folder: str) -> str:
    # Links keep their own name: what they lead to may not even have a suffix. `os.path`, as
    # pathlib takes half of the time that a row of a large catalog takes.
    home = os.path.expanduser(path) if path.startswith("~") else path  # noqa: PTH111
    return os.path.abspath(os.path.join(folder, home))  # noqa: PTH100, PTH118


def _shared(fields: dict[str, str]) -> dict[str, str]:
    """What a row says of every track of its folder or playlist."""
    return {name: text for name, text in fields.items() if name not in _OF_ONE_TRACK}


def _is_local(source: str) -> bool:
    return source.split("://", 1)[0].lower() in _LOCAL_SCHEMES


def _sound(source: str) -> str:
    """The source itself, if it can be a path or URL and stand in a report."""
    if not source.strip():
        raise CatalogError("the source is blank.", remedy="Name a file, a folder or a URL.")
    if "\0" in source or _printable(source) != source:
        raise CatalogError(
            "its name isn't UTF-8 text, so no report could hold it.", remedy="Rename the file."
        )
    try:
        urlsplit(source if is_web(source) else "")
    except ValueError as error:
        raise CatalogError(f"this isn't a URL: {error}.", remedy="Check the URL.") from error
    return source


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().strip()


def _failed(error: StemwrightError, place: _Place, row: Row) -> Failure:
    """A failure filed under the source if one is known, else under the catalog's line."""
    label = _printable(row.source) or place.origin(row)
    if not row.source and place.catalog:
        label = place.catalog
    failure = Failure.of(error.with_context(track=label, stage="catalog"))
    where = place.origin(row) if row.source else ""
    cause = f"{where}: {failure.message}" if where else failure.message
    return failure.model_copy(update={"message": cause})
