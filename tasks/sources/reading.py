"""`read_catalog`: any mix of sources into `TrackRef`s, one by one."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TextIO
from urllib.parse import unquote, urljoin, urlsplit

from tasks.contracts import Failure, IngestPolicy, TrackRef
from tasks.errors import CatalogError, SourceRefused, StemwrightError
from tasks.paths import escaped, is_file_url, path_of, shown, text_of
from tasks.sources.kinds import KINDS, Note, Row, Source, source_for
from tasks.sources.manifest_formats import LEGACY, legacy, undecodable
from tasks.sources.smuggled import plain
from tasks.sources.stdin import Stdin
from tasks.sources.suffixes import is_address, is_web

log = logging.getLogger(__name__)
_NAMED = ("title", "artist", "album", "genre", "isrc")
_OF_ONE_TRACK = ("title", "isrc")
_LOCAL = re.compile(r"(?:^|::)(?:file|local):", re.IGNORECASE)

Item = TrackRef | Failure


def read_catalog(
    sources: Iterable[str],
    *,
    stdin: TextIO | None = None,
    policy: IngestPolicy = IngestPolicy(),  # noqa: B008 - frozen
    limit: int | None = None,
    quiet: bool = False,
) -> Iterator[Item]:
    """The tracks of any mix of sources, lazily and each once.

    Args:
        sources: Files, folders, http(s) and fsspec URLs, catalogs, `-` for `stdin`; see
            `INTERFACES.md` section 1. What a catalog names is relative to the catalog's folder.
        stdin: Where `-` reads sources from, one a line; the process's own by default.
        policy: Where lists and pages may be asked for. Offline, URLs pass as they are and only
            catalogs there are failures.
        limit: Stop after this many tracks (failures aren't counted).
        quiet: Don't log what folders leave out and what isn't UTF-8; who only counts needn't.

    Yields:
        A `TrackRef` for each track, a `Failure` for each row, catalog or folder that can't be
        read. A missing audio file is a `TrackRef`, which ingest then fails as one track.
    """
    kinds = {**KINDS, Stdin.name: Stdin(stdin)}
    under = {name: kind.under(policy) for name, kind in kinds.items()}
    reading = _Reading(policy.offline, quiet, under)
    left = sys.maxsize if limit is None else limit
    for source in sources:
        if left <= 0:
            return
        for item in reading.expand(Row(source), _Place()):
            yield item
            left -= isinstance(item, TrackRef)
            if left <= 0:
                return


def from_argument(argument: str) -> str:
    """Return a source as the system handed it over as one that any parameter can hold."""
    if argument.isascii():
        return argument
    text = os.fsencode(argument).decode("utf-8", "surrogateescape")
    return escaped(text) if is_address(text) or is_file_url(text) else text_of(argument)


def missing_of(sources: Iterable[str]) -> list[str]:
    """Return those sources that name a file or folder of this machine which isn't there."""
    here = (each for each in sources if each != "-" and not is_address(each))
    return [source for source in here if not source.strip() or not _is_there(source, "")]


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
        name = shown(self.catalog).rstrip("/").rsplit("/", 1)[-1]
        return ", ".join(part for part in (name, row.where) if part)

    def resolve(self, source: str) -> str:
        """A path or URL as an absolute path or URL, in the form that `tasks.paths` has.

        Raises:
            CatalogError: a catalog from elsewhere names a file of this machine.
            ValueError: no file can have this name.
        """
        if source == "-" and not self.catalogs:
            return source
        if _LOCAL.search(source):
            self._refuse_local(source)
        if is_file_url(source):
            return text_of(_absolute(path_of(source), ""))
        if is_address(source):
            return source
        if is_web(self.catalog):
            return urljoin(self.catalog, source)
        if self.remote:
            if source.startswith("/"):
                self._refuse_local(source)
            return f"{self.catalog.rsplit('/', 1)[0]}/{source}"
        return text_of(_there(source, self._folder))

    @property
    def _folder(self) -> str:
        return os.path.dirname(path_of(self.catalog))  # noqa: PTH120

    def read(self, row: Row) -> Row:
        """A row whose source isn't UTF-8, as it is meant.

        It is the file of these very bytes or, where there is none, in Windows-1252, which older
        tools write.
        """
        if not undecodable(row.source):
            return row
        local = not (self.remote or is_address(row.source))
        if local and _is_there(row.source, self._folder):
            return row
        text = legacy(row.source)
        if text is None:
            return row if local else replace(row, source=escaped(row.source))
        return replace(row, source=text, where=row.where.removesuffix(LEGACY) + LEGACY)

    def _refuse_local(self, source: str) -> None:
        if self.remote:
            raise CatalogError(
                f"a catalog from elsewhere names a file of this machine, {source}.",
                remedy="Download the catalog, and run it from here if you trust it.",
            )


@dataclass(slots=True)
class _Reading:
    """One run over sources; remembers eight-byte hashes of what it passed on.

    Of one source only rows that say something, and something else, pass a second time: each ISRC
    of a catalog has its row in the tables.
    """

    offline: bool
    quiet: bool
    kinds: dict[str, Source]
    seen: set[int] = field(default_factory=set)

    def expand(self, row: Row, place: _Place) -> Iterator[Item]:
        try:
            source = plain(_resolved(row.source, place))
            kind = source_for(source, self.kinds)
            if kind.is_list:
                yield from self._sources(kind, source, place)
            else:
                yield from self._tracks(kind, source, row, place)
        except StemwrightError as error:
            yield _failed(error, place, row)

    def _sources(self, kind: Source, source: str, place: _Place) -> Iterator[Item]:
        if source in place.catalogs:
            raise CatalogError("this catalog names itself.", remedy="Delete that row.")
        inside = _Place((*place.catalogs, source)) if kind.is_base else place
        whole = Row("" if kind.is_base else source)
        told = self.quiet
        try:
            if self.offline and kind.needs_network(source):
                raise SourceRefused(
                    "the catalog is on the network, and this run is offline.",
                    remedy="Download it first, or leave --offline out.",
                )
            for found in kind.expand(source):
                if isinstance(found, StemwrightError):
                    yield _failed(found, inside, whole)
                elif isinstance(found, Note):
                    self._say(source, found)
                else:
                    meant = inside.read(found)
                    if not told and meant.where.endswith(LEGACY):
                        told = True
                        named = shown(source) if kind.is_base else kind.name
                        log.warning("%s isn't all UTF-8: %s", named, meant.where)
                    yield from self.expand(meant, inside)
        except StemwrightError as error:
            yield _failed(error, inside, whole)

    def _tracks(self, kind: Source, source: str, row: Row, place: _Place) -> Iterator[Item]:
        unseen = self.offline and kind.needs_network(source)
        name = kind.track_kind or kind.name
        for found in (Row(source),) if unseen else kind.expand(source):
            if isinstance(found, StemwrightError):
                yield _failed(found, place, Row(source, row.where))
                continue
            if isinstance(found, Note):
                self._say(source, found)
                continue
            one = found.source == source
            fields = row.fields if one else found.fields | _shared(row.fields)
            item = self._track(Row(found.source, row.where, fields, found.address), name, place)
            if item is not None:
                yield item

    def _say(self, source: str, note: Note) -> None:
        if not self.quiet:
            log.info("%s: %s", shown(source), note.text)

    def _track(self, row: Row, kind: str, place: _Place) -> Item | None:
        """One track, or None where it was passed on already."""
        source = row.source
        fields = {
            _clean(name): _clean(text) for name, text in row.fields.items() if text and text.strip()
        }
        try:
            if not self._is_new(source, fields):
                return None
        except UnicodeError:
            return _failed(_impossible(), place, row)
        named = {name: fields.pop(name) for name in _NAMED if name in fields}
        return TrackRef(
            source=source,
            kind=kind,
            extra=fields,
            origin=place.origin(row),
            address=row.address,
            **named,
        )

    def _is_new(self, source: str, fields: dict[str, str]) -> bool:
        """Tell whether a source, or what is said of it, hasn't passed yet."""
        known = {_hash(source)}
        if fields:
            known.add(_hash("\0".join([source, *chain(*sorted(fields.items()))])))
        new = known - self.seen
        self.seen |= new
        return bool(new)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _absolute(path: str, folder: str) -> str:
    # Links keep their own name: what they lead to may not even have a suffix. `os.path`, as
    # pathlib takes half of the time that a row of a large catalog takes.
    home = os.path.expanduser(path) if path.startswith("~") else path  # noqa: PTH111
    return os.path.abspath(os.path.join(folder, home))  # noqa: PTH100, PTH118


def _is_there(source: str, folder: str) -> bool:
    try:
        path = _absolute(path_of(source), "") if is_file_url(source) else _there(source, folder)
    except ValueError:
        return False
    return os.path.lexists(path)


def _there(source: str, folder: str) -> str:
    """A path as it was written or, if only that exists, as it can have been meant.

    Windows' backslashes, the `%20` of players' playlists, and the two ways to write an accent.
    """
    path = _absolute(path_of(source), folder)
    as_is = source.isascii() and "\\" not in source and "%" not in source
    if as_is or os.path.exists(path):  # noqa: PTH110  # as above
        return path
    plain = (source, unquote(source, errors="surrogateescape"))
    meant = {
        _absolute(path_of(unicodedata.normalize(form, written)), folder)
        for written in (*plain, *(one.replace("\\", "/") for one in plain))
        for form in ("NFC", "NFD")
    }
    there = [one for one in meant if os.path.exists(one)]  # noqa: PTH110
    return there[0] if len(there) == 1 else path


def _shared(fields: dict[str, str]) -> dict[str, str]:
    """What a row says of every track of its folder or playlist."""
    return {name: text for name, text in fields.items() if name not in _OF_ONE_TRACK}


def _resolved(written: str, place: _Place) -> str:
    """A source as written, as a path or URL that can be asked for and stand in a report."""
    if not written.strip():
        raise CatalogError("the source is blank.", remedy="Name a file, a folder or a URL.")
    try:
        urlsplit(written if is_web(written) else "")
        source = place.resolve(written)
        source.encode()
    except UnicodeError as error:
        raise _impossible() from error
    except ValueError as error:
        raise CatalogError(f"this isn't a URL: {error}.", remedy="Check the URL.") from error
    if "\0" in source:
        raise _impossible()
    return source


def _impossible() -> CatalogError:
    return CatalogError("no file and no page can have this name.", remedy="Correct it.")


def _printable(source: str) -> str:
    return shown(source).replace("\0", "\ufffd")


def _clean(text: str) -> str:
    whole = text if text.isascii() else text.encode("utf-8", "replace").decode()
    return whole.strip()


def _failed(error: StemwrightError, place: _Place, row: Row) -> Failure:
    """A failure filed under the source if one is known, else under the catalog's line."""
    source = row.source or place.catalog or place.origin(row)
    error.with_context(stage="catalog")
    error.with_context(track=source if is_file_url(source) else _printable(source))
    failure = Failure.of(error, label=_printable(source))
    where = place.origin(row) if row.source else ""
    cause = f"{where}: {failure.message}" if where else failure.message
    return failure.model_copy(update={"message": cause})
