"""What is asked of an engine: one mixture, where its stems go, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import Mixture, Progress, SeparationSettings


def _ignore(number: float) -> None: ...


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Callbacks:
    """How a separation talks to whoever asked for it.

    Attributes:
        on_progress: Told the share done, 0 to 1, from the thread that separates.
        stopping: Asked between segments, and while waiting, whether to end.
        on_wait: Told the seconds spent waiting for a device, which count against no deadline.
    """

    on_progress: Progress = _ignore
    stopping: Callable[[], bool] = _never
    on_wait: Callable[[float], None] = _ignore


@dataclass(frozen=True, slots=True)
class SeparationRequest:
    """One separation to make. Crosses processes if its callbacks do, as the default ones can.

    Attributes:
        mixture: At the model's rate and channel count.
        folder: Where `NAME.flac` or `NAME.wav` go.
        settings: What to make; `stems` says which are kept.
        only: Make only these of the kept stems, those that are to be made again; none means all.
        gain: The gain of the first writing, when stems are made again.
        deadline_s: Seconds of work, not of waiting; None leaves it to the engine.
        callbacks: Progress, and whether to stop.
    """

    mixture: Mixture
    folder: Path
    settings: SeparationSettings
    only: frozenset[str] = frozenset()
    gain: float | None = None
    deadline_s: float | None = None
    callbacks: Callbacks = Callbacks()

    @property
    def label(self) -> str:
        """The track as a person names it."""
        return self.mixture.ref.label
