"""Following a run: who wants to know sets a watcher, and the flow tells it what happens.

The command line's progress display is one; a run without a display has none and is silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tasks.crew import Journey, Stage, Watcher


class Nobody:
    """The watcher of a run that nobody follows."""

    def expects(self, total: int | None) -> None: ...

    def started(self, journey: Journey) -> None: ...

    def entered(self, journey: Journey, stage: Stage) -> None: ...

    def separated(self, journey: Journey, share: float) -> None: ...

    def ended(self, journey: Journey) -> None: ...


class Gauge:
    """Passes everything on to another watcher, and adds up how far the tracks under way are."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._shares: dict[Journey, float] = {}

    @property
    def under_way(self) -> float:
        """The separated shares of the tracks in flight, added up."""
        return sum(list(self._shares.values()))

    def expects(self, total: int | None) -> None:
        self._watcher.expects(total)

    def started(self, journey: Journey) -> None:
        self._watcher.started(journey)

    def entered(self, journey: Journey, stage: Stage) -> None:
        self._watcher.entered(journey, stage)

    def separated(self, journey: Journey, share: float) -> None:
        self._shares[journey] = share
        self._watcher.separated(journey, share)

    def ended(self, journey: Journey) -> None:
        self._shares.pop(journey, None)
        self._watcher.ended(journey)


_watcher: ContextVar[Watcher] = ContextVar("watcher")


def current_watcher() -> Watcher:
    return _watcher.get(Nobody())


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Within this context, flows report to `watcher`. It is called from several threads."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)
