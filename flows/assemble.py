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
from flows.reviewing import calibration_of
from flows.summary import RunSummary
from tasks.contracts import Run
from tasks.crew import Crew, Watcher
from tasks.recording import Library

if TYPE_CHECKING:
    from tasks.separation.engine import Engine
    from tasks.separation.routing import Route

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What will separate: the engines and why, the model, and the names of what they make."""

    route: Route
    engine: Engine
    separation_ids: tuple[str, ...]

    @property
    def separation_id(self) -> str:
        return self.separation_ids[0]

    @property
    def model(self) -> str:
        return self.engine.info.model

    @property
    def sources(self) -> tuple[str, ...]:
        return self.engine.info.sources


def choose(settings: StemwrightSettings) -> Choice:
    """Choose the engines and find their model; nothing is loaded yet.

    Raises:
        UnknownModel, WeightsMissing, WeightsRefused, SettingsError: What is set can't work.
    """
    from tasks.separation.factory import make_engine

    engine, route = make_engine(settings.engine_options())
    return Choice(route, engine, engine.accepted_ids(settings.separation_settings()))


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

    choice = choose(settings)
    wanted = settings.separation_settings()
    library = Library(settings.library)
    alone = all(one.engine != "cloud" for one in choice.route.usable)

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
                engine=choice.engine,
                separation_id=choice.separation_id,
                separation_ids=choice.separation_ids,
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
        choice.engine.close()
