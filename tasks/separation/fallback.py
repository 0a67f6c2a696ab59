"""Several engines as one: what one of them can't do, the next one takes over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace

from tasks.contracts import SeparationSettings, StemSet
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
from tasks.separation.engine import Engine, EngineInfo
from tasks.separation.joining import join_stem_sets
from tasks.separation.request import Callbacks, SeparationRequest
from tasks.separation.stem_choice import kept_stems
from tasks.separation.wrappers import LeftAlone

log = logging.getLogger(__name__)

# With another engine behind it, a service may use up this share of what the deadline leaves.
_SERVICE_SHARE = 0.5


class FallbackEngine(Engine):
    """Engines in order. Safe to call from several threads at once.

    Each track goes to the first engine. What it fails at in a way that another one may not, and
    stems that it leaves out, go to the next one. A service that rejects the key isn't asked again.

    Args:
        engines: In order, each under a name of its own; at least one.
        after_oom: Further ones, which take over from a GPU out of memory and from nothing else.
        cloud_after_oom: A service may take over from a GPU out of memory.
        reasons: Why each engine was chosen, by its name, for the report.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        after_oom: Sequence[Engine] = (),
        cloud_after_oom: bool = True,
        reasons: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.engines = (*engines, *after_oom)
        self.after_oom = frozenset(engine.info.name for engine in after_oom)
        self.cloud_after_oom = cloud_after_oom
        self.reasons = reasons or {}
        self._lost: dict[str, StemwrightError] = {}
        self._lost_lock = threading.Lock()

    @property
    def info(self) -> EngineInfo:
        """What the first engine is."""
        return self.engines[0].info

    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity of what the first engine makes."""
        return self.engines[0].separation_id(settings)

    def accepted_ids(self, settings: SeparationSettings) -> tuple[str, ...]:
        """What any of the engines makes or accepts, the first one's own first."""
        own = [engine.separation_id(settings) for engine in self.engines]
        others = [name for engine in self.engines for name in engine.accepted_ids(settings)]
        return tuple(dict.fromkeys(own + others))

    def price_usd(self, duration_s: float, settings: SeparationSettings) -> float:
        """What the first engine asks for."""
        return self.engines[0].price_usd(duration_s, settings)

    def fatal_error(self) -> StemwrightError | None:
        names = [one.info.name for one in self.engines if one.info.name not in self.after_oom]
        with self._lost_lock:
            causes = [self._lost.get(name) for name in names]
        return copy(causes[0]) if causes[0] and all(causes) else None

    def lose(self, name: str, error: StemwrightError) -> None:
        """Ask this engine no more: its error would only repeat itself."""
        with self._lost_lock:
            if name in self._lost:
                return
            self._lost[name] = copy(error)
            self._lost[name].track = ""
        log.warning("%s isn't asked again in this run: %s %s", name, error.cause, error.remedy)

    def lost(self, name: str) -> StemwrightError | None:
        """Why this engine isn't asked any more, or None."""
        with self._lost_lock:
            cause = self._lost.get(name)
        return copy(cause) if cause else None

    def separate(self, request: SeparationRequest) -> StemSet:
        """As `Engine.separate`. Stems that no engine made are left out of the answer.

        The deadline counts the engines' work, not the wait for a device.

        Raises:
            LimitReached: Nothing but services whose limit is reached.
            RateLimited: Nothing but services that are left alone; says for how long.
            Others: As the engine that came last, or one whose fault can pass.
        """
        return _Attempt(self, request).run()

    def release(self, track_id: str) -> None:
        for engine in self.engines:
            engine.release(track_id)

    def close(self) -> None:
        for engine in self.engines:
            engine.close()


