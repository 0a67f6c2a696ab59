"""Whether a library still is what its reports say: files by their hashes, rows and folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.contracts import TrackReport, Value
from tasks.errors import StemwrightError
from tasks.recording import sidecar
from tasks.recording.layout import REPORT, TRACKS, Key, key_of
from tasks.recording.rows import TrackRow
from tasks.recording.storage import Storage

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["file", "report", "unfinished", "row missing", "row differs", "folder missing"]


class Finding(Value):
    """One thing that isn't as it should be. `file` is what a `separate` makes anew without it."""

    kind: Kind
    track_id: str
    separation_id: str
    file: str = ""
    what: str
    source: str = ""

    @property
    def key(self) -> Key:
        return self.track_id, self.separation_id


@dataclass(frozen=True)
class Checked:
    """A separation that was looked at, and its bytes."""

    key: Key
    bytes: int


@dataclass(frozen=True)
class Share:
    """A part of a library's tracks, by their ids: `number` (from 1) of `of`; the same each time."""

    number: int = 1
    of: int = 1

    def has(self, track_id: str) -> bool:
        """Tell whether a track is in it."""
        try:
            return int(track_id, 16) % self.of == self.number - 1
        except ValueError:
            return self.number == 1


def verify(store: Storage, rows: pd.DataFrame, share: Share) -> Iterator[Finding | Checked]:
    """Look into every separation of a share; no file is held whole.

    Args:
        store: Where the library lies.
        rows: `reports/tracks`, the newest of each separation.
        share: Of which tracks.

    Yields:
        What is wrong, and after each separation that it was checked.
    """
    known: dict[Key, Any] = {
        (str(row.track_id), str(row.separation_id)): row
        for row in rows.itertuples()
        if share.has(str(row.track_id))
    }
    for track_id in store.names(TRACKS):
        if not share.has(track_id):
            continue
        for separation_id in store.names(f"{TRACKS}/{track_id}"):
            key = (track_id, separation_id)
            row = known.pop(key, None)
            yield from _separation(store, key, row)
    for (track_id, separation_id), row in known.items():
        yield Finding(
            kind="folder missing",
            track_id=track_id,
            separation_id=separation_id,
            source=str(row.source),
            what="the tables have a row, and there is no folder.",
        )


def _separation(store: Storage, key: Key, row: Any) -> Iterator[Finding | Checked]:
    place = f"{TRACKS}/{key[0]}/{key[1]}"
    named = {"track_id": key[0], "separation_id": key[1]}
    try:
        report = sidecar.parse(store.read(f"{place}/{REPORT}"), key_of(place))
    except (FileNotFoundError, NotADirectoryError):
        what = "it has no report.json: it was never finished, or has lost it."
        yield Finding(kind="unfinished", what=what, **named)
        return
    except StemwrightError as error:
        yield Finding(kind="report", file=REPORT, what=error.cause, **named)
        return
    count = 0
    for name, size, digest in _noted(report):
        found, what = _file(store, f"{place}/{name}", size, digest)
        count += found
        if what:
            yield Finding(kind="file", file=name, what=what, source=report.source, **named)
    if row is None:
        what = "the tables have no row of it."
        yield Finding(kind="row missing", what=what, source=report.source, **named)
    elif _differs(row, report):
        what = "its row isn't as its report.json."
        yield Finding(kind="row differs", what=what, source=report.source, **named)
    yield Checked(key, count)


def _noted(report: TrackReport) -> Iterator[tuple[str, int, str]]:
    """Each file with its size and hash; of the mixture neither was noted."""
    yield report.mixture.path.name, 0, ""
    checks = {check.path.name: check for check in report.completeness.stems.values()}
    for path in report.stem_set.stems.values():
        check = checks.get(path.name)
        yield path.name, check.bytes if check else 0, check.sha256 if check else ""


def _file(store: Storage, place: str, size: int, digest: str) -> tuple[int, str]:
    """A file's bytes, and what is wrong with it."""
    seen, summed = 0, hashlib.sha256()
    try:
        for block in store.blocks(place):
            seen += len(block)
            summed.update(block)
    except FileNotFoundError:
        return 0, "it is gone."
    if not seen:
        return 0, "it is empty."
    if size and seen != size:
        return seen, f"it has {seen:,} bytes, not {size:,}."
    if digest and summed.hexdigest() != digest:
        return seen, "its bytes aren't those that were written."
    return seen, ""


def _differs(row: Any, report: TrackReport) -> bool:
    made = TrackRow.of(report)
    as_it_was = (made.source, made.created_at, made.verdict)
    return as_it_was != (row.source, row.created_at, row.verdict)
