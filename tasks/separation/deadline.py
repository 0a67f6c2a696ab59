"""How long a track may take, and the watch that is looked at between segments."""

from __future__ import annotations

import time
from collections.abc import Callable

from tasks.errors import DeadlineMissed, Interrupted

_FLOOR_S = 600.0
_CPU_FACTOR = 60.0
_PATIENCE = 10.0
_SERVICE_S = 6 * 3600.0


def default_deadline_s(duration_s: float, device: str, speed: float = 0.0) -> float | None:
    """The deadline of a track for which none was set, in seconds.

    A CPU gets ten times what the track would take at the `speed` that was measured here (seconds of
    audio a second); before anything was, sixty times the track's length; at least ten minutes. A
    GPU gets none, a service (an empty device) six hours: its queue may be long.
    """
    if not device:
        return _SERVICE_S
    if not device.startswith("cpu"):
        return None
    usual_s = _PATIENCE * duration_s / speed if speed else _CPU_FACTOR * duration_s
    return max(_FLOOR_S, usual_s)


def refuse_hopeless(duration_s: float, deadline_s: float | None, speed: float) -> None:
    """Refuse a deadline that the fastest pass ever measured here couldn't have kept.

    Raises:
        DeadlineMissed: Before anything was started.
    """
    if deadline_s is None or not speed or duration_s / speed <= deadline_s:
        return
    raise DeadlineMissed(
        f"its {deadline_s:g} s can't be kept: this machine takes about {duration_s / speed:.0f} s "
        f"for {duration_s:.0f} s of audio, at its best.",
        stage="separate",
    )


class Watch:
    """Ends a separation that ran out of time or was asked to stop.

    `clock` is in seconds and only ever grows; `track` is whose time it is.
    """

    def __init__(
        self,
        track: str,
        deadline_s: float | None,
        stop: Callable[[], bool] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.track = track
        self._deadline_s = deadline_s
        self._stop = stop
        self._clock = clock
        self._started = clock()

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._started

    @property
    def left_s(self) -> float | None:
        """Seconds left, never negative; None without a deadline."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - self.elapsed_s)

    def check(self, done: float) -> None:
        """Raise `Interrupted` or `DeadlineMissed` if it is time; `done` is the share done."""
        if self._stop and self._stop():
            raise Interrupted(
                f"the run was asked to stop, {done:.0%} into the separation.",
                track=self.track,
                stage="separate",
            )
        if self._deadline_s is not None and self.elapsed_s > self._deadline_s:
            raise DeadlineMissed(
                f"its {self._deadline_s:g} s ran out with {done:.0%} of the separation done.",
                track=self.track,
                stage="separate",
            )
