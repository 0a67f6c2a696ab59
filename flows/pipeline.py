"""The window: a bounded number of tracks in flight, each batch driven through the six stages.

One thread drives one batch. Stages of different batches overlap, separation holds the device
alone, and the catalog is read only as fast as batches end: memory and scratch don't depend on
how many tracks there are.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from itertools import chain, islice

from prefect.tasks import exponential_backoff

from flows.known_failures import remembered_failure
from tasks.contracts import Failure, TrackRef
from tasks.crew import Batch, Crew, Journey, Stage
from tasks.errors import Interrupted, StemwrightError, TransientError
from tasks.sources import fingerprint
from tasks.stages import STAGE_TASKS, StageTask, typed

log = logging.getLogger(__name__)

TRACKS_WITH_THEIR_OWN_TASKS = 300
LARGE_BATCH = 25
"""Above some 2,000 task runs Prefect's own cost matters: then tens of tracks share a task."""

POLL_S = 0.5

Ended = Callable[[Journey], None]
Found = Callable[[Failure], None]


def batches(journeys: Iterable[Journey], size: int = 0) -> Iterator[Batch]:
    """Group journeys: `size` a batch, or (0) one each for the first 300 and then 25."""
    rest = iter(journeys)
    if not size:
        for journey in islice(rest, TRACKS_WITH_THEIR_OWN_TASKS):
            yield Batch([journey])
    while group := list(islice(rest, size or LARGE_BATCH)):
        yield Batch(group)


def journeys_of(
    refs: Iterable[TrackRef | Failure], crew: Crew, ended: Ended, broken: Found
) -> Iterator[Journey]:
    """Start a journey for each track of a catalog; those that are done already end here.

    So a second run over a finished catalog starts no task, fetches nothing and decodes nothing.
    """
    for ref in refs:
        if isinstance(ref, Failure):
            broken(ref.model_copy(update={"run_id": crew.run.run_id}))
            continue
        journey = Journey(ref=ref, folder=crew.workspace / ref.key)
        crew.watcher.started(journey)
        _end_if_remembered(journey, crew)
        if journey.ended:
            journey.over.set()
            ended(journey)
        else:
            yield journey


def _end_if_remembered(journey: Journey, crew: Crew) -> None:
    ref = journey.ref
    mark = fingerprint(ref)
    if not crew.force:
        for name in crew.separation_ids:
            track_id = crew.index.find(ref.source, mark, name)
            if track_id and _is_finished(track_id, name, crew):
                journey.already = (track_id, name)
                journey.remembered = True
                return
    if not (crew.retry_failed or crew.force):
        earlier = remembered_failure(ref, crew.index)
        if earlier:
            journey.remembered = True
            journey.failure = earlier.model_copy(
                update={
                    "label": journey.label,
                    "remedy": f"{earlier.remedy} It failed so in an earlier run and hasn't "
                    "changed since; --retry-failed tries it again.".strip(),
                }
            )


def _is_finished(track_id: str, separation_id: str, crew: Crew) -> bool:
    try:
        return crew.library.is_finished(track_id, separation_id)
    except TransientError:
        # The normalize stage asks again, with retries: not a reason to end the run here.
        return False


