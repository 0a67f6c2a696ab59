"""Several devices of one machine behind the face of one: tracks are spread over them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.contracts import Mixture, Progress, SeparationSettings, StemSet
from tasks.separation.models.spec import ModelSpec
from tasks.separation.on_device import DeviceSeparator


class DevicePool:
    """Gives each track to the device with the fewest in flight. Safe to call from several threads.

    Args:
        engines: One a device, of the same model and precision; at least one.
    """

    def __init__(self, engines: Sequence[DeviceSeparator]) -> None:
        self._engines = tuple(engines)
        self._busy = dict.fromkeys(range(len(self._engines)), 0)
        self._counting = threading.Lock()

    @property
    def spec(self) -> ModelSpec:
        return self._engines[0].spec

    @property
    def slots(self) -> int:
        """Tracks that may be in flight at once."""
        return sum(engine.slots for engine in self._engines)

    def separation_id(self, settings: SeparationSettings) -> str:
        """The identity that all devices give a separation."""
        return self._engines[0].separation_id(settings)

    def equivalents(self, settings: SeparationSettings) -> tuple[str, ...]:
        """As `DeviceSeparator.equivalents`."""
        return self._engines[0].equivalents(settings)

    def measure(self) -> None:
        """As `LocalSeparator.measure`, on each kind of device."""
        for engine in self._engines:
            engine.measure()

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
        """Separate a mixture on one of the devices; arguments as `LocalSeparator.separate`."""
        with self._counting:
            chosen = min(self._busy, key=lambda index: (self._busy[index], index))
            self._busy[chosen] += 1
        try:
            return self._engines[chosen].separate(
                mixture,
                folder,
                settings,
                only=only,
                progress=progress,
                deadline_s=deadline_s,
                stop=stop,
                gain=gain,
            )
        finally:
            with self._counting:
                self._busy[chosen] -= 1

    def close(self) -> None:
        """Let go of every device."""
        for engine in self._engines:
            engine.close()
