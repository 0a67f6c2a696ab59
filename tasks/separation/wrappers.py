"""What is added around an engine, each an engine itself: device, breaker, budget, pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from tasks.contracts import SeparationSettings, StemSet
from tasks.errors import (
    BudgetSpent,
    DeadlineMissed,
    KeyRejected,
    ProtocolError,
    RateLimited,
    SettingsError,
    StemwrightError,
    SubmitUnclear,
    TransientError,
)
from tasks.separation.breaker import Breaker
from tasks.separation.budget import Budget
from tasks.separation.device_lock import DeviceLock
from tasks.separation.engine import Engine, EngineInfo
from tasks.separation.request import SeparationRequest


class LeftAlone(RateLimited):
    """A service isn't asked for a while, because it kept failing."""


class Wrapper(Engine):
    """Another engine, unchanged but for what a subclass adds."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner

    @property
    def info(self) -> EngineInfo:
        return self.inner.info

    def separation_id(self, settings: SeparationSettings) -> str:
        return self.inner.separation_id(settings)

    def accepted_ids(self, settings: SeparationSettings) -> tuple[str, ...]:
        return self.inner.accepted_ids(settings)

    def separate(self, request: SeparationRequest) -> StemSet:
        return self.inner.separate(request)

    def price_usd(self, duration_s: float, settings: SeparationSettings) -> float:
        return self.inner.price_usd(duration_s, settings)

    def release(self, track_id: str) -> None:
        self.inner.release(track_id)

    def fatal_error(self) -> StemwrightError | None:
        return self.inner.fatal_error()

    def close(self) -> None:
        self.inner.close()


class DeviceLocked(Wrapper):
    """Holds the engine's devices, alone among the runs on this host, while it separates."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self._lock = DeviceLock(inner.info.device, inner.info.slots)

    def separate(self, request: SeparationRequest) -> StemSet:
        began = time.monotonic()
        with self._lock.held(request.callbacks.stopping):
            request.callbacks.on_wait(time.monotonic() - began)
            return self.inner.separate(request)


class CircuitBroken(Wrapper):
    """Leaves a service alone for a while when it keeps failing.

    Raises:
        LeftAlone: From `separate`; says for how long.
    """

    def __init__(self, inner: Engine, breaker: Breaker) -> None:
        super().__init__(inner)
        self._breaker = breaker

    def separate(self, request: SeparationRequest) -> StemSet:
        breaker = self._breaker
        if not breaker.admits():
            wait_s = max(1.0, breaker.left_s)
            raise LeftAlone("left alone after repeated faults.", retry_after_s=wait_s)
        try:
            made = self.inner.separate(request)
        except StemwrightError as error:
            if _is_its_own_fault(error):
                breaker.failed(error.cause)
            else:
                breaker.undecided()
            raise
        except BaseException:
            breaker.undecided()
            raise
        breaker.succeeded()
        return made


def _is_its_own_fault(error: StemwrightError) -> bool:
    kinds = TransientError | ProtocolError | SubmitUnclear | DeadlineMissed | SettingsError
    # A key or a credit that is gone is no matter of time: such an engine is asked no more at all.
    return isinstance(error, kinds) and not isinstance(error, KeyRejected | BudgetSpent)


class Budgeted(Wrapper):
    """Puts a price on what a service makes, and keeps it within a budget.

    Args:
        inner: The service.
        budget: Where there is a limit or a price that was set.
        usd_per_minute: The price that the user set, which wins over what the service says; 0
            leaves it to the service.
    """

    def __init__(
        self, inner: Engine, budget: Budget | None = None, *, usd_per_minute: float = 0.0
    ) -> None:
        super().__init__(inner)
        self._budget = budget
        self._usd_per_minute = usd_per_minute

    def price_usd(self, duration_s: float, settings: SeparationSettings) -> float:
        if self._usd_per_minute:
            return self._usd_per_minute * duration_s / 60
        return self.inner.price_usd(duration_s, settings)

    def separate(self, request: SeparationRequest) -> StemSet:
        """As `Engine.separate`: reserve before the engine is asked, and settle afterwards.

        Raises:
            LimitReached: The track doesn't fit into what is left.
        """
        mixture = request.mixture
        price = self.price_usd(mixture.duration_s, request.settings)
        if self._budget is None:
            return self._priced(self.inner.separate(request), price)
        books = (mixture.track_id, self.separation_id(request.settings))
        reserved = self._budget.reserve(*books, minutes=mixture.duration_s / 60, usd=price)
        try:
            made = self._priced(self.inner.separate(request), price)
        except StemwrightError as error:
            if reserved and not error.submitted:
                self._budget.release(*books)
            elif error.cost_usd:
                # What it charged for nothing is spent; another try is another charge.
                self._budget.settle(*books, usd=self._charged(error.cost_usd, price))
            raise
        self._budget.settle(*books, usd=made.cost_usd)
        return made

    def _priced(self, made: StemSet, price: float) -> StemSet:
        return made.model_copy(update={"cost_usd": self._charged(made.cost_usd, price)})

    def _charged(self, said_usd: float, price: float) -> float:
        return price if self._usd_per_minute else said_usd or price


class Pooled(Engine):
    """Several devices as one engine: each track goes to the one with the fewest in flight.

    Args:
        engines: One a device, of the same model and precision; at least one.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = tuple(engines)
        self._busy = [0] * len(self._engines)
        self._counting = threading.Lock()

    @property
    def info(self) -> EngineInfo:
        each = [engine.info for engine in self._engines]
        devices = ",".join(one.device for one in each)
        slots = sum(one.slots for one in each)
        return each[0].model_copy(update={"device": devices, "slots": slots})

    def separation_id(self, settings: SeparationSettings) -> str:
        return self._engines[0].separation_id(settings)

    def accepted_ids(self, settings: SeparationSettings) -> tuple[str, ...]:
        return self._engines[0].accepted_ids(settings)

    def separate(self, request: SeparationRequest) -> StemSet:
        with self._counting:
            chosen = self._busy.index(min(self._busy))
            self._busy[chosen] += 1
        try:
            return self._engines[chosen].separate(request)
        finally:
            with self._counting:
                self._busy[chosen] -= 1

    def close(self) -> None:
        for engine in self._engines:
            engine.close()
