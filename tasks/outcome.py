"""How a track ends: exactly one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tasks.contracts import Failure, TrackReport

Status = Literal["done", "already", "duplicate", "failed"]
Place = tuple[str, str]
"""A track and a separation: where something is in a library."""


@dataclass(frozen=True, slots=True)
class Done:
    """Separated, scored and recorded by this run."""

    report: TrackReport
    status: ClassVar[Status] = "done"

    @property
    def place(self) -> Place:
        return self.report.track_id, self.report.separation_id


@dataclass(frozen=True, slots=True)
class Skipped:
    """In the library before. `remembered`: with all that is said of it, so nothing is to note."""

    place: Place
    remembered: bool = False
    status: ClassVar[Status] = "already"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same audio as another track of this run; `place` is that one's, once it has one."""

    of: str
    place: Place | None = None
    status: ClassVar[Status] = "duplicate"


@dataclass(frozen=True, slots=True)
class Failed:
    """Ended by an error. `remembered`: an earlier run's, which would only repeat itself."""

    failure: Failure
    remembered: bool = False
    status: ClassVar[Status] = "failed"
    place: ClassVar[None] = None


Outcome = Done | Skipped | Duplicate | Failed
