"""Dead time, abrupt cuts and truncated tails, from the levels of 10 ms slices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.quality.spans import Span
from tasks.quality.spectra import Block, Float64

SLICES_PER_S = 100
LIVE_DB = -50.0
LOUD_DB = -35.0
TAIL_DB = -60.0
QUIET_DB = -90.0
DEAD_DB = -100.0
Flags = npt.NDArray[np.bool_]


class DropoutResult(NamedTuple):
    """Interruptions of one stem while the mixture is live (within 50 dB of its loudest).

    Levels are relative to the stem's own loudest slice. True stems rest in digital silence too,
    so only silence that begins with a cut (from above -35 dB to below -90 dB within 20 ms) counts
    as a fault; `dead_frac` and `tail_gap_s` are the plain measures, for the record.

    Attributes:
        dead_frac: Share of live slices where the stem is below -100 dB, 0 to 1.
        dropout_frac: Share of live slices in silences that begin with a cut, the tail left out.
        cuts_per_min: Cuts a minute (over at least ten seconds).
        tail_gap_s: Seconds from the stem's last slice above -90 dB to the mixture's last live one.
        tail_cut_s: The same where the tail begins with a cut (from above -60 dB, as endings are
            quiet), else 0.
        longest: The longest dropout.
        first_cut: The first cut's surroundings.
        tail: The truncated tail.
    """

    dead_frac: float
    dropout_frac: float
    cuts_per_min: float
    tail_gap_s: float
    tail_cut_s: float
    longest: Span | None
    first_cut: Span | None
    tail: Span | None


class Dropouts:
    """Keeps two bytes for each signal and 10 ms: 0.36 MB an hour and signal."""

    def __init__(self) -> None:
        self._levels: list[npt.NDArray[np.float16]] = []
        self._carry: npt.NDArray[np.float32] | None = None

    def update(self, block: Block) -> None:
        step = max(round(block.rate_hz / SLICES_PER_S), 1)
        squares = block.squares / np.float32(block.samples.shape[1])
        if self._carry is not None:
            squares = np.concatenate([self._carry, squares], axis=1)
        whole = squares.shape[1] // step * step
        means = squares[:, :whole].reshape(len(squares), -1, step).mean(axis=2)
        self._levels.append((10 * np.log10(np.maximum(means, 1e-20))).astype(np.float16))
        self._carry = squares[:, whole:]

    def result(self) -> list[DropoutResult]:
        """One for each stem."""
        levels = np.concatenate(self._levels, axis=1).astype(np.float32)
        if not levels.shape[1]:
            return [_NOTHING] * (len(levels) - 1)
        live = levels[0] > max(levels[0].max() + LIVE_DB, -70.0)
        return [_interruptions(stem - stem.max(), live) for stem in levels[1:]]


_NOTHING = DropoutResult(0.0, 0.0, 0.0, 0.0, 0.0, None, None, None)


def _interruptions(level: npt.NDArray[np.float32], live: Flags) -> DropoutResult:
    """Measures of one stem.

    Args:
        level: dB relative to the loudest slice, (slices,).
        live: Where the mixture is live, (slices,).
    """
    if not live.any():
        return _NOTHING
    quiet = level < QUIET_DB
    cuts = _cuts(level, quiet, LOUD_DB) & live
    last_live = int(np.flatnonzero(live)[-1])
    heard = np.flatnonzero(~quiet[: last_live + 1])
    last_heard = int(heard[-1]) if len(heard) else -1
    tail_s = (last_live - last_heard) / SLICES_PER_S
    tail_cut = last_heard < last_live and bool(_cuts(level, quiet, TAIL_DB)[last_heard + 1])
    gaps = [gap for gap in _gaps(quiet, cuts) if gap[0] <= last_heard]
    lost = sum(int(live[start:end].sum()) for start, end in gaps)
    minutes = max(len(level) / SLICES_PER_S, 10) / 60
    first = int(np.flatnonzero(cuts)[0]) if cuts.any() else -1
    return DropoutResult(
        dead_frac=float((level < DEAD_DB)[live].mean()),
        dropout_frac=lost / int(live.sum()),
        cuts_per_min=int(cuts.sum()) / minutes,
        tail_gap_s=tail_s,
        tail_cut_s=tail_s if tail_cut else 0.0,
        longest=_seconds(max(gaps, key=lambda gap: gap[1] - gap[0])) if gaps else None,
        first_cut=_seconds((max(first - 25, 0), first + 25)) if first >= 0 else None,
        tail=_seconds((last_heard + 1, last_live + 1)) if tail_cut else None,
    )


def _cuts(level: npt.NDArray[np.float32], quiet: Flags, loud_db: float) -> Flags:
    """Slices where silence begins, at most 20 ms after a loud slice."""
    loud = level > loud_db
    before = np.zeros_like(loud)
    before[1:] = loud[:-1]
    before[2:] |= loud[:-2]
    begins = quiet.copy()
    begins[1:] &= ~quiet[:-1]
    return begins & before


def _gaps(quiet: Flags, cuts: Flags) -> list[tuple[int, int]]:
    """Silences that begin with a cut, as [start, end) slices."""
    sounding = np.append(np.flatnonzero(~quiet), len(quiet))
    starts = np.flatnonzero(cuts)
    ends: Float64 = sounding[np.searchsorted(sounding, starts)]
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _seconds(slices: tuple[int, int]) -> Span:
    return slices[0] / SLICES_PER_S, slices[1] / SLICES_PER_S
