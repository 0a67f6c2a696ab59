"""One run, whichever flow it is of: a crew, the window, the artifacts, and the state it ends in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from blocks.redaction import install_redaction
from blocks.settings import StemwrightSettings, load_settings
from flows.artifacts import FlaggedPages, ProgressArtifact, write_results_table
from flows.assemble import assemble
from flows.logs import set_level
from flows.parameters import RunControl, Separation, overrides_of
from flows.pipeline import run_window
from flows.saved_blocks import SavedBlocks
from flows.summary import RunSummary
from flows.watch import Gauge, current_watcher
from tasks.contracts import Failure, TrackRef
from tasks.crew import Crew, Journey
from tasks.errors import Interrupted, StemwrightError
from tasks.recording import Alias

Row = TypeVar("Row")


def settings_of(
    separation: Separation, control: RunControl, blocks: SavedBlocks | None = None
) -> StemwrightSettings:
    """The settings of a run: its parameters over environment, file, blocks and defaults."""
    named = [control.settings_block] if control.settings_block else []
    settings = load_settings(
        Path(control.config) if control.config else None,
        overrides_of(separation, control),
        block=[*named, *(blocks.layers() if blocks else ())],
    )
    set_level(settings.logging.level)
    install_redaction(settings.secrets())
    return settings


def run_tracks(
    refs: Iterable[TrackRef | Failure],
    settings: StemwrightSettings,
    control: RunControl,
    *,
    total: int | None,
) -> State[RunSummary]:
    """Take tracks through the pipeline and say how it went.

    Returns:
        Completed when every track has a report; Completed with the name "Partial" when some
        failed; Failed when all did, when the run ended early, or the quality gate stopped. The
        state's data is the `RunSummary`.

    Raises:
        SettingsError: What is set can't work; nothing was started.
    """
    gauge = Gauge(current_watcher())
    with assemble(
        settings,
        run_id=str(flow_run.id or ""),
        flow_run_name=str(flow_run.name or ""),
        watcher=gauge,
        force=control.force,
        retry_failed=control.retry_failed,
    ) as (crew, summary):
        keeper = _Keeper(crew, summary, control.fail_under, total, gauge)
        get_run_logger().info("%s on %s: %s", summary.model, summary.device, summary.reasons[0])
        gauge.expects(total)
        try:
            run_window(
                refs,
                crew,
                window=window_of(settings, summary.engine),
                batch_size=settings.run.batch_size,
                ended=keeper.ended,
                broken=keeper.broken,
                tick=keeper.tick,
            )
        finally:
            if crew.halted:
                summary.halted = f"{crew.halted.cause} {crew.halted.remedy}".strip()
            keeper.close()
    return final_state(summary)


def window_of(settings: StemwrightSettings, engine: str = "") -> int:
    """Batches in flight: one being separated, the rest being fetched, decoded and scored.

    A service separates many at once: then as many are in flight as may be there.
    """
    chosen = settings.run.jobs or settings.run.window
    if engine == "cloud":
        return chosen or settings.engine.cloud_jobs
    return chosen or min(8, (os.cpu_count() or 1) + 1)


def final_state(summary: RunSummary) -> State[RunSummary]:
    """The state a run ends in. A run in which a track failed is never a plain Completed."""
    if summary.halted:
        return Failed(message=summary.headline, data=summary)
    if summary.under_gate:
        return Failed(name="QualityGate", message=summary.headline, data=summary)
    if not summary.failed:
        name = None if summary.done or not summary.found else "NothingNew"
        return Completed(name=name, message=summary.headline, data=summary)
    if summary.failed == summary.found:
        return Failed(message=summary.headline, data=summary)
    return Completed(name="Partial", message=summary.headline, data=summary)


class _Keeper:
    """Keeps the books of a run: the summary, the rows of failures and aliases, the artifacts."""

    FLUSH = 50
    KEPT = 5_000

    def __init__(
        self,
        crew: Crew,
        summary: RunSummary,
        fail_under: float,
        total: int | None,
        gauge: Gauge,
    ) -> None:
        self._crew = crew
        self._summary = summary
        self._fail_under = fail_under
        self._total = total
        self._gauge = gauge
        self._failures: list[Failure] = []
        self._aliases: list[Alias] = []
        self._found: list[tuple[str, str]] = []
        self._progress = ProgressArtifact()
        self._pages = FlaggedPages()

    def ended(self, journey: Journey) -> None:
        self._summary.add(journey, self._fail_under)
        self._crew.watcher.ended(journey)
        if journey.remembered:
            return
        if journey.failure:
            if journey.failure.error_type != Interrupted.__name__:
                self._failures.append(journey.failure)
        elif journey.report:
            self._pages.write(journey.report, self._summary.library)
        else:
            self._aliases.append(_alias(journey))
            if journey.place:
                self._found.append(journey.place)
        if len(self._failures) + len(self._aliases) >= self.FLUSH:
            self._flush()

    def broken(self, failure: Failure) -> None:
        self._summary.add_failure(failure)
        self._failures.append(failure)

    def tick(self) -> None:
        found = self._summary.found
        share = (found + self._gauge.under_way) / self._total if self._total else 0.0
        of = f" of {self._total}" if self._total else ""
        self._progress.update(share, f"{found}{of} tracks. {self._summary.headline}")

    def close(self) -> None:
        self._flush()
        whole = self._total is None or self._summary.found >= self._total
        share = 1.0 if whole else self._summary.found / (self._total or 1)
        self._progress.update(share, self._summary.headline, last=True)
        write_results_table(self._summary)

    def _flush(self) -> None:
        """Failures and aliases are written a file for many, not a file each."""
        library = self._crew.library
        # Who died between a commit and its rows left a track that no index knows.
        self._write(self._found, library.ensure_rows)
        self._write(self._failures, library.record_failures)
        self._write(self._aliases, library.record_aliases)

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


def _alias(journey: Journey) -> Alias:
    """This source holds the same audio as a track that is in the library."""
    track_id, separation_id = journey.place or ("", "")
    return Alias(
        source=journey.ref.source,
        fingerprint=journey.audio.fingerprint if journey.audio else "",
        track_id=track_id,
        separation_id=separation_id,
    )
