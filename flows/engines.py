"""From settings to engines: what may separate, in which order, and the chain of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blocks.sections import CloudApi
from blocks.settings import StemwrightSettings
from tasks.contracts import STEMS
from tasks.errors import SettingsError, StemwrightError

if TYPE_CHECKING:
    from tasks.contracts import Mixture, SeparationSettings
    from tasks.separation.budget import Budget
    from tasks.separation.cloud import CloudSeparator
    from tasks.separation.cloud.service import Order, Service
    from tasks.separation.fallback import EngineChain
    from tasks.separation.legs import Leg
    from tasks.separation.models import ModelSpec
    from tasks.separation.routing import Candidate, Route, ServiceFacts

log = logging.getLogger(__name__)


def route_of(settings: StemwrightSettings) -> Route:
    """The engines for these settings on this host, with the reasons.

    Raises:
        SettingsError: The engine that was asked for can't be had here.
    """
    from tasks.separation.hardware import detect
    from tasks.separation.routing import choose_engine

    engine = settings.engine
    if engine.provider == "cloud":
        settings.require_cloud()
    # Without a workload of the user's choice: a GPU, else a configured cloud, else the CPU.
    chosen = "engine.workload" in settings.sources()
    return choose_engine(
        engine.provider,
        engine.workload if chosen else None,
        detect(),
        cloud_configured=settings.cloud_configured,
        auto_detect=settings.gpu.auto_detect,
        offline=engine.offline,
        services=[service_facts(service) for service in settings.services],
        fallback_to_local=engine.fallback_to_local,
        cloud_after_oom=settings.gpu.fallback_to_cloud_on_oom and settings.cloud_configured,
    )


def service_facts(service: CloudApi) -> ServiceFacts:
    """What routing has to know of a service; asks nobody."""
    from tasks.separation.breaker import breaker_of
    from tasks.separation.routing import ServiceFacts

    paused = note = ""
    wait_s = breaker_of(service.label, service.base_url).left_s
    if wait_s > 0:
        paused = f"it is left alone for {wait_s:.0f} s more after repeated faults"
    if budget := budget_of(service):
        try:
            spent = budget.spent()
        except StemwrightError as error:
            note = error.cause.rstrip(".")
        else:
            note = spent.sentence
            if spent.used_up:
                paused = f"its limit is reached until {spent.resets:%Y-%m-%d %H:%M} UTC"
    return ServiceFacts(
        name=service.label,
        usd_per_minute=service.usd_per_minute,
        blocked=service.missing,
        paused=paused,
        note=note,
    )


def budget_of(service: CloudApi) -> Budget | None:
    """The book of what goes to a service, where there is a limit or a price."""
    from tasks.separation.budget import Budget, Limit

    if not (service.limit_minutes or service.limit_usd or service.usd_per_minute):
        return None
    limit = Limit(minutes=service.limit_minutes, usd=service.limit_usd, period=service.limit_period)
    return Budget(service.label, limit)


def chain_of(settings: StemwrightSettings, route: Route) -> tuple[EngineChain, Route]:
    """The engines of a route as a chain; nothing is loaded and nobody is asked.

    Returns:
        The chain, and the route without those that turned out not to be usable.

    Raises:
        UnknownModel, WeightsMissing, WeightsRefused, SettingsError: The engine that comes first, or
            every one of them, can't be made.
    """
    from tasks.separation.fallback import EngineChain
    from tasks.separation.routing import without

    legs: list[Leg] = []
    blocked: dict[str, str] = {}
    first_error: SettingsError | None = None
    make = _Maker(settings, route)
    for candidate in route.legs:
        try:
            legs.append(make.leg(candidate))
        except SettingsError as error:
            if candidate.part == "first" and candidate.engine != "cloud":
                raise
            first_error = first_error or error
            blocked[candidate.name] = error.cause.rstrip(".")
            log.info("%s can't be used: %s", candidate.words, error.cause)
    if first_error and all(leg.only_after_oom for leg in legs):
        raise first_error
    if blocked:
        return chain_of(settings, without(route, blocked))
    return EngineChain(legs, cloud_after_oom=settings.gpu.fallback_to_cloud_on_oom), route


def find_model(settings: StemwrightSettings, *, fetch: bool = True) -> ModelSpec:
    """The model's weights on this machine; `fetch` lets them be downloaded."""
    from tasks.separation import models

    return models.find_model(
        settings.separation_settings().model,
        models_dir=settings.models_dir,
        offline=settings.engine.offline or not fetch,
    )


