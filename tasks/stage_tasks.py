"""The six stages as retryable Prefect tasks over batches of tracks.

Each task works through the tracks of a batch that are due for it and never raises for one of them.
A transient error makes the task retry, and a retry works only on what isn't done; a permanent one
ends that track with its failure at once. A task in which every track failed ends as Failed, one in
which some did as Completed with the name "Partial".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run
from prefect.states import Completed, Failed
from prefect.tasks import Task

from tasks import stages
from tasks.contracts import TrackRef, TrackReport
from tasks.errors import (
    IncompleteSeparation,
    Interrupted,
    OutOfMemory,
    RateLimited,
    StemwrightError,
    TransientError,
    from_os_error,
)
from tasks.events import SeparationProgress, Stage, StageEntered
from tasks.outcome import Done, Outcome
from tasks.run_context import RunContext, TrackState
from tasks.stages import Incomplete, Ingested, Normalized, Scored, Separated, Validated

Next = Ingested | Outcome
"""What a stage makes of a track: the next value, or its end."""
Known = TypeVar("Known", bound=Normalized)
StageTask = Task[["Batch", RunContext], State[Any]]


class Batch:
    """The tracks that one stage task works on, with the attempts at each stage.

    A plain class on purpose: Prefect looks into lists and dataclasses for task results, and a
    batch holds none.
    """

    def __init__(self, tracks: list[TrackState]) -> None:
        self.tracks = tracks
        self.attempts: dict[str, int] = {}

    def open(self) -> list[TrackState]:
        """The tracks that haven't ended."""
        return [track for track in self.tracks if track.outcome is None]

    def due(self, stage: Stage) -> list[TrackState]:
        """The tracks whose value is what the stage takes."""
        takes = STAGES[stage].takes
        return [track for track in self.open() if type(track.value) in takes]

    @property
    def label(self) -> str:
        first = self.tracks[0].label
        more = len(self.tracks) - 1
        return f"{first} and {more} more" if more else first


@dataclass
class _Attempt:
    """What came of one pass over a batch: tracks that may yet succeed, and those that failed."""

    passing: list[tuple[TrackState, StemwrightError]] = field(default_factory=list)
    failed: list[TrackState] = field(default_factory=list)


def typed(error: Exception, track: TrackState, stage: Stage) -> StemwrightError:
    """Return any exception as one of the family: a bug in a stage must not cost other tracks."""
    if isinstance(error, StemwrightError):
        return error.with_context(track=track.label, stage=stage)
    if isinstance(error, MemoryError):
        return OutOfMemory("not enough memory.", track=track.label, stage=stage)
    if isinstance(error, OSError):
        return from_os_error(error, track=track.label, stage=stage)
    return StemwrightError(
        f"unexpected {type(error).__name__}: {error}",
        track=track.label,
        stage=stage,
        remedy="This is a fault of ours: please report it with the log of the run.",
    )


def _end_failed(track: TrackState, error: StemwrightError, run: RunContext) -> None:
    from tasks.sources import fingerprint

    track_id = track.track_id
    track.fail(error, run_id=run.run.run_id, fingerprint=fingerprint(track.ref))
    if track_id and isinstance(error, IncompleteSeparation):
        # What a service has of it is no use; after any other end a later run goes on with it.
        run.engine.release(track_id)


def _attempt(stage: Stage, batch: Batch, run: RunContext) -> _Attempt:
    """Take every track of the batch that is due through one stage, once."""
    attempt = _Attempt()
    work, fills_a_core = STAGES[stage].work, STAGES[stage].fills_a_core
    for track in batch.due(stage):
        started = time.monotonic()
        run.publish(StageEntered(track, stage))
        try:
            run.check_stop(track)
            with run.cores if fills_a_core else nullcontext():
                made = work(track, run)
        except Exception as raised:
            error = typed(raised, track, stage)
            if not isinstance(raised, StemwrightError):
                get_run_logger().exception("%s failed in %s", track.label, stage)
            passes = isinstance(error, TransientError) and not error.tried_enough
            if passes and not run.stop.is_set():
                attempt.passing.append((track, error))
            else:
                _end_failed(track, error, run)
                attempt.failed.append(track)
        else:
            if isinstance(made, Ingested):
                track.value = made
            else:
                track.end(made)
        finally:
            track.busy_s += time.monotonic() - started
    return attempt


