"""What the tracks of one run share, and each track under way."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tasks.contracts import (
    AudioPolicy,
    CompletenessPolicy,
    Failure,
    IngestPolicy,
    QualityPolicy,
    Run,
    SeparationSettings,
    SourceAudio,
    Tags,
    TrackRef,
    TrackReport,
)
from tasks.errors import DiskFull, Interrupted, StemwrightError
from tasks.events import Publish, Stage
from tasks.known_tracks import KnownTracks
from tasks.outcome import Done, Duplicate, Failed, Outcome, Place, Skipped
from tasks.recording import Library
from tasks.separation.budget import LimitReached
from tasks.separation.engine import Engine
from tasks.stages import Ingested, Normalized

if TYPE_CHECKING:
    from tasks.quality.calibration import Calibration

_LINE = re.compile(r"(.* )(\d+)(?:,.*)?", re.DOTALL)
"""An origin: "songs.csv, line 12", with what may be said of how it was read."""

_IN_A_ROW = 3
"""So many tracks in a row that end by what hits them all, whatever they are, end the run."""


@dataclass(slots=True, eq=False)
class TrackState:
    """One track under way: the value that its last stage returned, and at last its outcome."""

    ref: TrackRef
    folder: Path
    value: TrackRef | Ingested = field(init=False)
    outcome: Outcome | None = None
    attempts: int = 1
    busy_s: float = 0.0
    claim: Claim | None = None
    position: int = 0
    """Where in the run's catalog its row is."""
    displaced: TrackReport | None = None
    """What the library's report was before this row took its place in it."""

    def __post_init__(self) -> None:
        self.value = self.ref

    @property
    def label(self) -> str:
        return self.value.label

    @property
    def track_id(self) -> str | None:
        return self.value.mixture.track_id if isinstance(self.value, Normalized) else None

    @property
    def words(self) -> Tags:
        """What is said of it, by the catalog and, once they were read, by its tags."""
        known = self.value.audio.tags if isinstance(self.value, Ingested) else Tags()
        return self.ref.words(known)

    @property
    def fingerprint(self) -> str:
        return self.value.audio.fingerprint if isinstance(self.value, Ingested) else ""

    @property
    def duration_s(self) -> float:
        """Seconds of audio; 0 before that is known."""
        return self.value.mixture.duration_s if isinstance(self.value, Normalized) else 0.0

    @property
    def failure(self) -> Failure | None:
        return self.outcome.failure if isinstance(self.outcome, Failed) else None

    @property
    def place(self) -> Place | None:
        """The track and separation that it ended as, whichever track made them."""
        if isinstance(self.outcome, Duplicate) and self.claim:
            return self.claim.place
        return self.outcome.place if self.outcome else None

    @property
    def is_credited(self) -> bool:
        """Whether the library's report of this audio is by this row of the catalog."""
        return self.claim is not None and self.claim.credited == self.position

    @property
    def remembered(self) -> bool:
        """Whether an earlier run's record of this very source is its end: nothing new to note."""
        return isinstance(self.outcome, Skipped | Failed) and self.outcome.remembered

    def end(self, outcome: Outcome) -> None:
        """Give the track its outcome, tell those with the same audio, and clear its scratch."""
        self.outcome = outcome
        if self.claim and not isinstance(outcome, Duplicate):
            self.claim.place = outcome.place
            self.claim.failure = self.failure
            self.claim.first = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def fail(self, error: StemwrightError, *, run_id: str, fingerprint: str = "") -> None:
        """End the track by an error."""
        failure = Failure.of(
            error,
            self.ref,
            label=self.label,
            track_id=self.track_id,
            attempt=self.attempts,
            run_id=run_id,
            fingerprint=self.fingerprint or fingerprint,
        )
        self.end(Failed(failure))


@dataclass(slots=True, eq=False)
class Claim:
    """One audio of a run, which one track separates and the others wait for.

    Whoever comes to it first separates it; its report is that of the first row of the catalog.
    Claims last as long as the run: a hundred thousand of them must not hold their reports.
    """

    label: str
    source: str
    position: int
    """Of the first of its rows so far."""
    first: TrackState | None
    """That row, until the separation is over."""
    credited: int | None = None
    """The row that the library's report is of; None while that is none of this run's."""
    over: threading.Event = field(default_factory=threading.Event)
    place: Place | None = None
    failure: Failure | None = None

    def credit(self, owner: TrackState) -> SourceAudio:
        """Return the first row so far, which the report that `owner` is about to make is of."""
        first = self.first or owner
        self.credited = first.position
        return cast(Ingested, first.value).audio


