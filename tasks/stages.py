"""The six stages as retryable Prefect tasks over batches of tracks.

Each task works through the journeys of a batch that are still open and never raises for one of
them. A passing error makes the task retry, and a retry works only on what isn't done; a permanent
one ends that journey with its failure at once. A task in which every track failed ends as Failed,
one in which some did as Completed with the name "Partial".
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run
from prefect.states import Completed, Failed
from prefect.tasks import Task

from tasks.contracts import Failure, QualityReport, TrackReport
from tasks.crew import Batch, Crew, Journey, Stage
from tasks.errors import (
    IncompleteSeparation,
    Interrupted,
    OutOfMemory,
    RateLimited,
    StemwrightError,
    TransientError,
    from_os_error,
)

V = TypeVar("V")
Work = Callable[[Journey, Crew], None]
Finish = Callable[[Batch, Crew], None]
StageTask = Task[[Batch, Crew], State[Any]]

FILLS_A_CORE = frozenset({"normalize", "validate", "score"})


class _Attempt:
    """What came of one pass over a batch: journeys that may yet succeed, and those that failed."""

    def __init__(self) -> None:
        self.passing: list[tuple[Journey, StemwrightError]] = []
        self.failed: list[Journey] = []


def typed(error: Exception, journey: Journey, stage: Stage) -> StemwrightError:
    """Any exception as one of the family: a bug in a stage must not cost the other tracks."""
    if isinstance(error, StemwrightError):
        return error.with_context(track=journey.label, stage=stage)
    if isinstance(error, MemoryError):
        return OutOfMemory("not enough memory.", track=journey.label, stage=stage)
    if isinstance(error, OSError):
        return from_os_error(error, track=journey.label, stage=stage)
    return StemwrightError(
        f"unexpected {type(error).__name__}: {error}",
        track=journey.label,
        stage=stage,
        remedy="This is a fault of ours: please report it with the log of the run.",
    )


def _end_failed(journey: Journey, error: StemwrightError, crew: Crew) -> None:
    from tasks.sources import fingerprint

    track_id = journey.mixture.track_id if journey.mixture else None
    journey.failure = Failure.of(
        error,
        journey.ref,
        track_id=track_id,
        attempt=journey.attempts,
        run_id=crew.run.run_id,
        fingerprint=journey.audio.fingerprint if journey.audio else fingerprint(journey.ref),
    ).model_copy(update={"label": journey.label})
    if track_id and isinstance(error, IncompleteSeparation):
        # What a service has of it is no use; after any other end a later run goes on with it.
        crew.engine.release(track_id)
    shutil.rmtree(journey.folder, ignore_errors=True)


def _attempt(stage: Stage, work: Work, batch: Batch, crew: Crew) -> _Attempt:
    """Take every open journey of the batch through one stage, once."""
    attempt = _Attempt()
    for journey in batch.open():
        if stage in journey.stages_done:
            continue
        started = time.monotonic()
        crew.watcher.entered(journey, stage)
        try:
            crew.check_stop(journey)
            with crew.cores if stage in FILLS_A_CORE else nullcontext():
                work(journey, crew)
            journey.stages_done.add(stage)
        except Exception as raised:
            error = typed(raised, journey, stage)
            if not isinstance(raised, StemwrightError):
                get_run_logger().exception("%s failed in %s", journey.label, stage)
            passes = isinstance(error, TransientError) and not error.tried_enough
            if passes and not crew.stopping():
                attempt.passing.append((journey, error))
            else:
                _end_failed(journey, error, crew)
                attempt.failed.append(journey)
        finally:
            journey.busy_s += time.monotonic() - started
    return attempt


def _run_stage(stage: Stage, work: Work, batch: Batch, crew: Crew) -> State[Any]:
    """One attempt of a stage task; its state tells Prefect whether to try again."""
    logger = get_run_logger()
    number = batch.attempts[stage] = batch.attempts.get(stage, 0) + 1
    attempt = _attempt(stage, work, batch, crew)
    if attempt.passing and number <= crew.retries(stage):
        for journey, error in attempt.passing:
            journey.attempts += 1
            logger.warning(
                "%s: %s Trying again (attempt %d).", journey.label, error.cause, number + 1
            )
        _wait_as_asked(attempt, crew)
        return Failed(message=str(attempt.passing[0][1]), data={"retry": True})
    for journey, error in attempt.passing:
        _end_failed(journey, error, crew)
        attempt.failed.append(journey)
    return _final_state(stage, batch, attempt)


def _wait_as_asked(attempt: _Attempt, crew: Crew) -> None:
    """A service that names a time to wait is taken at its word, on top of our own backoff."""
    asked = [
        error.retry_after_s or 0.0 for _, error in attempt.passing if isinstance(error, RateLimited)
    ]
    until = time.monotonic() + min(max(asked, default=0.0), 300.0)
    while time.monotonic() < until and not crew.stopping():
        time.sleep(0.1)


def _final_state(stage: Stage, batch: Batch, attempt: _Attempt) -> State[Any]:
    for journey in attempt.failed:
        if journey.failure and journey.failure.error_type != Interrupted.__name__:
            get_run_logger().error("%s: %s", journey.label, journey.failure.message)
    if not attempt.failed:
        return Completed(message=f"{stage}: {len(batch.journeys)} done")
    reason = attempt.failed[0].failure
    message = f"{attempt.failed[0].label}: {reason.message if reason else ''}"
    if len(attempt.failed) == len(batch.journeys):
        return Failed(message=message, data={"retry": False})
    return Completed(name="Partial", message=f"{len(attempt.failed)} failed; first: {message}")


def _is_passing(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, dict) and bool(state.data.get("retry"))


def _run_name() -> str:
    batch = task_run.parameters.get("batch")
    name = task_run.task_name or "stage"
    return f"{name} · {batch.label}" if isinstance(batch, Batch) else name


def _stage_task(
    stage: Stage, work: Work, description: str, finish: Finish | None = None
) -> StageTask:
    @task(
        name=stage,
        description=description,
        task_run_name=_run_name,
        retry_jitter_factor=0.3,
        retry_condition_fn=_is_passing,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run_stage(batch: Batch, crew: Crew) -> State[Any]:
        try:
            return _run_stage(stage, work, batch, crew)
        finally:
            if finish is not None:
                finish(batch, crew)

    return run_stage


# --- what each stage does to one journey --------------------------------------------------------


def _ingest(journey: Journey, crew: Crew) -> None:
    from tasks.sources import ingest

    journey.folder.mkdir(parents=True, exist_ok=True)
    journey.audio = ingest(journey.ref, journey.folder, crew.ingest_policy)


def _normalize(journey: Journey, crew: Crew) -> None:
    from tasks.normalize import identify, normalize

    audio = _need(journey.audio)
    # Demuxing alone is a hundredth of decoding: worth it where the answer may be "done already".
    if len(crew.index) and _end_if_known(journey, identify(audio.path), crew):
        return
    made = journey.folder / "separation"
    made.mkdir(exist_ok=True)
    journey.mixture = normalize(audio, made, crew.audio_policy)
    # Only now may a download go: an object store that doesn't answer has all this tried again.
    if _end_if_known(journey, journey.mixture.track_id, crew):
        return
    if crew.keeps_sources:
        journey.mixture = journey.mixture.model_copy(update={"source_path": audio.path})
    elif audio.in_scratch:
        audio.path.unlink(missing_ok=True)


def _end_if_known(journey: Journey, track_id: str, crew: Crew) -> bool:
    """End the journey if this audio is in the library, or is being separated by another one."""
    journey.follows = crew.claim(track_id, journey)
    if journey.follows is None and (made := crew.finished(track_id)):
        journey.already = (track_id, made)
    if journey.ended:
        shutil.rmtree(journey.folder, ignore_errors=True)
    return journey.ended


def _separate(journey: Journey, crew: Crew) -> None:
    from tasks.separation.joining import join_stem_sets
    from tasks.separation.request import Callbacks, SeparationRequest

    mixture = _need(journey.mixture)
    made = crew.engine.separate(
        SeparationRequest(
            mixture,
            mixture.path.parent,
            crew.settings,
            only=journey.regenerated,
            gain=journey.stem_set.gain if journey.stem_set else None,
            deadline_s=crew.deadline_s(mixture.duration_s),
            callbacks=Callbacks(
                on_progress=lambda share: crew.watcher.separated(journey, share),
                stopping=crew.stopping,
            ),
        )
    )
    before = journey.stem_set
    journey.stem_set = join_stem_sets(before, made) if before else made


def _validate(journey: Journey, crew: Crew) -> None:
    from tasks.validation import check_completeness

    stem_set = _need(journey.stem_set)
    found = check_completeness(_need(journey.mixture), stem_set, crew.completeness_policy)
    journey.completeness = found
    if found.complete:
        return
    what = "; ".join(found.problems) or f"missing: {', '.join(found.missing)}"
    if journey.regenerated or not found.missing:
        raise IncompleteSeparation(
            f"the separation is incomplete: {what.rstrip('.')}.",
            missing=found.missing,
            remedy="Run the same command again, or try another engine (--provider)."
            if found.missing
            else "Listen to what the stems leave; completeness.max_residual_db sets the limit.",
        )
    get_run_logger().warning("%s: %s; making that again", journey.label, what)
    journey.regenerated = frozenset(found.missing)


def _score(journey: Journey, crew: Crew) -> None:
    from tasks.quality import score_separation

    stem_set, mixture = _need(journey.stem_set), _need(journey.mixture)
    journey.quality = score_separation(
        mixture.path,
        stem_set.stems,
        crew.quality_policy,
        gain=stem_set.gain,
        all_stems=stem_set.all_stems,
        model=stem_set.model,
        genre=journey.ref.genre or (journey.audio.tags.genre if journey.audio else ""),
        source_damaged_s=mixture.source_damaged_s if mixture.source_damages else None,
    )


def _record(journey: Journey, crew: Crew) -> None:
    report = crew.library.commit(
        _need(journey.mixture).path.parent, build_report(journey, crew), replace=crew.force
    )
    shutil.rmtree(journey.folder, ignore_errors=True)
    crew.engine.release(report.track_id)
    journey.report = report


def _write_rows(batch: Batch, crew: Crew) -> None:
    """One file a table for the whole batch. Lost rows are no loss: sidecars are the truth."""
    owed = [journey for journey in batch.journeys if journey.report and not journey.in_tables]
    if not owed:
        return
    reports = [journey.report for journey in owed if journey.report]
    try:
        crew.library.write_rows(reports)
    except StemwrightError as error:
        get_run_logger().error(
            "the tables lack %d rows until the next run: %s", len(reports), error
        )
        return
    for journey in owed:
        journey.in_tables = True


def build_report(journey: Journey, crew: Crew) -> TrackReport:
    """All that is known of a journey's track. The catalog's words win over the tags'."""
    ref, audio, mixture = journey.ref, _need(journey.audio), _need(journey.mixture)
    stem_set = _need(journey.stem_set)
    tags = audio.tags
    genre = ref.genre or tags.genre
    return TrackReport(
        track_id=mixture.track_id,
        separation_id=stem_set.separation_id,
        source=ref.source,
        fingerprint=audio.fingerprint,
        title=ref.title or tags.title,
        artist=ref.artist or tags.artist,
        album=ref.album or tags.album,
        genre=genre,
        isrc=ref.isrc or tags.isrc,
        extra=tags.extra | ref.extra,
        duration_s=mixture.duration_s,
        mixture=mixture,
        settings=crew.settings,
        stem_set=stem_set,
        completeness=_need(journey.completeness),
        quality=_placed(_need(journey.quality), crew, stem_set.model, genre),
        pipeline_s=journey.busy_s,
        attempts=journey.attempts,
        run=crew.run,
    )


def _placed(quality: QualityReport, crew: Crew, model: str, genre: str) -> QualityReport:
    """With where it stands among its like, in a library that has been reviewed."""
    if crew.calibration is None:
        return quality
    return crew.calibration.place(quality, model=model, genre=genre)


def _need(value: V | None) -> V:
    if value is None:
        raise RuntimeError("a stage ran before the one that it needs")
    return value


STAGE_TASKS: dict[Stage, StageTask] = {
    "ingest": _stage_task("ingest", _ingest, "Fetch the track's bytes to the local disk."),
    "normalize": _stage_task(
        "normalize", _normalize, "Decode any codec to the lossless mixture; name it by content."
    ),
    "separate": _stage_task("separate", _separate, "Make the stems, holding the device alone."),
    "validate": _stage_task("validate", _validate, "Check that every stem is there and whole."),
    "score": _stage_task("score", _score, "Score the separation without ground truth."),
    "record": _stage_task(
        "record", _record, "Commit the folder, and add the rows to the tables.", finish=_write_rows
    ),
}
