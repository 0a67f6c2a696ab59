"""One run, whichever flow it is of: set up, taken through the window, and the state it ends in."""

from __future__ import annotations

import os
from collections.abc import Iterable

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.parameters import RunControl
from flows.runner.progress import current_listener
from flows.runner.recorder import RunRecorder
from flows.runner.setup import Prepared, opened
from flows.runner.summary import RunSummary, empty_summary
from flows.runner.window import run_window
from tasks.contracts import Failure, Run, TrackRef
from tasks.events import Event, ProgressListener, RunStarted


def run_tracks(
    refs: Iterable[TrackRef | Failure],
    prepared: Prepared,
    control: RunControl,
    *,
    total: int | None,
) -> State[RunSummary]:
    """Take tracks through the pipeline and say how it went.

    Returns:
        Completed when every track has a report; Completed with the name "Partial" when some
        failed; Failed when all did, when the run ended early, or the quality gate stopped. The
        state's data is the `RunSummary`.
    """
    run = Run(run_id=str(flow_run.id or ""), flow_run_name=str(flow_run.name or ""))
    listeners: list[ProgressListener] = []

    def publish(event: Event) -> None:
        for listener in listeners:
            listener(event)

    with opened(
        prepared, run, publish, force=control.force, retry_failed=control.retry_failed
    ) as context:
        summary = empty_summary(prepared, context.library.url, run)
        recorder = RunRecorder(context.library, summary, fail_under=control.fail_under)
        listeners += [recorder, current_listener()]
        get_run_logger().info("%s on %s: %s", summary.model, summary.device, summary.reasons[0])
        publish(RunStarted(total))
        try:
            ended_early = run_window(
                refs,
                context,
                window=window_of(prepared),
                batch_size=prepared.settings.run.batch_size,
            )
            if ended_early:
                summary.halted = f"{ended_early.cause} {ended_early.remedy}".strip()
        finally:
            recorder.close()
    return final_state(summary)


def window_of(prepared: Prepared) -> int:
    """Return how many batches are in flight: one being separated, the rest fetched and scored.

    A service separates many at once: then as many are in flight as may be there.
    """
    settings = prepared.settings
    chosen = settings.run.jobs or settings.run.window
    if prepared.route.engine == "cloud":
        return chosen or settings.engine.cloud_jobs
    return chosen or min(8, (os.cpu_count() or 1) + 1)


def final_state(summary: RunSummary) -> State[RunSummary]:
    """Return the state a run ends in; one in which a track failed is never a plain Completed."""
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
