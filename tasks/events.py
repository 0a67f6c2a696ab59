"""What happens in a run, as one stream of events to which whoever wants to know listens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from tasks.contracts import Failure

if TYPE_CHECKING:
    from tasks.run_context import TrackState

Stage = Literal["ingest", "normalize", "separate", "validate", "score", "record"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """`total` is how many tracks there are, or None where telling isn't cheap."""

    total: int | None


@dataclass(frozen=True, slots=True)
class TrackStarted:
    track: TrackState


@dataclass(frozen=True, slots=True)
class StageEntered:
    track: TrackState
    stage: Stage


@dataclass(frozen=True, slots=True)
class SeparationProgress:
    """`share` of the track is separated, 0 to 1."""

    track: TrackState
    share: float


@dataclass(frozen=True, slots=True)
class TrackEnded:
    """The track has its outcome."""

    track: TrackState


@dataclass(frozen=True, slots=True)
class RowRefused:
    """A row of a catalog can't be read: a failure without a track."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Tick:
    """Some time has passed, half a second or so."""


Event = (
    RunStarted | TrackStarted | StageEntered | SeparationProgress | TrackEnded | RowRefused | Tick
)
Publish = Callable[[Event], None]


class ProgressListener(Protocol):
    """Somebody who follows a run. Called from several threads: those of its tracks."""

    def __call__(self, event: Event, /) -> None: ...


class Display(ProgressListener, AbstractContextManager["Display"], Protocol):
    """A listener that shows a run while it is entered."""
