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
from flows.summary import RunSummary
from tasks.contracts import Run
from tasks.crew import Crew, Watcher
from tasks.errors import SettingsError
from tasks.recording import Library

if TYPE_CHECKING:
    from tasks.separation.cloud import CloudSeparator
    from tasks.separation.local import LocalSeparator
    from tasks.separation.models import ModelSpec
    from tasks.separation.routing import Route

log = logging.getLogger("stemwright")


@dataclass(frozen=True)
class Choice:
    """What will separate: the engine and why, the model, and the name of what they make."""

    route: Route
    separator: LocalSeparator | CloudSeparator
    separation_id: str

    @property
    def model(self) -> str:
        return self.separator.spec.name

    @property
    def sources(self) -> tuple[str, ...]:
        return self.separator.spec.sources


def choose(settings: StemwrightSettings) -> Choice:
    """Choose the engine and find its model; nothing is loaded yet.

    Raises:
        UnknownModel, WeightsMissing, WeightsRefused, SettingsError: What is set can't work.
    """
    wanted = settings.separation_settings()
    if settings.engine.offline:
        # A missing model is told of at once; looking at the hardware takes torch seconds.
        _find_model(settings)
    route = route_of(settings)
    separator = (
        _cloud_separator(settings, route)
        if route.engine == "cloud"
        else _local_separator(settings, route)
    )
    sources = separator.spec.sources
    unknown = sorted(set(wanted.stems) - set(sources))
    if unknown:
        raise SettingsError(
            f"the model {wanted.model} makes no stem called {', '.join(unknown)}.",
            remedy=f"It makes {', '.join(sources)}.",
        )
    return Choice(route, separator, separator.separation_id(wanted))


def route_of(settings: StemwrightSettings) -> Route:
    """The engine for these settings on this host, with the reasons.

    Raises:
        SettingsError: The engine that was asked for can't be had here.
    """
    from tasks.separation.hardware import detect
    from tasks.separation.routing import choose_engine

    if settings.engine.provider == "cloud":
        settings.require_cloud()
    # Without a workload of the user's choice: a GPU, else a configured cloud, else the CPU.
    chosen = "engine.workload" in settings.sources()
    return choose_engine(
        settings.engine.provider,
        settings.engine.workload if chosen else None,
        detect(),
        cloud_configured=settings.cloud_configured,
        auto_detect=settings.gpu.auto_detect,
        offline=settings.engine.offline,
    )


def _cloud_separator(settings: StemwrightSettings, route: Route) -> CloudSeparator:
    from tasks.separation.cloud import CloudSeparator, RetryPolicy

    engine = settings.engine
    return CloudSeparator(
        settings.separation_settings().model,
        base_url=engine.base_url,
        api_key=engine.api_key,
        policy=RetryPolicy(
            max_retries=max(1, engine.max_retries),
            backoff_multiplier=engine.backoff_multiplier,
            max_backoff_seconds=engine.max_backoff_seconds,
        ),
        log_retries=settings.logging.log_retries,
        reasons=route.reasons,
    )


def _find_model(settings: StemwrightSettings) -> ModelSpec:
    from tasks.separation.models import find_model

    return find_model(
        settings.separation_settings().model,
        models_dir=settings.models_dir,
        offline=settings.engine.offline,
    )


def _local_separator(settings: StemwrightSettings, route: Route) -> LocalSeparator:
    from tasks.separation.local import LocalSeparator

    return LocalSeparator(
        _find_model(settings),
        device=route.device,
        reasons=route.reasons,
        clear_cache_between_jobs=settings.gpu.clear_cache_between_jobs,
        log_vram_usage=settings.logging.log_vram_usage,
    )


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
    local = choice.route.engine != "cloud"

    def deadline_s(duration_s: float) -> float | None:
        return settings.engine.deadline_seconds or default_deadline_s(
            duration_s, choice.route.device
        )

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
                device_name=choice.route.device if local else "",
                deadline_s=deadline_s,
                retries=settings.run.retries,
                retry_base_s=settings.run.retry_delay_seconds,
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
                    device=choice.route.device or settings.engine.base_url,
                    reasons=list(choice.route.reasons),
                ),
            )
    finally:
        choice.separator.close()
