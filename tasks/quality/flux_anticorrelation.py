"""Energy that goes to and fro between a stem and the rest of the mixture."""

from __future__ import annotations

import numpy as np

from tasks.quality.spans import Span, WorstSpan
from tasks.quality.spectra import Block, Float64, Real


class ContraryMotion:
    """How far a stem's partials fall where the rest's rise, and rise where they fall.

    With a = Δ|S_i| and b = Δ|X - S_i|, the changes from one frame to the next, over the bins of
    the lower half of the spectrum: ½ Σ (|a - b| - |a + b|) / Σ |a|, which is -Σ sgn(ab) min(|a|,
    |b|) / Σ |a|: 1 if all that leaves the stem turns up in the rest, -1 if they move as one.
    Sources move independently, if not together; a separator that decides bin by bin whose a partial
    is moves it from one to the other and back. The side signal is left out.
    """

    def __init__(self, stems: int) -> None:
        self._excess = np.zeros(stems)
        self._motion = np.zeros(stems)
        self._last: tuple[Real, Real] | None = None
        self._worst = WorstSpan(stems)

    def update(self, block: Block) -> None:
        bins = block.spectra.shape[2] // 2
        stems = np.sqrt(block.power[1:, :, :bins])
        rest = np.abs(block.spectra[:1, :, :bins] - block.spectra[1:, :, :bins])
        of_stem, of_rest = _changes(stems, rest, self._last)
        self._last = stems[:, -1:], rest[:, -1:]
        apart = np.abs(of_stem - of_rest).sum(axis=(1, 2), dtype=np.float64)
        together = np.abs(of_stem + of_rest).sum(axis=(1, 2), dtype=np.float64)
        excess = (apart - together) / 2
        self._excess += excess
        self._motion += np.abs(of_stem).sum(axis=(1, 2), dtype=np.float64)
        self._worst.update(excess, block.start_s, block.end_s)

    def result(self) -> tuple[Float64, list[Span | None]]:
        """(stems,), -1 to 1, NaN where nothing moves; and where most of it is."""
        motion = np.where(self._motion > 0, self._motion, np.nan)
        return self._excess / motion, self._worst.result()


def _changes(stems: Real, rest: Real, last: tuple[Real, Real] | None) -> tuple[Real, Real]:
    """Both from frame to frame, across the blocks' boundaries."""
    if last is None:
        return np.diff(stems, axis=1), np.diff(rest, axis=1)
    before_stems, before_rest = last
    return np.diff(stems, axis=1, prepend=before_stems), np.diff(rest, axis=1, prepend=before_rest)
