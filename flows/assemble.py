"""From settings to a crew: finds the model, chooses the engine, opens the library.

Whatever is wrong with the settings shows here, before anything is started.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from blocks.settings import StemwrightSettings
from flows.engines import chain_of, find_model, route_of
from flows.reviewing import calibration_of
from flows.summary import RunSummary
from tasks.contracts import Run
from tasks.crew import Crew, Watcher
from tasks.recording import Library

if TYPE_CHECKING:
    from tasks.separation.fallback import EngineChain
    from tasks.separation.routing import Route

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What will separate: the engines and why, the model, and the names of what they make."""

    route: Route
    separator: EngineChain
    separation_ids: tuple[str, ...]

    @property
    def separation_id(self) -> str:
        return self.separation_ids[0]

    @property
    def model(self) -> str:
        return self.separator.spec.name

    @property
    def sources(self) -> tuple[str, ...]:
        return self.separator.spec.sources


def choose(settings: StemwrightSettings, *, measure: bool = False) -> Choice:
    """Choose the engines and find their model; nothing is loaded yet.

    Args:
        measure: On a GPU that this model never ran on, find out what is fastest: it may be another
            precision, which is part of what the stems are called.

    Raises:
        UnknownModel, WeightsMissing, WeightsRefused, SettingsError: What is set can't work.
    """
    wanted = settings.separation_settings()
    if settings.engine.offline:
        # A missing model is told of at once; looking at the hardware takes torch seconds.
        find_model(settings)
    chain, route = chain_of(settings, route_of(settings))
    if measure:
        chain.measure()
    return Choice(route, chain, chain.separation_ids(wanted))


@contextmanager
def assemble(
    settings: StemwrightSettings,
    *,
    run_id: str,
    flow_run_name: str,
    watcher: Watcher,
    force: bool = False,
    retry_failed: bool = False,
) -> Iterator[tuple[Crew, RunSummary]]:
    """A crew ready to work, and the empty summary of its run; scratch is removed afterwards."""
    from tasks.separation.local import default_deadline_s
    from tasks.separation.models.registry import EMBEDDED

    choice = choose(settings, measure=True)
    wanted = settings.separation_settings()
    library = Library(settings.library)
    # Where a service may take a part, the chain holds the device for as long as it needs it.
    alone = all(leg.engine != "cloud" for leg in choice.route.legs)

    def deadline_s(duration_s: float) -> float | None:
        # This machine's own default goes by what was measured, and is its engine's to know.
        default_s = None if choice.route.device else default_deadline_s(duration_s, "")
        return settings.engine.deadline_seconds or default_s

    # The embedded model is small: no slower on a CPU than the rest of the pipeline.
    if choice.route.warning and choice.model != EMBEDDED:
        log.warning(choice.route.warning)
    try:
        with library.workspace(run_id) as workspace:
            crew = Crew(
                library=library,
                workspace=workspace,
                index=library.index(),
                separator=choice.separator,
                separation_id=choice.separation_id,
                separation_ids=choice.separation_ids,
                lost=choice.separator.lost,
                keeps_sources=not (alone or settings.audio.normalize_before_submit),
                settings=wanted,
                ingest_policy=settings.ingest_policy(),
                audio_policy=settings.audio_policy(),
                completeness_policy=settings.completeness,
                quality_policy=settings.quality,
                run=Run(
                    run_id=run_id,
                    flow_run_name=flow_run_name,
                    stemwright_version=version("stemwright"),
                ),
                watcher=watcher,
                device_name=choice.route.device if alone else "",
                device_slots=choice.separator.slots,
                deadline_s=deadline_s,
                retries=settings.run.retries,
                retry_base_s=settings.run.retry_delay_seconds,
                calibration=calibration_of(library),
                force=force,
                retry_failed=retry_failed,
            )
            yield (
                crew,
                RunSummary(
                    library=library.url,
                    run_id=run_id,
                    flow_run_name=flow_run_name,
                    separation_id=choice.separation_id,
                    model=choice.model,
                    engine=choice.route.engine,
                    provider=choice.route.provider,
                    device=choice.route.device or choice.route.provider,
                    reasons=list(choice.route.reasons),
                ),
            )
    finally:
        choice.separator.close()
