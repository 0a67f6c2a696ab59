"""Where in the track a measure is worst."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Span = tuple[float, float]


class WorstSpan:
    """Keeps, for each stem, the span with the largest value seen.

    Args:
        stems: How many stems.
    """

    def __init__(self, stems: int) -> None:
        self._worst = np.full(stems, -np.inf)
        self._spans: list[Span | None] = [None] * stems

    def update(self, values: npt.ArrayLike, start_s: float, end_s: float) -> None:
        """Take the values (stems,) of one span; zero and less never count."""
        for i, value in enumerate(np.asarray(values, dtype=float)):
            if value > max(self._worst[i], 0.0):
                self._worst[i] = value
                self._spans[i] = (start_s, end_s)

    def result(self) -> list[Span | None]:
        """A span in seconds for each stem; None where nothing was ever wrong."""
        return self._spans