class _Maker:
    """Makes the legs of one chain."""

    def __init__(self, settings: StemwrightSettings, route: Route) -> None:
        self._settings = settings
        self._route = route
        self._services = {service.label: service for service in settings.services}
        self._mixed = any(candidate.engine == "cloud" for candidate in route.legs)

    def leg(self, candidate: Candidate) -> Leg:
        return self._cloud(candidate) if candidate.engine == "cloud" else self._local(candidate)

    def _reasons(self, candidate: Candidate) -> tuple[str, ...]:
        if candidate.part == "first":
            return self._route.reasons
        return (f"{candidate.words[0].upper()}{candidate.words[1:]}", "took over")

    def _local(self, candidate: Candidate) -> Leg:
        from tasks.separation.device_lock import DeviceLock
        from tasks.separation.legs import Leg
        from tasks.separation.local_engine import local_engine

        settings = self._settings
        first = candidate.part == "first"
        # Nobody waits for hundreds of megabytes that may never be needed, unless it was asked for.
        asked = settings.engine.fallback_to_local or settings.engine.workload == "budget"
        separator = local_engine(
            find_model(settings, fetch=first or asked),
            device=candidate.device,
            reasons=self._reasons(candidate),
            clear_cache_between_jobs=settings.gpu.clear_cache_between_jobs,
            log_vram_usage=settings.logging.log_vram_usage,
            options=settings.local,
        )
        self._check_stems(separator.spec.sources)
        return Leg(
            name=candidate.name,
            kind=candidate.engine,
            engine=separator,
            # A run on this machine alone holds its device around the whole stage.
            lock=DeviceLock(candidate.device, separator.slots)
            if self._mixed or not first
            else None,
            only_after_oom=candidate.part == "after_oom",
        )

    def _cloud(self, candidate: Candidate) -> Leg:
        from tasks.separation.breaker import breaker_of
        from tasks.separation.cloud import CloudSeparator, RetryPolicy, UploadPolicy
        from tasks.separation.legs import Leg

        api, settings = self._services[candidate.name], self._settings
        separator = CloudSeparator(
            settings.separation_settings().model,
            service=dialect_of(api),
            provider=api.label,
            policy=RetryPolicy(
                max_retries=max(1, api.max_retries),
                backoff_multiplier=api.backoff_multiplier,
                max_backoff_seconds=api.max_backoff_seconds,
            ),
            upload=UploadPolicy(
                format=settings.audio.input_format,
                own_bytes=not settings.audio.normalize_before_submit,
            ),
            max_jobs=settings.engine.cloud_jobs,
            log_retries=settings.logging.log_retries,
            reasons=self._reasons(candidate),
        )
        self._check_stems(separator.spec.sources)
        separator.service.check(order_of(settings.separation_settings(), separator.spec.sources))
        return Leg(
            name=candidate.name,
            kind="cloud",
            engine=separator,
            breaker=breaker_of(api.label, api.base_url),
            budget=budget_of(api),
            price_usd=_price(api, separator),
            price_is_set=bool(api.usd_per_minute),
            settled=separator.settled,
            only_after_oom=candidate.part == "after_oom",
        )

    def _check_stems(self, sources: tuple[str, ...]) -> None:
        wanted = self._settings.separation_settings()
        unknown = sorted(set(wanted.stems) - set(sources))
        if unknown:
            raise SettingsError(
                f"the model {wanted.model} makes no stem called {', '.join(unknown)}.",
                remedy=f"It makes {', '.join(sources)}.",
            )


def dialect_of(api: CloudApi) -> Service:
    """The service as its dialect; asks nobody.

    Raises:
        SettingsError: An option or address that it can't use.
    """
    from tasks.separation.cloud.providers import make_service

    return make_service(
        api.service, base_url=api.base_url, api_key=api.api_key, options=api.service_options
    )


def price_of(api: CloudApi, audio_s: float, settings: SeparationSettings) -> float | None:
    """What a service asks for so much audio, in dollars; None where nobody says.

    The price that was set wins over the service's published one.
    """
    if api.usd_per_minute:
        return api.usd_per_minute * audio_s / 60
    return dialect_of(api).price_usd(order_of(settings, STEMS, audio_s)) or None


def order_of(
    settings: SeparationSettings, sources: Sequence[str], duration_s: float = 0.0
) -> Order:
    """An order as a service would get it, to ask about: it has no audio."""
    from tasks.separation.cloud.service import Order

    return Order(
        path=Path("mixture"),
        stems=settings.stems or tuple(sources),
        all_stems=not settings.stems or set(settings.stems) == set(sources),
        model=settings.model,
        format=settings.format,
        bit_depth=settings.bit_depth,
        duration_s=duration_s,
        idempotency_key="-",
    )


def _price(
    api: CloudApi, separator: CloudSeparator
) -> Callable[[Mixture, SeparationSettings], float]:
    def price(mixture: Mixture, settings: SeparationSettings) -> float:
        if api.usd_per_minute:
            return api.usd_per_minute * mixture.duration_s / 60
        return separator.price_usd(mixture, settings)

    return price
