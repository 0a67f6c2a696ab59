"""Dead time, abrupt cuts and truncated tails, from the levels of 10 ms slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.audio.decibels import Float64, decibels
from tasks.contracts import NOTHING_DBFS
from tasks.quality.measure import Measure, Measured, Others, Scope, register
from tasks.quality.measures.residual import Residual
from tasks.quality.measures.spectrum import LongTermSpectrum
from tasks.quality.spans import Span
from tasks.quality.spectra import Block, RunningSums

SLICES_PER_S = 100
LIVE_DB = -50.0
LOUD_DB = -35.0
TAIL_DB = -60.0
QUIET_DB = -90.0
LOST_DB = -15.0
LOST_STEP_DB = 10.0
DEAD_DB = -100.0
Flags = npt.NDArray[np.bool_]


class DropoutResult(NamedTuple):
    """Interruptions of one stem while the mixture is live (within 50 dB of its loudest).

    Levels are relative to the stem's own loudest slice. Reference stems rest in digital silence,
    so only silence that begins with a cut (from above -35 dB to below -90 dB within 20 ms) counts
    as a fault; `dead_frac` and `tail_gap_s` are the plain measures, for the record.

    Attributes:
        dead_frac: Share of live slices where the stem is below -100 dB, 0 to 1.
        dropout_frac: Share of live slices in silences that begin with a cut, the tail left out.
        cuts_per_min: Cuts a minute (over at least ten seconds).
        tail_gap_s: Seconds from the stem's last slice above -90 dB to the mixture's last live one.
        tail_cut_s: The same where the tail begins with a cut (from above -60 dB, as endings are
            quiet), or where from there on the mixture has what no stem has; else 0.
        longest: The longest dropout.
        first_cut: The first cut's surroundings.
        tail: The truncated tail.
        faulty: Slices in such silences, the truncated tail among them, (slices,).
    """

    dead_frac: float
    dropout_frac: float
    cuts_per_min: float
    tail_gap_s: float
    tail_cut_s: float
    longest: Span | None
    first_cut: Span | None
    tail: Span | None
    faulty: Flags


@register
class Dropouts(Measure):
    """Dead time, abrupt cuts and truncated tails.

    Keeps two bytes for each signal and 10 ms: 0.72 MB an hour and signal.

    Args:
        all_stems: Whether the stems should make up the mixture, so that the rest is a signal too.
    """

    name = "dropouts"

    def __init__(self, *, all_stems: bool = True) -> None:
        self._all_stems = all_stems
        self._levels: list[npt.NDArray[np.float16]] = []
        self._sums: list[RunningSums] = []
        self._slice_s = 1 / SLICES_PER_S

    @classmethod
    def of(cls, scope: Scope, others: Others) -> Dropouts:
        return cls(all_stems=scope.all_stems)

    def update(self, block: Block) -> None:
        step = max(round(block.rate_hz / SLICES_PER_S), 1)
        # 220 samples of 22.05 kHz are 9.98 ms: in an hour, 8 s less than so many times 10 ms.
        self._slice_s = step / block.rate_hz
        squares = [block.squares, *([block.rest_squares[None]] if self._all_stems else [])]
        self._sums = self._sums or [RunningSums(len(signals)) for signals in squares]
        sums = [add(signals, step) for add, signals in zip(self._sums, squares, strict=True)]
        means = np.concatenate(sums) / np.float32(step * block.samples.shape[1])
        self._levels.append((10 * np.log10(np.maximum(means, 1e-20))).astype(np.float16))

    def result(self) -> Measured:
        found = self.interruptions()
        names = ("dead_frac", "dropout_frac", "cuts_per_min", "tail_gap_s", "tail_cut_s")
        return Measured(
            stems={name: np.array([getattr(stem, name) for stem in found]) for name in names},
            spans={
                "dropout_frac": [stem.longest for stem in found],
                "cuts_per_min": [stem.first_cut for stem in found],
                "tail_cut_s": [stem.tail for stem in found],
            },
        )

    def interruptions(self) -> list[DropoutResult]:
        """Return what was found in each stem."""
        track, stems = self._track()
        return [_interruptions(stem - stem.max(initial=-200.0), track) for stem in stems]

    def lost(self, found: Sequence[DropoutResult]) -> Float64:
        """What the mixture has in a stem's faulty silences and no stem has, Σ |x - Σs|² / Σ |s|².

        It counts where it is 10 dB more of the mixture than in the rest of the track; of several
        stems that break off at once, each bears its part. (stems,), 0 and up.
        """
        track, stems = self._track()
        charged = [
            one.faulty if track.lacks_more_in(one.faulty) else np.zeros_like(one.faulty)
            for one in found
        ]
        part = track.powers[0] / np.maximum(np.sum(charged, axis=0, dtype=np.float32), 1)
        lost = [part[slices].sum(dtype=np.float64) for slices in charged]
        energy = [np.power(10, level / 10).sum(dtype=np.float64) for level in stems]
        return np.array(lost) / np.maximum(energy, 1e-30)

    def _track(self) -> tuple[_Track, npt.NDArray[np.float32]]:
        """The mixture, and the stems' levels in dBFS, (stems, slices)."""
        levels = np.concatenate(self._levels, axis=1).astype(np.float32)
        mixture, stems = levels[0], levels[1:]
        rest = np.full_like(mixture, -200)
        if self._all_stems:
            stems, rest = stems[:-1], stems[-1]
        live = mixture > max(mixture.max(initial=-200.0) + LIVE_DB, NOTHING_DBFS)
        powers = np.power(10, np.stack([rest, mixture]) / 10, dtype=np.float32)
        return _Track(live, powers, self._slice_s), stems


