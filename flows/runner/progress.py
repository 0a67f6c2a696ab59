"""How far a run is: tracks, speed and time left, from its events; and who else follows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tasks.events import (
    Event,
    ProgressListener,
    RowRefused,
    RunStarted,
    SeparationProgress,
    TrackEnded,
)
from tasks.outcome import Done
from tasks.run_context import TrackState

_WARM_UP_S = 1.0


class NullProgress:
    """The listener of a run that nobody follows."""

    def __call__(self, event: Event, /) -> None: ...


class ProgressTracker:
    """Seconds of audio done, and how fast: the speed as a multiple of real time, and what is left.

    Finished tracks count whole and those under way by their separated share; tracks that were
    done before the run count for nothing, or the estimate would promise too much.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.ended = 0
        self._worked = 0
        self._began: float | None = None
        self._done_s = 0.0
        self._shares: dict[TrackState, float] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            match event:
                case RunStarted(total):
                    self.total = total
                case SeparationProgress(track, share):
                    self._began = self._began or time.monotonic()
                    self._shares[track] = share
                case TrackEnded(track):
                    self._end(track)
                case RowRefused():
                    self.ended += 1

    def _end(self, track: TrackState) -> None:
        self.ended += 1
        self._shares.pop(track, None)
        if isinstance(track.outcome, Done):
            self._worked += 1
            self._done_s += track.outcome.report.duration_s

    @property
    def done(self) -> float:
        """Tracks that have ended, and the shares of those under way."""
        return self.ended + sum(list(self._shares.values()))

    @property
    def share(self) -> float:
        """The part of the run that is done, 0 to 1; 0 where nobody knows its length."""
        return self.done / self.total if self.total else 0.0

    @property
    def speed(self) -> float | None:
        """Seconds of audio a second since the first separation began."""
        if self._began is None:
            return None
        under_way = sum(share * track.duration_s for track, share in list(self._shares.items()))
        spent = time.monotonic() - self._began
        return (self._done_s + under_way) / spent if spent > _WARM_UP_S else None

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take at the pace so far; None where nothing tells."""
        worked = self._worked + sum(list(self._shares.values()))
        if self.total is None or self._began is None or worked < 0.2:
            return None
        return (time.monotonic() - self._began) / worked * max(0.0, self.total - self.done)


_listener: ContextVar[ProgressListener] = ContextVar("listener")


def current_listener() -> ProgressListener:
    """Return who follows the runs that are started in this context."""
    return _listener.get(NullProgress())


@contextmanager
def followed_by(listener: ProgressListener) -> Iterator[None]:
    """Within this context, flows send their events to `listener`, from several threads."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
