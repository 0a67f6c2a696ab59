"""Several engines behind one face: what one of them can't do, the next one takes over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tasks.contracts import Mixture, Progress, SeparationSettings, StemSet
from tasks.errors import (
    BudgetSpent,
    DeadlineMissed,
    KeyRejected,
    OutOfMemory,
    ProtocolError,
    RateLimited,
    SettingsError,
    SourceRefused,
    StemwrightError,
    SubmitUnclear,
    TransientError,
)
from tasks.separation.budget import LimitReached
from tasks.separation.deadline import Watch
from tasks.separation.joining import join_stem_sets
from tasks.separation.legs import Leg, LocalEngine, Model, accounts, device_held
from tasks.separation.stem_choice import kept_stems

log = logging.getLogger(__name__)

# With another engine behind it, a service may use up this share of what the deadline leaves.
_SERVICE_SHARE = 0.5


class EngineChain:
    """Engines in order, with the face of one. Safe to call from several threads at once.

    Each track goes to the first engine that isn't left alone by its breaker and has budget left.
    What it fails at in a way that another one may not, and stems that it leaves out, go to the
    next one. A service that rejects the key isn't asked again by this chain.

    Args:
        legs: In order; at least one.
        cloud_after_oom: A service may take over from a GPU that ran out of memory.
    """

    def __init__(self, legs: Sequence[Leg], *, cloud_after_oom: bool = True) -> None:
        self.legs = tuple(legs)
        self.cloud_after_oom = cloud_after_oom
        self._lost: dict[str, StemwrightError] = {}
        self._lost_lock = threading.Lock()

    @property
    def spec(self) -> Model:
        """The model of the first engine."""
        return self.legs[0].engine.spec

    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity of what the first engine makes."""
        return self.legs[0].engine.separation_id(settings)

    def separation_ids(self, settings: SeparationSettings) -> tuple[str, ...]:
        """The identities that a separation by this chain can have, the first engine's first."""
        names = [leg.engine.separation_id(settings) for leg in self.legs]
        for leg in self.legs:
            if not leg.is_service:
                names += cast(LocalEngine, leg.engine).equivalents(settings)
        return tuple(dict.fromkeys(names))

    @property
    def slots(self) -> int:
        """Tracks that the first engine takes at once, where that is one of this machine."""
        leg = self.legs[0]
        return 1 if leg.is_service else cast(LocalEngine, leg.engine).slots

    def measure(self) -> None:
        """Have this machine's engines find out what is fastest, where they have to know."""
        for leg in self.legs:
            if not leg.is_service:
                cast(LocalEngine, leg.engine).measure()

    def lost(self) -> StemwrightError | None:
        """Why no engine is left for the rest of the run, or None while there is one."""
        with self._lost_lock:
            causes = [self._lost.get(leg.name) for leg in self.legs if not leg.only_after_oom]
        if any(cause is None for cause in causes):
            return None
        return next((copy(cause) for cause in causes if cause is not None), None)

    def lose(self, leg: Leg, error: StemwrightError) -> None:
        """Ask this engine no more: its error would only repeat itself."""
        with self._lost_lock:
            if leg.name in self._lost:
                return
            self._lost[leg.name] = _of_no_track(error)
        log.warning("%s isn't asked again in this run: %s %s", leg.name, error.cause, error.remedy)

    def is_lost(self, leg: Leg) -> StemwrightError | None:
        """Why this engine isn't asked any more, or None."""
        with self._lost_lock:
            cause = self._lost.get(leg.name)
        return copy(cause) if cause else None

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
    ) -> StemSet:
        """Separate a mixture into files in `folder`; arguments as `LocalSeparator.separate`.

        The deadline counts the engines' work, not the wait for a device. Stems that no engine
        made are left out of the answer.

        Raises:
            LimitReached: Nothing but services whose limit is reached.
            RateLimited: Nothing but services that are left alone; says for how long.
            Others: As the engine that came last, or one whose fault can pass.
        """
        order = _Order(mixture, folder, settings, only, progress, stop)
        return _Passage(self, order, deadline_s, gain).run()

    def settled(self, track_id: str) -> None:
        """The track's stems are in the library, or no use: services may forget its jobs."""
        for leg in self.legs:
            leg.settled(track_id)

    def close(self) -> None:
        for leg in self.legs:
            leg.engine.close()


@dataclass(frozen=True)
class _Order:
    """What one call of `separate` asks for."""

    mixture: Mixture
    folder: Path
    settings: SeparationSettings
    only: frozenset[str] | None
    progress: Progress | None
    stop: Callable[[], bool] | None


