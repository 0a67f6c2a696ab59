"""What a source is to the pipeline, and the kinds that there are.

A kind is one class: which sources it is for, which tracks are in one, and a track's bytes. Another
one costs one file:

    @register
    class Tape(Source):
        name = "tape"
        ...
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from tasks.contracts import IngestPolicy, Tags, TrackRef
from tasks.errors import SettingsError, StemwrightError


@dataclass(frozen=True, slots=True)
class Row:
    """A source as written in a catalog, where that was ("line 12"), and its other columns.

    Of a source that isn't UTF-8 the bytes stand in it as `surrogateescape` leaves them.
    `address` is what is fetched in its place, where that takes more than people should see.
    """

    source: str
    where: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    address: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file on the local disk, what tells that its source changed, and what its origin says."""

    path: Path
    fingerprint: str = ""
    tags: Tags = field(default_factory=Tags)


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be said of a source with which nothing is wrong, without its name."""

    text: str


Rows = Iterator[Row | Note | StemwrightError]


class Source:
    """One kind of source.

    Attributes:
        name: What it is registered by; `TrackRef.kind` of its tracks.
        track_kind: The kind of its tracks where they are of another one, as a folder's are files.
        is_list: Its rows are sources of any kind, to be expanded in their turn.
        is_base: What a list names is relative to it.
        is_local: Its tracks are files of this disk, which may be looked at, and stay, in place.
        policy: Under which it is expanded.
    """

    name: ClassVar[str]
    track_kind: ClassVar[str] = ""
    is_list: ClassVar[bool] = False
    is_base: ClassVar[bool] = False
    is_local: ClassVar[bool] = False
    policy: IngestPolicy = IngestPolicy()

    def under(self, policy: IngestPolicy) -> Self:
        """Return the same kind under another policy."""
        other = copy(self)
        other.policy = policy
        return other

    def matches(self, source: str) -> bool:
        """Tell whether it is for this source: a URL, `-`, or a path as `tasks.paths` has it."""
        raise NotImplementedError

    def needs_network(self, source: str) -> bool:
        """Tell whether to expand or to fetch it takes a network."""
        return True

    def is_cheap_to_count(self, source: str) -> bool:
        """Tell whether its tracks can be counted without asking anybody for them."""
        return False

    def expand(self, source: str) -> Rows:
        """Find the tracks in it (or the sources, of a list), lazily; by default it is one track.

        Yields:
            A row for each, with what is known of it, or the error that stands in its place; and
            notes.

        Raises:
            StemwrightError: It can't be read any further.
        """
        yield Row(source)

    def fetch(self, source: str, scratch: Path, policy: IngestPolicy) -> Fetched:
        """Bring a track's bytes into `scratch`, within the policy, resuming what lies there.

        Raises:
            StemwrightError, OSError: As `tasks.sources.ingest` says.
        """
        raise NotImplementedError

    def fingerprint(self, source: str) -> str:
        """Return what changes when the source does, if that is cheap to say; else ""."""
        return ""


S = TypeVar("S", bound=type[Source])
KINDS: dict[str, Source] = {}
"""By name. The last that was registered is asked first whether a source is its own."""


def register(kind: S) -> S:
    """Add a kind of source, before all others; a class decorator."""
    KINDS[kind.name] = kind()
    return kind


def source_for(source: str, kinds: dict[str, Source] = KINDS) -> Source:
    """Return the kind that a source as written is of."""
    for kind in reversed(kinds.values()):
        if kind.matches(source):
            return kind
    raise SettingsError(f"no kind of source is for {source}.", remedy="Check the path or URL.")


def source_of(ref: TrackRef) -> Source:
    """Return the kind that a track is of.

    Raises:
        SettingsError: None of that name is registered.
    """
    try:
        return KINDS[ref.kind]
    except KeyError:
        raise SettingsError(
            f"no kind of source is named {ref.kind!r}; there are {', '.join(KINDS)}.",
            remedy="Import the module that registers it.",
        ) from None