@register
class LostEnergy(Measure):
    """What a stem has lost for certain, dB of its energy: over a cliff, and in silences.

    Shared out by energy (`missing_db`), it is laid to whichever stems sound there.
    """

    name = "lost_energy"

    def __init__(self, others: Others) -> None:
        self._others = others

    @classmethod
    def of(cls, scope: Scope, others: Others) -> LostEnergy | None:
        return cls(others) if scope.all_stems else None

    def update(self, block: Block) -> None:
        """Listen to nothing: the others do."""

    def result(self) -> Measured:
        residual, spectra = self._others.get(Residual), self._others.get(LongTermSpectrum)
        dropouts = self._others.get(Dropouts)
        if residual is None or spectra is None or dropouts is None:
            return Measured()
        spectrum = spectra.summary()
        above = residual.lost_above(spectrum.ends_at_bin, spectrum.end_level)
        silent = dropouts.lost(dropouts.interruptions())
        return Measured(stems={"lost_db": decibels(above + silent)})


class _Track(NamedTuple):
    """Attributes:
    live: Where the mixture is live, (slices,).
    powers: Of what is in no stem, and of the mixture, (2, slices).
    slice_s: How long a slice is, seconds.
    """

    live: Flags
    powers: npt.NDArray[np.float32]
    slice_s: float

    def begins_to_lack(self, at: int) -> bool:
        """Whether from a slice on the mixture has what no stem has, and hadn't shortly before."""
        window = min(max(len(self.live) - at, SLICES_PER_S), 5 * SLICES_PER_S)
        after_db = self._lost_db(slice(at, None))
        before_db = self._lost_db(slice(max(at - window, 0), at))
        return after_db > max(LOST_DB, before_db + LOST_STEP_DB)

    def lacks_more_in(self, slices: Flags) -> bool:
        """Whether more of the mixture is in no stem in these slices than in the others."""
        return self._lost_db(slices) > self._lost_db(~slices) + LOST_STEP_DB

    def _lost_db(self, slices: slice | Flags) -> float:
        lost, mixture = self.powers[:, slices].sum(axis=1, dtype=np.float64)
        return float(decibels(lost, mixture)) if mixture > 0 else -np.inf


def _interruptions(level: npt.NDArray[np.float32], track: _Track) -> DropoutResult:
    """Measures of one stem.

    Args:
        level: dB relative to the loudest slice, (slices,).
        track: What the mixture does meanwhile.
    """
    live, slice_s = track.live, track.slice_s
    if not live.any():
        return DropoutResult(0.0, 0.0, 0.0, 0.0, 0.0, None, None, None, np.zeros_like(live))
    quiet = level < QUIET_DB
    cuts = _cuts(level, quiet, LOUD_DB) & live
    last_live = int(np.flatnonzero(live)[-1])
    heard = np.flatnonzero(~quiet[: last_live + 1])
    last_heard = int(heard[-1]) if len(heard) else -1
    tail_s = (last_live - last_heard) * slice_s
    tail_cut = last_heard < last_live and (
        bool(_cuts(level, quiet, TAIL_DB)[last_heard + 1]) or track.begins_to_lack(last_heard + 1)
    )
    gaps = [gap for gap in _gaps(quiet, cuts) if gap[0] <= last_heard]
    faulty = np.zeros_like(live)
    for start, end in gaps:
        faulty[start:end] = True
    dropped = int((faulty & live).sum())
    faulty[last_heard + 1 :] |= tail_cut
    minutes = max(len(level) * slice_s, 10) / 60
    first = int(np.flatnonzero(cuts)[0]) if cuts.any() else -1

    def seconds(start: int, end: int) -> Span:
        return max(start, 0) * slice_s, min(end, len(level)) * slice_s

    return DropoutResult(
        dead_frac=float((level < DEAD_DB)[live].mean()),
        dropout_frac=dropped / int(live.sum()),
        cuts_per_min=int(cuts.sum()) / minutes,
        tail_gap_s=tail_s,
        tail_cut_s=tail_s if tail_cut else 0.0,
        longest=seconds(*max(gaps, key=lambda gap: gap[1] - gap[0])) if gaps else None,
        first_cut=seconds(first - 25, first + 25) if first >= 0 else None,
        tail=seconds(last_heard + 1, last_live + 1) if tail_cut else None,
        faulty=faulty,
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