def _run_stage(stage: Stage, batch: Batch, run: RunContext) -> State[Any]:
    """Make one attempt of a stage task; its state tells Prefect whether to try again."""
    logger = get_run_logger()
    number = batch.attempts[stage] = batch.attempts.get(stage, 0) + 1
    attempt = _attempt(stage, batch, run)
    if attempt.passing and number <= run.retries(stage):
        for track, error in attempt.passing:
            track.attempts += 1
            logger.warning(
                "%s: %s Trying again (attempt %d).", track.label, error.cause, number + 1
            )
        _wait_as_asked(attempt, run)
        return Failed(message=str(attempt.passing[0][1]), data={"retry": True})
    for track, error in attempt.passing:
        _end_failed(track, error, run)
        attempt.failed.append(track)
    return _final_state(stage, batch, attempt)


def _wait_as_asked(attempt: _Attempt, run: RunContext) -> None:
    """A service that names a time to wait is taken at its word, on top of our own backoff."""
    asked = [
        error.retry_after_s or 0.0 for _, error in attempt.passing if isinstance(error, RateLimited)
    ]
    run.stop.wait(min(max(asked, default=0.0), 300.0))


def _final_state(stage: Stage, batch: Batch, attempt: _Attempt) -> State[Any]:
    failures = [track.failure for track in attempt.failed if track.failure]
    for failure in failures:
        if not failure.is_a(Interrupted):
            get_run_logger().error("%s: %s", failure.label, failure.message)
    if not failures:
        return Completed(message=f"{stage}: {len(batch.tracks)} done")
    message = f"{failures[0].label}: {failures[0].message}"
    if len(failures) == len(batch.tracks):
        return Failed(message=message, data={"retry": False})
    return Completed(name="Partial", message=f"{len(failures)} failed; first: {message}")


# --- what each stage does to one track ----------------------------------------------------------


def _ingest(track: TrackState, run: RunContext) -> Next:
    return stages.ingest(track.ref, track.folder, run.policies.ingest)


def _normalize(track: TrackState, run: RunContext) -> Next:
    from tasks.normalize import identify

    given = cast(Ingested, track.value)
    path = given.audio.path
    # Demuxing alone is a hundredth of decoding: worth it where the answer may be "done already".
    if len(run.known) and (outcome := run.known_outcome(track, identify(path))):
        return outcome
    made = stages.normalize(given, track.folder, run.policies.audio)
    # Only now may a download go: an object store that doesn't answer has all this tried again.
    if outcome := run.known_outcome(track, made.mixture.track_id):
        return outcome
    if run.keeps_sources:
        kept = made.mixture.model_copy(update={"source_path": path})
        return made.model_copy(update={"mixture": kept})
    if given.audio.in_scratch:
        path.unlink(missing_ok=True)
    return made


def _separate(track: TrackState, run: RunContext) -> Next:
    from tasks.separation.request import Callbacks

    def on_wait(waited_s: float) -> None:
        # Waiting for the device isn't the track's own time.
        track.busy_s -= waited_s

    callbacks = Callbacks(
        on_progress=lambda share: run.publish(SeparationProgress(track, share)),
        stopping=run.stop.is_set,
        on_wait=on_wait,
    )
    return stages.separate(
        cast(Normalized, track.value),
        run.engine,
        run.policies.separation,
        deadline_s=run.deadline_s(track.duration_s),
        callbacks=callbacks,
    )


def _validate(track: TrackState, run: RunContext) -> Next:
    policies = run.policies
    made = stages.validate(cast(Separated, track.value), policies.completeness, policies.quality)
    if isinstance(made, Incomplete):
        get_run_logger().warning("%s: %s; making that again", track.label, made.found)
    return made


