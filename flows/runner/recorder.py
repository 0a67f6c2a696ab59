"""Keeps the books of a run: the summary, the rows of failures and aliases, and the artifacts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prefect import get_run_logger

from flows.runner.artifacts import FlaggedPages, ProgressArtifact, write_results_table
from flows.runner.progress import ProgressTracker
from flows.runner.summary import RunSummary
from tasks.contracts import Failure
from tasks.errors import Interrupted, StemwrightError
from tasks.events import Event, RowRefused, Tick, TrackEnded
from tasks.outcome import Done, Failed, Outcome, Place
from tasks.recording import Alias, Library
from tasks.run_context import TrackState
from tasks.sources import fingerprint

Row = TypeVar("Row")


class RunRecorder:
    """Listens to a run's events, of which the ends of tracks come from the flow's own thread."""

    FLUSH = 50
    KEPT = 5_000

    def __init__(self, library: Library, summary: RunSummary, *, fail_under: float = 0.0) -> None:
        self._library = library
        self._summary = summary
        self._fail_under = fail_under
        self._failures: list[Failure] = []
        self._aliases: list[Alias] = []
        self._found: list[Place] = []
        self._progress = ProgressArtifact()
        self._pages = FlaggedPages()
        self.tracker = ProgressTracker()

    def __call__(self, event: Event, /) -> None:
        self.tracker(event)
        match event:
            case TrackEnded(track):
                self._ended(track)
            case RowRefused(failure):
                self._summary.add_failure(failure)
                self._failures.append(failure)
            case Tick():
                total = self.tracker.total
                of = f" of {total}" if total else ""
                said = f"{self._summary.found}{of} tracks. {self._summary.headline}"
                self._progress.update(self.tracker.share, said)

    def close(self) -> None:
        """Write what is owed, and the artifacts of the run's end."""
        self._flush()
        total, found = self.tracker.total, self._summary.found
        share = 1.0 if total is None or found >= total else found / total
        self._progress.update(share, self._summary.headline, last=True)
        write_results_table(self._summary)

    def _ended(self, track: TrackState) -> None:
        self._summary.add(track, self._fail_under)
        if track.remembered:
            return
        match track.outcome:
            case Failed(failure):
                if not failure.is_a(Interrupted):
                    self._failures.append(failure)
            case Done(report):
                self._pages.write(report, self._summary.library)
            case _:
                if track.place:
                    self._found.append(track.place)
        self._aliases += _aliases(track, self._summary.run_id)
        if len(self._failures) + len(self._aliases) >= self.FLUSH:
            self._flush()

    def _flush(self) -> None:
        """Failures and aliases are written a file for many, not a file each."""
        # Who died between a commit and its rows left a track that no index knows.
        self._write(self._found, self._library.ensure_rows)
        self._write(self._failures, self._library.record_failures)
        self._write(self._aliases, self._library.record_aliases)

    def _write(self, rows: list[Row], write: Callable[[list[Row]], object]) -> None:
        """Write rows and let go of them; what can't be written now is kept for the next time."""
        if not rows:
            return
        try:
            write(rows)
        except StemwrightError as error:
            get_run_logger().error("%d rows could not be recorded: %s", len(rows), error)
            del rows[: -self.KEPT]
        else:
            rows.clear()


def _aliases(track: TrackState, run_id: str) -> list[Alias]:
    """The rows with a finished track's audio that aren't the one its report is of."""
    if track.place is None:
        return []
    found = [Alias.of(track.displaced, run_id)] if track.displaced else []
    own = _alias(track, track.place, run_id)
    if not track.is_credited and not _says(track.outcome, own):
        found.append(own)
    return found


def _says(outcome: Outcome | None, alias: Alias) -> bool:
    """Tell whether a report, of whichever run, is by this very row."""
    return isinstance(outcome, Done) and Alias.of(outcome.report).facts == alias.facts


def _alias(track: TrackState, place: Place, run_id: str) -> Alias:
    track_id, separation_id = place
    return Alias(
        track_id=track_id,
        separation_id=separation_id,
        source=track.ref.source,
        **dict(track.words),
        fingerprint=track.fingerprint or fingerprint(track.ref),
        run_id=run_id,
    )
