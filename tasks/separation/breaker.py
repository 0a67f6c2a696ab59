"""A circuit breaker: a service that keeps failing is left alone for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

log = logging.getLogger(__name__)

BreakerState = Literal["closed", "open", "half-open"]


class Breaker:
    """Closed while a service works, open while it is left alone, half-open for one probe.

    Safe to call from several threads. Each `admits` that says yes is followed by one of
    `succeeded`, `failed` and `undecided`.

    Args:
        name: What logs call the service.
        threshold: Faults in a row that open it.
        cool_down_s: The first time it is left alone, in seconds; doubled by each failed probe.
        longest_s: The cool-down's cap.
        clock: In seconds, only ever grows.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = 3,
        cool_down_s: float = 30.0,
        longest_s: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._threshold = threshold
        self._first_s = cool_down_s
        self._longest_s = longest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._faults = 0
        self._cool_down_s = cool_down_s
        self._opened: float | None = None
        self._probing = False

    def __getstate__(self) -> dict[str, object]:
        """What it knows crosses to another process of this host; then each learns alone."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, known: dict[str, object]) -> None:
        vars(self).update(known, _lock=threading.Lock())

    @property
    def state(self) -> BreakerState:
        with self._lock:
            if self._opened is None:
                return "closed"
            return "half-open" if self._probing or self._wait_s() <= 0 else "open"

    @property
    def left_s(self) -> float:
        """Seconds until it may be probed; 0 when it may be asked now."""
        with self._lock:
            return self._wait_s()

    def admits(self) -> bool:
        """Whether the service may be asked now. Half-open, the first to ask is the probe."""
        with self._lock:
            if self._opened is None:
                return True
            if self._probing or self._wait_s() > 0:
                return False
            self._probing = True
        log.info("%s: asking it again with one track", self.name)
        return True

    def succeeded(self) -> None:
        """It did what it was asked for."""
        with self._lock:
            closes = self._opened is not None
            self._faults, self._opened, self._probing = 0, None, False
            self._cool_down_s = self._first_s
        if closes:
            log.info("%s works again", self.name)

    def failed(self, why: str) -> None:
        """It failed in a way that is its own fault."""
        with self._lock:
            self._faults += 1
            if self._opened is not None:
                if not self._probing:
                    # A call from before it opened: nothing new.
                    return
                self._cool_down_s = min(self._longest_s, self._cool_down_s * 2)
            elif self._faults < self._threshold:
                return
            self._opened, self._probing = self._clock(), False
            words = (self.name, self._cool_down_s, self._faults, why)
        log.warning("%s is left alone for %.0f s after %d faults in a row: %s", *words)

    def undecided(self) -> None:
        """The call ended in a way that says nothing of the service."""
        with self._lock:
            self._probing = False

    def _wait_s(self) -> float:
        if self._opened is None:
            return 0.0
        return max(0.0, self._opened + self._cool_down_s - self._clock())


_breakers: dict[tuple[str, str], Breaker] = {}
_breakers_lock = threading.Lock()


def breaker_of(name: str, base_url: str) -> Breaker:
    """The one breaker that this process has for a service."""
    with _breakers_lock:
        return _breakers.setdefault((name, base_url), Breaker(name))
