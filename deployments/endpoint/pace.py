"""How fast this machine separates, from its own last jobs."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable

_JOBS = 20
_UNMEASURED_FACTOR = 1.0
_UNKNOWN_DURATION_S = 240.0
_LONGEST_WAIT_S = 3600


class Pace:
    """The real-time factor over the last jobs: seconds of audio a second of work.

    Args:
        jobs: Pairs of audio seconds and seconds of work, oldest first.
    """

    def __init__(self, jobs: Iterable[tuple[float, float]] = ()) -> None:
        self._lock = threading.Lock()
        self._jobs = deque(jobs, maxlen=_JOBS)

    def add(self, audio_s: float, spent_s: float) -> None:
        with self._lock:
            self._jobs.append((audio_s, spent_s))

    @property
    def factor(self) -> float | None:
        """None before anything was measured."""
        with self._lock:
            audio_s = sum(audio for audio, _ in self._jobs)
            spent_s = sum(spent for _, spent in self._jobs)
        return audio_s / spent_s if audio_s > 0 and spent_s > 0 else None

    def seconds_for(self, audio_s: float | None) -> float:
        """How long audio of this length is likely to take; a song's length where it is unknown."""
        return (audio_s or _UNKNOWN_DURATION_S) / (self.factor or _UNMEASURED_FACTOR)


def retry_after(wait_s: float) -> str:
    """A wait as the header has it: whole seconds, at least one and at most an hour."""
    return str(min(max(1, math.ceil(wait_s)), _LONGEST_WAIT_S))