def run_window(
    refs: Iterable[TrackRef | Failure],
    crew: Crew,
    *,
    window: int,
    batch_size: int = 0,
    ended: Ended,
    broken: Found,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Take every track of a catalog to its end, at most `window` batches at a time.

    Ends early, with the tracks in flight, where nothing could come of a further one
    (`Crew.halted`).

    Args:
        refs: Tracks, and the failures of rows that can't be read; consumed lazily.
        crew: What the run owns.
        window: Batches in flight.
        batch_size: Tracks a batch; 0 chooses.
        ended: Told of each journey that ended, from this thread.
        broken: Told of each row that couldn't be read, from this thread.
        tick: Called about twice a second and after each batch, from this thread.

    Raises:
        KeyboardInterrupt: As it came, once the tracks in flight have reached a safe point.
    """
    stages = _stages(crew)
    source = batches(journeys_of(refs, crew, ended, broken), batch_size)
    running: set[Future[Batch]] = set()
    with ThreadPoolExecutor(max_workers=window, thread_name_prefix="track") as pool:
        try:
            for batch in chain(_until_halted(source, crew), (None,)):
                if batch is not None:
                    running.add(pool.submit(copy_context().run, _drive, batch, crew, stages))
                while running and (batch is None or len(running) >= window):
                    _collect(running, crew, ended, tick)
        except BaseException:
            crew.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            _collect_finished(running, ended)
            raise


def _until_halted(source: Iterator[Batch], crew: Crew) -> Iterator[Batch]:
    """The batches until something has happened that would fail all later ones, too."""
    while crew.halted is None and (batch := next(source, None)) is not None:
        yield batch


def _collect(
    running: set[Future[Batch]], crew: Crew, ended: Ended, tick: Callable[[], None]
) -> None:
    finished, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
    for future in finished:
        running.discard(future)
        for journey in future.result().journeys:
            crew.note(journey)
            ended(journey)
            journey.lighten()
    tick()


def _collect_finished(running: set[Future[Batch]], ended: Ended) -> None:
    """After an interrupt: what was finished meanwhile still counts."""
    for future in running:
        if future.done() and not future.cancelled() and future.exception() is None:
            for journey in future.result().journeys:
                if not (journey.failure and journey.failure.error_type == Interrupted.__name__):
                    ended(journey)


def _stages(crew: Crew) -> dict[Stage, StageTask]:
    """The stage tasks with this run's own retries."""
    delay = exponential_backoff(backoff_factor=crew.retry_base_s)
    return {
        name: task.with_options(retries=crew.retries(name), retry_delay_seconds=delay)
        for name, task in STAGE_TASKS.items()
    }


def _drive(batch: Batch, crew: Crew, stages: dict[Stage, StageTask]) -> Batch:
    """Take one batch through all stages, in this thread."""
    try:
        _stage(stages["ingest"], batch, crew)
        _stage(stages["normalize"], batch, crew)
        _separate(batch, crew, stages)
        again = [journey for journey in batch.open() if journey.regenerated]
        if again:
            for journey in again:
                journey.stages_done -= {"separate", "validate"}
            _separate(Batch(again), crew, stages)
        _stage(stages["score"], batch, crew)
        _stage(stages["record"], batch, crew)
    except Exception as error:
        # One batch's trouble (no lock file, Prefect not answering) is not the other tracks'.
        log.exception("%s ended early", batch.label)
        for journey in batch.open():
            _fail(journey, typed(error, journey, "separate"), crew)
    finally:
        for journey in batch.journeys:
            _close(journey, crew)
    _resolve_followers(batch, crew)
    return batch


def _stage(task: StageTask, batch: Batch, crew: Crew) -> None:
    if batch.open():
        task(batch, crew, return_state=True)


def _separate(batch: Batch, crew: Crew, stages: dict[Stage, StageTask]) -> None:
    """Separate what isn't separated yet, and see whether it is whole."""
    if not batch.open():
        return
    _stage(stages["separate"], batch, crew)
    _stage(stages["validate"], batch, crew)


def _close(journey: Journey, crew: Crew) -> None:
    """However the stages ended, a journey has an end, and nothing of it stays in scratch."""
    if not journey.ended:
        _fail(journey, StemwrightError("the run ended before this track did."), crew)
    shutil.rmtree(journey.folder, ignore_errors=True)
    journey.over.set()


def _fail(journey: Journey, error: StemwrightError, crew: Crew) -> None:
    failure = Failure.of(error, journey.ref, run_id=crew.run.run_id)
    journey.failure = failure.model_copy(update={"label": journey.label})


def _resolve_followers(batch: Batch, crew: Crew) -> None:
    """Give each journey with the same audio as another's that other one's end.

    Waiting is safe here: this batch's own journeys are over, so nobody waits for it in turn.
    """
    for journey in batch.journeys:
        owner = journey.follows
        if owner is None:
            continue
        owner.over.wait()
        if owner.failure is None:
            continue
        journey.failure = owner.failure.model_copy(
            update={
                "source": journey.ref.source,
                "label": journey.label,
                "fingerprint": journey.audio.fingerprint if journey.audio else "",
                "message": f"the same audio as {owner.ref.source}, which failed: "
                f"{owner.failure.message}",
            }
        )