class _Passage:
    """One track's way down the chain."""

    def __init__(
        self, chain: EngineChain, order: _Order, deadline_s: float | None, gain: float | None
    ) -> None:
        self._chain = chain
        self._order = order
        self._left_s = deadline_s
        self._gain = gain
        self._label = order.mixture.ref.label
        self._made: StemSet | None = None
        self._route: list[str] = []
        self._errors: list[StemwrightError] = []
        self._spent: list[LimitReached] = []
        self._waits: list[float] = []
        self._failed_usd = 0.0
        self._oom = False
        kept = kept_stems(chain.spec.name, chain.spec.sources, order.settings.stems)
        self._wanted = [name for name in kept if order.only is None or name in order.only]

    def run(self) -> StemSet:
        for leg in self._chain.legs:
            if not self._missing:
                break
            if self._is_due(leg) and self._admits(leg):
                self._take(leg)
        if self._made is None:
            raise self._no_engine().with_context(track=self._label, stage="separate")
        cost = self._made.cost_usd + self._failed_usd
        return self._made.model_copy(update={"route": tuple(self._route), "cost_usd": cost})

    @property
    def _missing(self) -> list[str]:
        made = self._made.stems if self._made else {}
        return [name for name in self._wanted if name not in made]

    def _is_due(self, leg: Leg) -> bool:
        """Whether it is this engine's turn at all, after what happened so far."""
        if leg.only_after_oom and not self._oom:
            return False
        if leg.is_service and self._oom and not self._chain.cloud_after_oom:
            return False
        return not self._is_out_of_time()

    def _is_out_of_time(self) -> bool:
        return self._left_s is not None and self._left_s <= 0 and bool(self._errors)

    def _admits(self, leg: Leg) -> bool:
        if error := self._chain.is_lost(leg):
            self._route.append(f"{leg.name} (not asked: {_plain(error)})")
            self._errors.append(error)
            return False
        if leg.breaker and not leg.breaker.admits():
            wait_s = max(1.0, leg.breaker.left_s)
            self._waits.append(wait_s)
            self._route.append(f"{leg.name} (left alone after repeated faults)")
            log.debug("%s: %s is left alone for %.0f s more", self._label, leg.name, wait_s)
            return False
        return True

    def _take(self, leg: Leg) -> None:
        try:
            made = self._separate(leg)
        except StemwrightError as error:
            if not self._goes_on(leg, error):
                raise
            self._hand_on(leg, error)
            return
        self._route.append(leg.name)
        self._made = join_stem_sets(self._made, made) if self._made else made
        self._gain = self._made.gain
        if self._missing:
            left_out = ", ".join(self._missing)
            self._route[-1] += f" (left out {left_out})"
            log.info("%s: %s left out %s", self._label, leg.name, left_out)

    def _separate(self, leg: Leg) -> StemSet:
        """Have one engine do what is still missing, and keep its breaker's and budget's books."""
        order, mixture = self._order, self._order.mixture
        limit_s = self._limit_s(leg)
        watch = Watch(self._label, None, None)
        again = self._made is not None or order.only is not None
        with accounts(leg, mixture, order.settings) as settle, device_held(leg, order.stop):
            # Waiting for the device isn't the track's own time.
            watch = Watch(self._label, None, None)
            try:
                made = leg.engine.separate(
                    mixture,
                    order.folder,
                    order.settings,
                    only=frozenset(self._missing) if again else None,
                    progress=order.progress,
                    deadline_s=limit_s,
                    stop=order.stop,
                    gain=self._gain,
                )
            finally:
                if self._left_s is not None:
                    self._left_s = max(0.0, self._left_s - watch.elapsed_s)
            return settle(made)

    def _limit_s(self, leg: Leg) -> float | None:
        if self._left_s is None or not leg.is_service:
            return self._left_s
        later = self._chain.legs[self._chain.legs.index(leg) + 1 :]
        others = any(self._is_due(other) and not self._chain.is_lost(other) for other in later)
        return self._left_s * _SERVICE_SHARE if others else self._left_s

    def _goes_on(self, leg: Leg, error: StemwrightError) -> bool:
        """Whether the next engine may do what this one couldn't."""
        if not leg.is_service:
            on_gpu = leg.kind == "local_gpu" and isinstance(error, OutOfMemory | ProtocolError)
            return on_gpu or isinstance(error, SettingsError)
        if isinstance(error, DeadlineMissed):
            return self._left_s is None or self._left_s > 0
        # What a service takes no larger or longer is its own limit; the rest is the input's fault.
        kinds = TransientError | ProtocolError | SubmitUnclear | SettingsError | SourceRefused
        return isinstance(error, kinds)

    def _hand_on(self, leg: Leg, error: StemwrightError) -> None:
        self._route.append(f"{leg.name} ({_plain(error)})")
        self._failed_usd += error.cost_usd
        self._oom = self._oom or isinstance(error, OutOfMemory)
        if isinstance(error, LimitReached):
            self._spent.append(error)
            log.info("%s: not to %s: %s", self._label, leg.name, error.cause)
            return
        self._errors.append(error)
        does = "can't do it" if leg is self._chain.legs[-1] else "hands it on"
        log.info("%s: %s %s: %s", self._label, leg.name, does, error.cause)
        # A service's other refusals may be of this one order.
        if isinstance(error, KeyRejected | BudgetSpent if leg.is_service else SettingsError):
            self._chain.lose(leg, error)

    def _no_engine(self) -> StemwrightError:
        """The error of a track that no engine took, or that all failed at."""
        passing = [error for error in self._errors if isinstance(error, TransientError)]
        if self._errors and (passing or not self._waits):
            # The one that this run may still try again, if there is one.
            error = min(passing or self._errors[-1:], key=lambda one: one.tried_enough)
            others = len(self._route) > 1
            return _with_route(error, self._route) if others else error
        if self._waits:
            return RateLimited(
                f"no engine may be asked now: {'; '.join(self._route)}.",
                retry_after_s=min(self._waits),
                remedy="It is asked again by itself; engine.fallback_to_local lets this machine "
                "take over.",
            )
        if self._spent:
            return self._spent[0]
        return DeadlineMissed("its time ran out before an engine took it.")


def _of_no_track(error: StemwrightError) -> StemwrightError:
    kept = copy(error)
    kept.track = ""
    return kept


def _plain(error: StemwrightError) -> str:
    return error.cause.rstrip(".")


def _with_route(error: StemwrightError, route: Sequence[str]) -> StemwrightError:
    error.cause = f"no engine could do it: {'; '.join(route)}."
    return error