class Claims:
    """Which track of a run separates which audio."""

    def __init__(self) -> None:
        self._of: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self.crediting = threading.Lock()
        """Held while a report that was recorded is given another row."""

    def take(self, track_id: str, track: TrackState) -> bool:
        """Claim this audio for a track; False where another one has it. `track.claim` is set."""
        mine = track.claim or Claim(track.label, track.ref.source, track.position, track)
        with self._lock:
            claim = track.claim = self._of.setdefault(track_id, mine)
            if track.position < claim.position:
                claim.position = track.position
                claim.first = claim.first and track
        return claim is mine


class EarlyEnd:
    """Finds out whether there is sense in starting another track."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._in_a_row = 0
        self.cause: StemwrightError | None = None
        """Why the run ends before its catalog does."""

    def note(self, outcome: Outcome | None) -> None:
        """Learn from a track's end."""
        failure = outcome.failure if isinstance(outcome, Failed) else None
        if failure and not outcome.remembered and failure.is_a(DiskFull, LimitReached):  # type: ignore[union-attr]
            self._in_a_row += 1
        elif isinstance(outcome, Done):
            self._in_a_row = 0
        self.cause = self.cause or self._engine.fatal_error()
        if self.cause is None and failure and self._in_a_row >= _IN_A_ROW:
            self.cause = StemwrightError(failure.message, remedy=failure.remedy)


def comes_before(origin: str, other: str) -> bool:
    """Tell whether a row stands above another one in the same catalog, by what they are called.

    So a file that is edited is the same catalog, and one of another name isn't.
    """
    here, there = _LINE.fullmatch(origin), _LINE.fullmatch(other)
    return bool(here and there and here[1] == there[1] and int(here[2]) < int(there[2]))


@dataclass(frozen=True, slots=True)
class Policies:
    """What is set of each stage."""

    ingest: IngestPolicy = field(default_factory=IngestPolicy)
    audio: AudioPolicy = field(default_factory=AudioPolicy)
    separation: SeparationSettings = field(default_factory=SeparationSettings)
    completeness: CompletenessPolicy = field(default_factory=CompletenessPolicy)
    quality: QualityPolicy = field(default_factory=QualityPolicy)


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the tracks of one run share. Made once a run, by a flow.

    Attributes:
        run: Which run it is.
        library: Where separations go.
        workspace: Scratch, for a folder a track.
        known: What needn't be done again.
        engine: What separates.
        policies: What is set of each stage.
        publish: Where events go.
        retries: How often a stage is tried again.
        retry_base_s: The first wait before that.
        deadline_s: Seconds that a separation may take, by the track's duration.
        calibration: What the library knows of its own populations, if it was ever reviewed.
        replace: What is finished is made again and replaced.
        keeps_sources: A source's own bytes stay until it is separated.
        cores: Held for work that fills a core, and memory: a window for a service is wider.
        stop: Set to ask every track to end at its next safe point.
    """

    run: Run
    library: Library
    workspace: Path
    known: KnownTracks
    engine: Engine
    policies: Policies
    publish: Publish
    retries: Callable[[Stage], int]
    retry_base_s: float = 2.0
    deadline_s: Callable[[float], float | None] = lambda duration_s: None
    calibration: Calibration | None = None
    replace: bool = False
    keeps_sources: bool = False
    claims: Claims = field(default_factory=Claims)
    cores: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(os.cpu_count() or 1)
    )
    stop: threading.Event = field(default_factory=threading.Event)

    def check_stop(self, track: TrackState) -> None:
        """Raise `Interrupted` if the run was asked to stop."""
        if self.stop.is_set():
            raise Interrupted("the run was asked to stop.", track=track.label)

    def credit(self, track: TrackState) -> None:
        """Give an audio's report to this row of the catalog, if it is the first that has it.

        What a separation is called must not depend on which row was decoded first, nor on whether
        an earlier run of the same catalog was cut short.
        """
        claim = track.claim
        if claim is None or claim.place is None or not isinstance(track.value, Ingested):
            return
        with self.claims.crediting:
            if claim.position != track.position or claim.credited == track.position:
                return
            if claim.credited is None:
                named = self.library.report(*claim.place).mixture.ref.origin
                if not comes_before(track.ref.origin, named):
                    return
            track.displaced = self.library.credit(*claim.place, track.value.audio)
            claim.credited = track.position

    def known_outcome(self, track: TrackState, track_id: str) -> Outcome | None:
        """Claim this audio; return the outcome if it is another track's, or in the library."""
        if not self.claims.take(track_id, track):
            return Duplicate(track.claim.label if track.claim else "")
        place = self.known.finished(track_id)
        return Skipped(place) if place else None
