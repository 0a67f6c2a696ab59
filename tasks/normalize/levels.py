"""Peak and silence of a stream of blocks."""

from __future__ import annotations

import numpy as np

from tasks.contracts import NOTHING_DBFS
from tasks.normalize.resampling import Samples

_SILENT_POWER = 10 ** (NOTHING_DBFS / 10)


class Meter:
    """Measures as blocks go by.

    A track is silent when no second of it has an RMS above -90 dBFS (over both channels; a second
    that isn't full counts by its own length): one quiet note makes a track that isn't.
    """

    def __init__(self, rate_hz: int) -> None:
        self.frames = 0
        self.peak = 0.0
        self._rate = rate_hz
        self._energy = 0.0
        self._loudest = 0.0

    def add(self, samples: Samples) -> None:
        """Take in samples, shape (frames, 2)."""
        if not len(samples):
            return
        self.peak = max(self.peak, float(np.abs(samples).max()))
        while len(samples):
            room = self._rate - self.frames % self._rate
            part, samples = samples[:room], samples[room:]
            self._energy += float(np.einsum("fc,fc->", part, part))
            self.frames += len(part)
            if len(part) == room:
                self._close(self._rate)

    def _close(self, frames: int) -> None:
        self._loudest = max(self._loudest, self._energy / (2 * frames))
        self._energy = 0.0

    @property
    def silent(self) -> bool:
        """Whether all that went by is silence."""
        rest = self.frames % self._rate
        last = self._energy / (2 * rest) if rest else 0.0
        return max(self._loudest, last) <= _SILENT_POWER