class _Attempt:
    """One track's way through the engines."""

    def __init__(self, fallback: FallbackEngine, request: SeparationRequest) -> None:
        self._fallback = fallback
        self._request = request
        self._left_s = request.deadline_s
        self._gain = request.gain
        self._made: StemSet | None = None
        self._route: list[str] = []
        self._errors: list[StemwrightError] = []
        self._spent: list[LimitReached] = []
        self._waits: list[float] = []
        self._failed_usd = 0.0
        self._oom = False
        model = fallback.info
        kept = kept_stems(model.model, model.sources, request.settings.stems)
        self._wanted = [name for name in kept if not request.only or name in request.only]

    def run(self) -> StemSet:
        for engine in self._fallback.engines:
            if not self._missing:
                break
            if self._is_due(engine.info):
                self._ask(engine)
        if self._made is None:
            raise self._no_engine().with_context(track=self._request.label, stage="separate")
        cost = self._made.cost_usd + self._failed_usd
        return self._made.model_copy(update={"route": tuple(self._route), "cost_usd": cost})

    @property
    def _missing(self) -> list[str]:
        made = self._made.stems if self._made else {}
        return [name for name in self._wanted if name not in made]

    def _is_due(self, info: EngineInfo) -> bool:
        """Whether it is this engine's turn at all, after what happened so far."""
        if info.name in self._fallback.after_oom and not self._oom:
            return False
        if info.is_service and self._oom and not self._fallback.cloud_after_oom:
            return False
        out_of_time = self._left_s is not None and self._left_s <= 0
        return not (out_of_time and self._errors)

    def _ask(self, engine: Engine) -> None:
        info = engine.info
        if error := self._fallback.lost(info.name):
            self._route.append(f"{info.name} (not asked: {_plain(error)})")
            self._errors.append(error)
            return
        try:
            with self._working() as callbacks:
                made = engine.separate(self._part(info, callbacks))
        except StemwrightError as error:
            if not self._goes_on(info, error):
                raise
            self._hand_on(info, error)
            return
        reasons = self._fallback.reasons.get(info.name, made.device_reasons)
        made = made.model_copy(update={"device_reasons": reasons})
        self._route.append(info.name)
        self._made = join_stem_sets(self._made, made) if self._made else made
        self._gain = self._made.gain
        if self._missing:
            left_out = ", ".join(self._missing)
            self._route[-1] += f" (left out {left_out})"
            log.info("%s: %s left out %s", self._request.label, info.name, left_out)

    def _part(self, info: EngineInfo, callbacks: Callbacks) -> SeparationRequest:
        """What is still missing, as a request to one engine."""
        again = self._made is not None or bool(self._request.only)
        return replace(
            self._request,
            only=frozenset(self._missing) if again else frozenset(),
            gain=self._gain,
            deadline_s=self._limit_s(info),
            callbacks=callbacks,
        )

    @contextmanager
    def _working(self) -> Iterator[Callbacks]:
        """Take an engine's time off what the deadline leaves, but not its wait for a device."""
        waited: list[float] = []
        began = time.monotonic()
        try:
            yield replace(self._request.callbacks, on_wait=waited.append)
        finally:
            if self._left_s is not None:
                worked_s = time.monotonic() - began - sum(waited)
                self._left_s = max(0.0, self._left_s - worked_s)

    def _limit_s(self, info: EngineInfo) -> float | None:
        if self._left_s is None or not info.is_service:
            return self._left_s
        all_ = [engine.info for engine in self._fallback.engines]
        later = all_[[one.name for one in all_].index(info.name) + 1 :]
        others = any(self._is_due(one) and not self._fallback.lost(one.name) for one in later)
        return self._left_s * _SERVICE_SHARE if others else self._left_s

    def _goes_on(self, info: EngineInfo, error: StemwrightError) -> bool:
        """Whether the next engine may do what this one couldn't."""
        if not info.is_service:
            on_gpu = info.kind == "local_gpu" and isinstance(error, OutOfMemory | ProtocolError)
            return on_gpu or isinstance(error, SettingsError)
        if isinstance(error, DeadlineMissed):
            return self._left_s is None or self._left_s > 0
        # What a service takes no larger or longer is its own limit; the rest is the input's fault.
        kinds = TransientError | ProtocolError | SubmitUnclear | SettingsError | SourceRefused
        return isinstance(error, kinds)

    def _hand_on(self, info: EngineInfo, error: StemwrightError) -> None:
        name, label = info.name, self._request.label
        self._route.append(f"{name} ({_plain(error)})")
        self._failed_usd += error.cost_usd
        self._oom = self._oom or isinstance(error, OutOfMemory)
        if isinstance(error, LeftAlone):
            self._waits.append(error.retry_after_s or 0.0)
            log.debug("%s: %s is left alone for %.0f s more", label, name, self._waits[-1])
            return
        if isinstance(error, LimitReached):
            self._spent.append(error)
            log.info("%s: not to %s: %s", label, name, error.cause)
            return
        self._errors.append(error)
        is_last = name == self._fallback.engines[-1].info.name
        does = "can't do it" if is_last else "hands it on"
        log.info("%s: %s %s: %s", label, name, does, error.cause)
        # A service's other refusals may be of this one order.
        if isinstance(error, KeyRejected | BudgetSpent if info.is_service else SettingsError):
            self._fallback.lose(name, error)

    def _no_engine(self) -> StemwrightError:
        """The error of a track that no engine took, or that all failed at."""
        passing = [error for error in self._errors if isinstance(error, TransientError)]
        if self._errors and (passing or not self._waits):
            # The one that this run may still try again, if there is one.
            error = min(passing or self._errors[-1:], key=lambda one: one.tried_enough)
            if len(self._route) > 1:
                error.cause = f"no engine could do it: {'; '.join(self._route)}."
            return error
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


def _plain(error: StemwrightError) -> str:
    return error.cause.rstrip(".")