def _score(track: TrackState, run: RunContext) -> Next:
    given = cast(Validated, track.value)
    # Thresholds go by the genre, which is the first row's; the track stays the row that it is.
    made = stages.score(_credited(track, given), run.policies.quality)
    return made.credited_to(given.audio)


def _credited(track: TrackState, given: Known) -> Known:
    """The track as the first row of the catalog that has its audio, as far as the run knows."""
    return given.credited_to(track.claim.credit(track)) if track.claim else given


def _displaced(report: TrackReport, run: RunContext) -> TrackReport | None:
    """The report of another source that is about to be replaced."""
    place = report.track_id, report.separation_id
    if not (run.replace and run.library.is_finished(*place)):
        return None
    former = run.library.report(*place)
    return None if former.source == report.source else former


def _record(track: TrackState, run: RunContext) -> Next:
    given = _credited(track, cast(Scored, track.value))
    report = stages.report(
        given,
        run.policies.separation,
        run.run,
        pipeline_s=track.busy_s,
        attempts=track.attempts,
        calibration=run.calibration,
    )
    folder = given.mixture.path.parent
    track.displaced = _displaced(report, run)
    report = stages.record(report, folder, run.library, replace=run.replace)
    if track.claim and report.run.run_id != run.run.run_id:
        # Another process was first, with a row of its own.
        track.claim.credited = None
    run.engine.release(report.track_id)
    return Done(report)


def _write_rows(batch: Batch, run: RunContext) -> None:
    """One file a table for the whole batch. Lost rows are no loss: sidecars are the truth."""
    reports = [track.outcome.report for track in batch.tracks if isinstance(track.outcome, Done)]
    if not reports:
        return
    try:
        run.library.write_rows(reports)
    except StemwrightError as error:
        get_run_logger().error(
            "the tables lack %d rows until the next run: %s", len(reports), error
        )


# --- the tasks ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spec:
    """What a stage takes and does."""

    takes: tuple[type[Any], ...]
    work: Callable[[TrackState, RunContext], Next]
    description: str
    fills_a_core: bool = False
    finish: Callable[[Batch, RunContext], None] | None = None


STAGES: dict[Stage, _Spec] = {
    "ingest": _Spec((TrackRef,), _ingest, "Fetch the track's bytes to the local disk."),
    "normalize": _Spec(
        (Ingested,),
        _normalize,
        "Decode any codec to the lossless mixture; name it by content.",
        fills_a_core=True,
    ),
    "separate": _Spec(
        (Normalized, Incomplete), _separate, "Make the stems, holding the device alone."
    ),
    "validate": _Spec(
        (Separated,), _validate, "Check that every stem is there and whole.", fills_a_core=True
    ),
    "score": _Spec(
        (Validated,), _score, "Score the separation without ground truth.", fills_a_core=True
    ),
    "record": _Spec(
        (Scored,),
        _record,
        "Commit the folder, and add the rows to the tables.",
        finish=_write_rows,
    ),
}


def _is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, dict) and bool(state.data.get("retry"))


def _run_name() -> str:
    batch = task_run.parameters.get("batch")
    name = task_run.task_name or "stage"
    return f"{name} · {batch.label}" if isinstance(batch, Batch) else name


def _stage_task(stage: Stage, spec: _Spec) -> StageTask:
    @task(
        name=stage,
        description=spec.description,
        task_run_name=_run_name,
        retry_jitter_factor=0.3,
        retry_condition_fn=_is_transient,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run_stage(batch: Batch, run: RunContext) -> State[Any]:
        try:
            return _run_stage(stage, batch, run)
        finally:
            if spec.finish is not None:
                spec.finish(batch, run)

    return run_stage


STAGE_TASKS: dict[Stage, StageTask] = {
    name: _stage_task(name, spec) for name, spec in STAGES.items()
}
