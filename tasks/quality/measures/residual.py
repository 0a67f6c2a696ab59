"""What of the mixture is in no stem."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.audio.decibels import Float64, decibels
from tasks.audio.side_by_side import less_all
from tasks.audio.stft import Real, Spectra, mel_band_starts
from tasks.quality.measure import Measure, Measured, Others, Scope, register
from tasks.quality.spans import Span, WorstSpan
from tasks.quality.spectra import POWER_FLOOR, Block, RunningSums, squared, weighted

LIVE_DB = -40.0


@register
class Residual(Measure):
    """The residual x - Σ s_i relative to the mixture, dB, -100 and up; NaN for a silent mixture.

    Over the track, in its worst half-second (of those within 40 dB of the loudest), in each mel
    band (of those less than 40 dB under the strongest), and what of it is shared out to the stems
    by energy, Σ q_i |X - ΣS|² / Σ P_i. Keeps two numbers a half-second and two a band.
    """

    name = "residual"

    def __init__(self, stems: int) -> None:
        self._halves: list[Float64] = []
        self._rate_hz = 0
        self._sums = RunningSums(2)
        self._bins: Float64 = np.zeros((2, 1))
        self._missing = np.zeros(stems)
        self._energy = np.zeros(stems)
        self._missing_worst = WorstSpan(stems)

    @classmethod
    def of(cls, scope: Scope, others: Others) -> Residual | None:
        return cls(scope.stems) if scope.all_stems else None

    def update(self, block: Block) -> None:
        self._rate_hz = block.rate_hz
        squares = np.stack([block.rest_squares, block.squares[0]])
        self._halves.extend(self._sums(squares, self._half).T.astype(np.float64))
        lost, stem_power = _lost_power(block.spectra), block.stem_power
        powers, mixture = [block.power[1:]], block.bin_energy[0]
        if block.side is not None and block.side_power is not None:
            lost += _lost_power(block.side)
            powers.append(block.side_power[1:])
            stem_power = stem_power + powers[1].sum(axis=0)
            mixture = mixture + block.side_power[0].sum(axis=0)
        self._bins = self._bins + np.stack([lost.sum(axis=0), mixture])
        weight = lost / np.maximum(stem_power, POWER_FLOOR)
        missing = np.sum([weighted(power, weight) for power in powers], axis=0)
        self._missing += missing
        self._energy += block.stereo_energy[1:]
        self._missing_worst.update(missing, block.start_s, block.end_s)

    def result(self) -> Measured:
        lost, mixture = np.array([*self._halves, self._sums.begun.astype(np.float64)]).T
        half_db = _live_only(lost, mixture)
        worst = int(np.nanargmax(half_db)) if np.isfinite(half_db).any() else -1
        band_db, band_hz = self._in_bands()
        at = int(np.nanargmax(band_db)) if np.isfinite(band_db).any() else -1
        bands = zip(band_db, band_hz, strict=True)
        return Measured(
            track={
                "residual_db": decibels(lost.sum(), mixture.sum()).item(),
                "residual_half_second_db": half_db[worst] if worst >= 0 else np.nan,
                "residual_band_db": band_db[at] if at >= 0 else np.nan,
                "residual_band_hz": band_hz[at] if at >= 0 else np.nan,
                **{f"residual_from_{hz:.0f}_hz_db": db for db, hz in bands},
            },
            track_spans={"residual_db": self._half_second(worst) if worst >= 0 else None},
            stems={"missing_db": decibels(self.missing())},
            spans={"missing_db": self._missing_worst.result()},
        )

    def missing(self) -> Float64:
        """Return the residual shared out to the stems, relative to their energy, (stems,)."""
        return self._missing / np.where(self._energy > 0, self._energy, np.nan)

    def lost_above(self, ends_at_bin: npt.NDArray[np.int64], levels: Float64) -> Float64:
        """Residual above where stems end, Σ_{f > end} |X - ΣS|² / Σ P_i, (stems,).

        Shared out by energy (`missing`), it is laid to every stem but the one that ends. A stem is
        charged if the residual begins where it ends; of several, each by its level there.

        Args:
            ends_at_bin: Where the stems' spectra end in a cliff, (stems,); -1 where they don't.
            levels: Their mean power a bin just under that, (stems,).
        """
        lost, bins = self._bins[0], np.arange(self._bins.shape[1])
        charged = np.array([end >= 0 and _begins_at(lost, int(end)) for end in ends_at_bin])
        part = np.where(charged[:, None] & (bins > ends_at_bin[:, None]), levels[:, None], 0.0)
        # A stem loses no more a bin than it has just under its end: spectra fall.
        part = np.minimum(part, lost * part / np.maximum(part.sum(axis=0), 1e-30))
        return np.asarray(part.sum(axis=1) / np.where(self._energy > 0, self._energy, np.nan))

    @property
    def _half(self) -> int:
        """Samples a half-second."""
        return max(self._rate_hz // 2, 1)

    def _half_second(self, number: int) -> Span:
        """From where to where a half-second goes; the last may be shorter."""
        kept = self._sums.kept if number == len(self._halves) else self._half
        start = number * self._half
        return start / self._rate_hz, (start + kept) / self._rate_hz

    def _in_bands(self) -> tuple[Float64, Float64]:
        """The residual in each mel band, dB, and where that begins, Hz."""
        bins = self._bins.shape[1]
        starts = mel_band_starts(bins, self._rate_hz)
        lost, mixture = np.add.reduceat(self._bins, starts, axis=1)
        return _live_only(lost, mixture), starts * self._rate_hz / 2 / (bins - 1)


def _begins_at(lost: Float64, end: int) -> bool:
    """Whether a spectrum is 10 dB higher over a bin than half an octave under it."""
    under, over = lost[int(0.6 * end) : int(0.75 * end)], lost[end : int(1.25 * end) + 1]
    return bool(under.size and over.size and over.mean() > 10 * under.mean())


def _lost_power(spectra: Spectra) -> Real:
    """|X - ΣS|², (frames, bins)."""
    return squared(np.abs(less_all(spectra)))


def _live_only(lost: Float64, mixture: Float64) -> Float64:
    """dB of each, NaN where the mixture is 40 dB and more under its largest."""
    live = mixture > mixture.max() * 10 ** (LIVE_DB / 10)
    return np.where(live, decibels(lost, mixture), np.nan)
