"""What one run owns: its settings, library, scratch and engine, and the tracks in flight.

A `Journey` is one track under way; a `Crew` is what every journey of a run shares.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from tasks.contracts import (
    AudioPolicy,
    Completeness,
    CompletenessPolicy,
    Failure,
    IngestPolicy,
    Mixture,
    QualityPolicy,
    QualityReport,
    Run,
    SeparationSettings,
    SourceAudio,
    StemSet,
    TrackRef,
    TrackReport,
    track_label,
)
from tasks.errors import Interrupted, StemwrightError
from tasks.recording import Library, LibraryIndex
from tasks.separation.engine import Engine

if TYPE_CHECKING:
    from tasks.quality.calibration import Calibration

Stage = Literal["ingest", "normalize", "separate", "validate", "score", "record"]

# What hits one track after the other, whatever they are; so many in a row end the run.
_EVERYBODY_S = frozenset({"DiskFull", "LimitReached"})
_IN_A_ROW = 3


class Watcher(Protocol):
    """Somebody who follows a run, such as a progress display. Called from several threads."""

    def expects(self, total: int | None) -> None: ...

    def started(self, journey: Journey) -> None: ...

    def entered(self, journey: Journey, stage: Stage) -> None: ...

    def separated(self, journey: Journey, share: float) -> None: ...

    def ended(self, journey: Journey) -> None: ...


@dataclass(slots=True, eq=False)
class Journey:
    """One track on its way through the stages. Exactly one end: a report, a skip, or a failure."""

    ref: TrackRef
    folder: Path
    audio: SourceAudio | None = None
    mixture: Mixture | None = None
    stem_set: StemSet | None = None
    completeness: Completeness | None = None
    quality: QualityReport | None = None
    report: TrackReport | None = None
    failure: Failure | None = None
    already: tuple[str, str] | None = None
    """The track and separation that were there before."""
    follows: Journey | None = None
    """An earlier journey of this run with the same audio, whose end is this one's too."""
    remembered: bool = False
    """Ended by what an earlier run recorded of this very source: nothing new to record."""
    regenerated: frozenset[str] = frozenset()
    in_tables: bool = False
    stages_done: set[str] = field(default_factory=set)
    attempts: int = 1
    busy_s: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def label(self) -> str:
        ref = self.ref
        tags = self.audio.tags if self.audio else None
        artist = ref.artist or (tags.artist if tags else "")
        title = ref.title or (tags.title if tags else "")
        return track_label(artist, title, ref.source)

    @property
    def ended(self) -> bool:
        return bool(self.report or self.failure or self.already or self.follows)

    @property
    def place(self) -> tuple[str, str] | None:
        """The track and separation that it ended as, whichever journey made them."""
        if self.report:
            return self.report.track_id, self.report.separation_id
        return self.follows.place if self.follows else self.already

    def lighten(self) -> None:
        """Keep of an ended journey what a later one with the same audio asks of it, no more.

        Claims last as long as the run: a hundred thousand of them must not hold their reports.
        """
        self.already = self.place
        self.audio = self.mixture = self.stem_set = None
        self.completeness = self.quality = self.report = None
        self.ref = TrackRef(source=self.ref.source, kind=self.ref.kind, title=self.label)
        self.stages_done = set()

    @property
    def status(self) -> str:
        if self.failure:
            return "failed"
        if self.follows:
            return "duplicate"
        if self.already:
            return "already"
        return "done" if self.report else "under way"


class Batch:
    """The journeys that one stage task works on, with the attempts at each stage.

    A plain class on purpose: Prefect looks into lists and dataclasses for task results, and a
    batch holds none.
    """

    def __init__(self, journeys: list[Journey]) -> None:
        self.journeys = journeys
        self.attempts: dict[str, int] = {}

    def open(self) -> list[Journey]:
        return [journey for journey in self.journeys if not journey.ended]

    @property
    def label(self) -> str:
        first = self.journeys[0].label
        more = len(self.journeys) - 1
        return f"{first} and {more} more" if more else first


class Crew:
    """Everything that the journeys of one run share. Made once a run, by a flow.

    `separation_id` names what the first engine makes of the settings, `separation_ids` what any of
    them may make, that one first. With `keeps_sources` a source's own bytes stay
    until it is separated. `calibration` is what the library knows of its own populations, if it
    was ever reviewed.
    """

    def __init__(
        self,
        *,
        library: Library,
        workspace: Path,
        index: LibraryIndex,
        engine: Engine,
        separation_id: str,
        settings: SeparationSettings,
        ingest_policy: IngestPolicy,
        audio_policy: AudioPolicy,
        completeness_policy: CompletenessPolicy,
        quality_policy: QualityPolicy,
        run: Run,
        watcher: Watcher,
        deadline_s: Callable[[float], float | None],
        retries: Callable[[Stage], int],
        retry_base_s: float = 2.0,
        separation_ids: tuple[str, ...] = (),
        keeps_sources: bool = False,
        calibration: Calibration | None = None,
        force: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self.library = library
        self.workspace = workspace
        self.index = index
        self.engine = engine
        self.separation_id = separation_id
        self.separation_ids = separation_ids or (separation_id,)
        self.settings = settings
        self.ingest_policy = ingest_policy
        self.audio_policy = audio_policy
        self.completeness_policy = completeness_policy
        self.quality_policy = quality_policy
        self.run = run
        self.watcher = watcher
        self.deadline_s = deadline_s
        self.retries = retries
        self.retry_base_s = retry_base_s
        self.calibration = calibration
        self.force = force
        self.retry_failed = retry_failed
        self.keeps_sources = keeps_sources
        self.halted: StemwrightError | None = None
        """Why the run ends before its catalog does."""
        self.cores = threading.Semaphore(os.cpu_count() or 1)
        """Held for work that fills a core, and memory: a window for a cloud is wider than these."""
        self._in_a_row = 0
        self._claims: dict[str, Journey] = {}
        self._claims_lock = threading.Lock()
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask every journey to end at its next safe point."""
        self._stop.set()

    def stopping(self) -> bool:
        return self._stop.is_set()

    def check_stop(self, journey: Journey) -> None:
        if self.stopping():
            raise Interrupted("the run was asked to stop.", track=journey.label)

    def claim(self, track_id: str, journey: Journey) -> Journey | None:
        """Make `journey` the one that separates this audio; or answer the one that has it."""
        with self._claims_lock:
            owner = self._claims.setdefault(track_id, journey)
        return None if owner is journey else owner

    def finished(self, track_id: str) -> str | None:
        """The separation of that track which this run would make and the library has, or None."""
        if self.force:
            return None
        names = (name for name in self.separation_ids if self.library.is_finished(track_id, name))
        return next(names, None)

    def note(self, journey: Journey) -> None:
        """Learn from a track's end whether there is sense in starting another."""
        failure = journey.failure
        if failure and not journey.remembered and failure.error_type in _EVERYBODY_S:
            self._in_a_row += 1
        elif journey.report:
            self._in_a_row = 0
        if self.halted is None:
            self.halted = self.engine.fatal_error()
        if self.halted is None and failure and self._in_a_row >= _IN_A_ROW:
            self.halted = StemwrightError(failure.message, remedy=failure.remedy)
