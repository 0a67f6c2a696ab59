"""One engine of a chain, and the books that are kept of it: breaker, budget, device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.contracts import EngineName, Mixture, Progress, SeparationSettings, StemSet
from tasks.errors import (
    BudgetSpent,
    DeadlineMissed,
    KeyRejected,
    ProtocolError,
    SettingsError,
    StemwrightError,
    SubmitUnclear,
    TransientError,
)
from tasks.separation.breaker import Breaker
from tasks.separation.budget import Budget
from tasks.separation.device_lock import DeviceLock
from tasks.separation.models.spec import ModelSpec


class Model(Protocol):
    """What the chain asks of an engine's model."""

    @property
    def name(self) -> str: ...

    @property
    def sources(self) -> tuple[str, ...]: ...


class Engine(Protocol):
    """What the chain asks of an engine: `LocalSeparator`, `UnblendSeparator` and
    `CloudSeparator` have it.
    """

    @property
    def spec(self) -> Model: ...

    def separation_id(self, settings: SeparationSettings) -> str: ...

    def separate(
        self,
        mixture: Mixture,
        folder: Path,
        settings: SeparationSettings,
        *,
        only: frozenset[str] | None = None,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        stop: Callable[[], bool] | None = None,
        gain: float | None = None,
    ) -> StemSet: ...

    def close(self) -> None: ...


class LocalEngine(Engine, Protocol):
    """An engine of this machine, which has its model's files: one for each family of models."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def slots(self) -> int: ...

    def measure(self) -> None: ...

    def equivalents(self, settings: SeparationSettings) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Leg:
    """One engine of a chain, and what decides whether it may be asked.

    Attributes:
        name: What logs and reports call it: a service's name, `local_gpu`, `local_cpu`.
        lock: Held while it works; None for a service, and where the caller holds it already.
        breaker: A service's.
        budget: A service's, where there is a limit or a price.
        price_usd: What a mixture will cost, in dollars.
        price_is_set: The user set that price, so that it wins over what the engine says.
        settled: Told of a track whose stems are in the library, or no use.
        only_after_oom: It takes over from a GPU that ran out of memory, and nothing else.
    """

    name: str
    kind: EngineName
    engine: Engine
    lock: DeviceLock | None = None
    breaker: Breaker | None = None
    budget: Budget | None = None
    price_usd: Callable[[Mixture, SeparationSettings], float] = lambda mixture, settings: 0.0
    price_is_set: bool = False
    settled: Callable[[str], None] = lambda track_id: None
    only_after_oom: bool = False

    @property
    def is_service(self) -> bool:
        return self.kind == "cloud"


@contextmanager
def device_held(leg: Leg, stop: Callable[[], bool] | None) -> Iterator[None]:
    if leg.lock is None:
        yield
        return
    with leg.lock.held(stop or (lambda: False)):
        yield


@contextmanager
def accounts(
    leg: Leg, mixture: Mixture, settings: SeparationSettings
) -> Iterator[Callable[[StemSet], StemSet]]:
    """Reserve before an engine is asked and settle afterwards; tell the breaker how it went."""
    name = leg.engine.separation_id(settings)
    price, reserved = 0.0, False

    def settle(made: StemSet) -> StemSet:
        cost = price if leg.price_is_set else made.cost_usd or price
        if leg.budget:
            leg.budget.settle(mixture.track_id, name, usd=cost)
        if leg.breaker:
            leg.breaker.succeeded()
        return made.model_copy(update={"cost_usd": cost})

    try:
        price = leg.price_usd(mixture, settings)
        if leg.budget:
            minutes = mixture.duration_s / 60
            reserved = leg.budget.reserve(mixture.track_id, name, minutes=minutes, usd=price)
        yield settle
    except StemwrightError as error:
        if leg.budget and reserved and not error.submitted:
            leg.budget.release(mixture.track_id, name)
        elif leg.budget and error.cost_usd:
            # What it charged for nothing is spent; another try is another charge.
            usd = price if leg.price_is_set else error.cost_usd
            leg.budget.settle(mixture.track_id, name, usd=usd)
        if leg.breaker:
            _tell(leg.breaker, error)
        raise
    except BaseException:
        if leg.breaker:
            leg.breaker.undecided()
        raise


def _tell(breaker: Breaker, error: StemwrightError) -> None:
    kinds = TransientError | ProtocolError | SubmitUnclear | DeadlineMissed | SettingsError
    # A key or a credit that is gone is no matter of time: the chain takes such an engine out.
    if isinstance(error, kinds) and not isinstance(error, KeyRejected | BudgetSpent):
        breaker.failed(error.cause)
    else:
        breaker.undecided()
