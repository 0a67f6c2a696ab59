"""From settings to the one engine of a run: which engines there may be, in which order, made once.

Nothing is loaded and nobody is asked before the engine's first track.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts import LocalOptions, Provider, SeparationSettings, StemFormat, Value, Workload
from tasks.errors import SettingsError
from tasks.separation.services import CloudApi

if TYPE_CHECKING:
    from tasks.separation.engine import Engine
    from tasks.separation.fallback import FallbackEngine
    from tasks.separation.models import ModelSpec
    from tasks.separation.routing import Candidate, Route

log = logging.getLogger(__name__)


class EngineOptions(Value):
    """What is set of the engines.

    Attributes:
        settings: What is to be made; each engine is held against it.
        provider: What the user fixed; `auto` leaves it to `workload`.
        workload: A row of the decision matrix, or None: a GPU, else a service, else the CPU.
        services: In the order in which they are asked, those not set up included.
        fallback_to_local: With `provider` cloud: this machine takes over when no service can.
        cloud_after_oom: A service may take over from a GPU out of memory.
        cloud_jobs: Tracks at a service at once.
        upload_format: Of the mixture that a service is given.
        upload_own_bytes: Give a service the source's own bytes instead.
        log_retries: Log each wait for a service.
        models_dir: A folder of models; the usual one where None.
        offline: No network: no downloads and no services.
        fetch: Weights that aren't here are downloaded.
        auto_detect: Off: `auto` doesn't look for a GPU.
        one_device: Use one GPU, where there are several.
        clear_cache_between_jobs: Give the GPU's cached memory back after each track.
        log_vram_usage: Log the GPU's memory after each track.
        local: How a model is run on this machine.
    """

    settings: SeparationSettings = SeparationSettings()
    provider: Provider = "auto"
    workload: Workload | None = None
    services: tuple[CloudApi, ...] = ()
    fallback_to_local: bool = False
    cloud_after_oom: bool = True
    cloud_jobs: int = 16
    upload_format: StemFormat = "flac"
    upload_own_bytes: bool = False
    log_retries: bool = True
    models_dir: Path | None = None
    offline: bool = False
    fetch: bool = True
    auto_detect: bool = True
    one_device: bool = False
    clear_cache_between_jobs: bool = False
    log_vram_usage: bool = False
    local: LocalOptions = LocalOptions()

    def find_model(self, *, fetch: bool = True) -> ModelSpec:
        """Find the model's weights on this machine; `fetch` lets them be downloaded, too.

        Raises:
            UnknownModel, WeightsMissing, WeightsRefused: They can't be had.
        """
        from tasks.separation.models import find_model

        offline = self.offline or not (fetch and self.fetch)
        return find_model(self.settings.model, models_dir=self.models_dir, offline=offline)


def plan_route(options: EngineOptions) -> Route:
    """Choose the engines on this host and their order, with the reasons.

    Raises:
        SettingsError: The engine that was asked for can't be had here.
    """
    from tasks.separation.hardware import Hardware, detect
    from tasks.separation.routing import choose_engine

    look = {
        "auto": options.auto_detect,
        "local_gpu": True,
        "cloud": options.fallback_to_local,
        "local_cpu": False,
    }[options.provider]
    configured = any(not service.missing for service in options.services)
    return choose_engine(
        options.provider,
        options.workload,
        # Torch takes seconds to look.
        detect() if look else Hardware(),
        auto_detect=options.auto_detect,
        offline=options.offline,
        services=[service.facts() for service in options.services],
        fallback_to_local=options.fallback_to_local,
        cloud_after_oom=options.cloud_after_oom and configured,
    )


def make_engine(
    options: EngineOptions, route: Route | None = None, *, spec: ModelSpec | None = None
) -> tuple[FallbackEngine, Route]:
    """Make the engine of a route.

    It waits for this machine's devices itself, and holds them while it separates on them.

    Args:
        options: What is set.
        route: By default the one that `plan_route` chooses.
        spec: The model, where it has been found already.

    Returns:
        The engine, and the route without those that turned out not to be usable.

    Raises:
        UnknownModel, WeightsMissing, WeightsRefused, SettingsError: The engine that comes first, or
            every one of them, can't be made.
    """
    from tasks.separation.fallback import FallbackEngine
    from tasks.separation.routing import without

    if route is None:
        if options.offline:
            # A missing model is told of at once; looking at the hardware takes torch seconds.
            options.find_model(fetch=False)
        route = plan_route(options)
    engines: dict[str, Engine] = {}
    blocked: dict[str, str] = {}
    first_error: SettingsError | None = None
    for candidate in route.usable:
        try:
            engines[candidate.name] = _make_one(options, candidate, spec)
        except SettingsError as error:
            if candidate.part == "first" and candidate.engine != "cloud":
                raise
            first_error = first_error or error
            blocked[candidate.name] = error.cause.rstrip(".")
            log.info("%s can't be used: %s", candidate.words, error.cause)
    late = {one.name for one in route.usable if one.part == "after_oom"}
    after_oom = [engine for name, engine in engines.items() if name in late]
    if first_error and len(after_oom) == len(engines):
        raise first_error
    route = without(route, blocked) if blocked else route
    engine = FallbackEngine(
        [engine for name, engine in engines.items() if name not in late],
        after_oom=after_oom,
        cloud_after_oom=options.cloud_after_oom,
        reasons={one.name: route.reasons_of(one) for one in route.usable},
    )
    return engine, route


def _make_one(options: EngineOptions, candidate: Candidate, spec: ModelSpec | None) -> Engine:
    from tasks.separation.stem_choice import kept_stems

    if candidate.engine == "cloud":
        engine = _make_service(options, candidate)
    else:
        # Nobody waits for hundreds of megabytes that may never be needed, unless it was asked for.
        asked = options.fallback_to_local or options.workload == "budget"
        spec = spec or options.find_model(fetch=candidate.part == "first" or asked)
        engine = _make_local(options, candidate, spec)
    kept_stems(engine.info.model, engine.info.sources, options.settings.stems)
    return engine


def _make_local(options: EngineOptions, candidate: Candidate, spec: ModelSpec) -> Engine:
    from tasks.separation.local_engine import local_engine
    from tasks.separation.wrappers import DeviceLocked

    engine = local_engine(
        spec,
        device=candidate.device.partition(",")[0] if options.one_device else candidate.device,
        clear_cache_between_jobs=options.clear_cache_between_jobs,
        log_vram_usage=options.log_vram_usage,
        options=options.local,
    )
    return DeviceLocked(engine)


def _make_service(options: EngineOptions, candidate: Candidate) -> Engine:
    from tasks.net.retries import RetryPolicy
    from tasks.separation.cloud import CloudEngine, UploadPolicy
    from tasks.separation.wrappers import Budgeted, CircuitBroken

    service = next(one for one in options.services if one.label == candidate.name)
    engine = CloudEngine(
        options.settings.model,
        provider=service.make_provider(),
        label=service.label,
        policy=RetryPolicy(
            max_retries=max(1, service.max_retries),
            backoff_multiplier=service.backoff_multiplier,
            max_backoff_seconds=service.max_backoff_seconds,
        ),
        upload=UploadPolicy(format=options.upload_format, own_bytes=options.upload_own_bytes),
        max_jobs=options.cloud_jobs,
        log_retries=options.log_retries,
    )
    engine.check(options.settings)
    priced = Budgeted(engine, service.budget(), usd_per_minute=service.usd_per_minute)
    return CircuitBroken(priced, service.breaker())
