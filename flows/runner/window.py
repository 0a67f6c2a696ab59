"""The window: a bounded number of tracks in flight, each batch driven through the six stages.

One thread drives one batch. Stages of different batches overlap, separation holds the device
alone, and the catalog is read only as fast as batches end: memory and scratch don't depend on
how many tracks there are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from itertools import chain, islice

from prefect.tasks import exponential_backoff

from flows.runner.settled import settled_as
from tasks.contracts import Failure, TrackRef
from tasks.errors import Interrupted, StemwrightError
from tasks.events import RowRefused, Stage, Tick, TrackEnded, TrackStarted
from tasks.outcome import Duplicate, Failed
from tasks.run_context import EarlyEnd, RunContext, TrackState
from tasks.stage_tasks import STAGE_TASKS, Batch, StageTask, typed

log = logging.getLogger(__name__)

TRACKS_WITH_THEIR_OWN_TASKS = 300
LARGE_BATCH = 25
"""Above some 2,000 task runs Prefect's own cost matters: then tens of tracks share a task."""

POLL_S = 0.5


def batches(tracks: Iterable[TrackState], size: int = 0) -> Iterator[Batch]:
    """Group tracks: `size` a batch, or (0) one each for the first 300 and then 25."""
    rest = iter(tracks)
    if not size:
        for track in islice(rest, TRACKS_WITH_THEIR_OWN_TASKS):
            yield Batch([track])
    while group := list(islice(rest, size or LARGE_BATCH)):
        yield Batch(group)


def tracks_of(refs: Iterable[TrackRef | Failure], run: RunContext) -> Iterator[TrackState]:
    """Start each track of a catalog; those that are done already end here.

    So a second run over a finished catalog starts no task, fetches nothing and decodes nothing.
    """
    for position, ref in enumerate(refs):
        if isinstance(ref, Failure):
            run.publish(RowRefused(ref.model_copy(update={"run_id": run.run.run_id})))
            continue
        # A catalog may have several rows of one source.
        folder = run.workspace / f"{ref.key}-{position}"
        track = TrackState(ref=ref, folder=folder, position=position)
        run.publish(TrackStarted(track))
        outcome = settled_as(ref, run.known)
        if outcome is None:
            yield track
        else:
            track.end(outcome)
            run.publish(TrackEnded(track))


def run_window(
    refs: Iterable[TrackRef | Failure], run: RunContext, *, window: int, batch_size: int = 0
) -> StemwrightError | None:
    """Take every track of a catalog to its end, at most `window` batches at a time.

    Ends early, with the tracks in flight, where nothing could come of a further one. Ends of
    tracks, refused rows and ticks are published from this thread.

    Args:
        refs: Tracks, and the failures of rows that can't be read; consumed lazily.
        run: What the tracks share.
        window: Batches in flight.
        batch_size: Tracks a batch; 0 chooses.

    Returns:
        Why the run ended before its catalog did, or None.

    Raises:
        KeyboardInterrupt: As it came, once the tracks in flight have reached a safe point.
    """
    stages = _stages(run)
    early = EarlyEnd(run.engine)
    source = batches(tracks_of(refs, run), batch_size)
    running: set[Future[Batch]] = set()
    with ThreadPoolExecutor(max_workers=window, thread_name_prefix="track") as pool:
        try:
            for batch in chain(_until_early_end(source, early), (None,)):
                if batch is not None:
                    running.add(pool.submit(copy_context().run, _drive, batch, run, stages))
                while running and (batch is None or len(running) >= window):
                    _collect(running, run, early)
        except BaseException:
            run.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            _collect_finished(running, run)
            raise
    return early.cause


def _until_early_end(source: Iterator[Batch], early: EarlyEnd) -> Iterator[Batch]:
    """The batches until something has happened that would fail all later ones, too."""
    while early.cause is None and (batch := next(source, None)) is not None:
        yield batch


def _collect(running: set[Future[Batch]], run: RunContext, early: EarlyEnd) -> None:
    finished, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
    for future in finished:
        running.discard(future)
        for track in future.result().tracks:
            early.note(track.outcome)
            run.publish(TrackEnded(track))
    run.publish(Tick())


def _collect_finished(running: set[Future[Batch]], run: RunContext) -> None:
    """After an interrupt: what was finished meanwhile still counts."""
    for future in running:
        if future.done() and not future.cancelled() and future.exception() is None:
            for track in future.result().tracks:
                if not (track.failure and track.failure.is_a(Interrupted)):
                    run.publish(TrackEnded(track))


def _stages(run: RunContext) -> dict[Stage, StageTask]:
    """The stage tasks with this run's own retries."""
    delay = exponential_backoff(backoff_factor=run.retry_base_s)
    return {
        name: task.with_options(retries=run.retries(name), retry_delay_seconds=delay)
        for name, task in STAGE_TASKS.items()
    }


def _drive(batch: Batch, run: RunContext, stages: dict[Stage, StageTask]) -> Batch:
    """Take one batch through all stages, in this thread."""

    def take(*names: Stage) -> None:
        for name in names:
            if due := batch.due(name):
                part = batch if len(due) == len(batch.open()) else Batch(due)
                stages[name](part, run, return_state=True)

    try:
        take("ingest", "normalize")
        # Stems that turn out broken are made again, once: validating them a second time ends it.
        while batch.due("separate"):
            take("separate", "validate")
        take("score", "record")
    except Exception as error:
        # One batch's trouble (no lock file, Prefect not answering) is not the other tracks'.
        log.exception("%s ended early", batch.label)
        for track in batch.open():
            track.fail(typed(error, track, "separate"), run_id=run.run.run_id)
    finally:
        for track in batch.tracks:
            _close(track, run)
    for track in batch.tracks:
        _follow(track)
        _credit(track, run)
    return batch


def _close(track: TrackState, run: RunContext) -> None:
    """However the stages ended, a track has an end, and those with the same audio know of it."""
    if track.outcome is None:
        track.fail(StemwrightError("the run ended before this track did."), run_id=run.run.run_id)
    if track.claim and not isinstance(track.outcome, Duplicate):
        track.claim.over.set()


def _follow(track: TrackState) -> None:
    """Give a track with the same audio as another's that other one's end.

    Waiting is safe here: this batch's own tracks are over, so nobody waits for it in turn.
    """
    claim = track.claim
    if claim is None or not isinstance(track.outcome, Duplicate):
        return
    claim.over.wait()
    if claim.failure is None:
        track.outcome = Duplicate(claim.label, claim.place)
        return
    failure = claim.failure.model_copy(
        update={
            "source": track.ref.source,
            "label": track.label,
            "fingerprint": track.fingerprint,
            "message": f"the same audio as {claim.source}, which failed: {claim.failure.message}",
        }
    )
    track.outcome = Failed(failure)


def _credit(track: TrackState, run: RunContext) -> None:
    try:
        run.credit(track)
    except StemwrightError as error:
        # Nothing is lost: the row then is one of the aliases.
        log.warning("%s: the report stays another row's: %s", track.label, error)
