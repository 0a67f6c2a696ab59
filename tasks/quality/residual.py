"""What of the mixture is in no stem."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.audio.decibels import decibels
from tasks.quality.spans import Span, WorstSpan
from tasks.quality.spectra import POWER_FLOOR, Block, Float64, Real, Spectra, mel_band_starts

LIVE_DB = -40.0


class ResidualResult(NamedTuple):
    """The residual x - Σ s_i relative to the mixture, dB, -100 and up; NaN for a silent mixture.

    Attributes:
        whole_db: Over the track, all channels.
        half_second_db: In the worst half-second (of those within 40 dB of the loudest).
        half_second: Where that is.
        band_db: In each mel band, (bands,); NaN for those 40 dB and more under the strongest.
        band_hz: Where each begins, (bands,).
        missing: Residual shared out to the stems, Σ q_i |X - ΣS|² / Σ P_i, (stems,).
        missing_worst: Where most of that is.
    """

    whole_db: float
    half_second_db: float
    half_second: Span | None
    band_db: Float64
    band_hz: Float64
    missing: Float64
    missing_worst: list[Span | None]

    def worst_band(self) -> tuple[float, float]:
        """Residual in the worst band, dB, and where that begins, Hz; NaN where there is none."""
        if not np.isfinite(self.band_db).any():
            return float("nan"), float("nan")
        worst = int(np.nanargmax(self.band_db))
        return float(self.band_db[worst]), float(self.band_hz[worst])


class Residual:
    """Residual over blocks. Keeps two numbers a half-second and two a band."""

    def __init__(self, stems: int) -> None:
        self._halves: list[Float64] = []
        self._rate_hz = 0
        self._carry = np.zeros((2, 0), dtype=np.float32)
        self._bins: Float64 | None = None
        self._missing = np.zeros(stems)
        self._energy = np.zeros(stems)
        self._missing_worst = WorstSpan(stems)

    def update(self, block: Block) -> None:
        self._rate_hz = block.rate_hz
        self._in_time(block)
        lost = _lost_power(block.spectra)
        stem_power, power = block.stem_power, block.power[1:]
        if block.side is not None and block.side_power is not None:
            lost = lost + _lost_power(block.side)
            power = power + block.side_power[1:]
            stem_power = power.sum(axis=0)
        per_bin = np.stack([lost.sum(axis=0), _mixture_bins(block)]).astype(np.float64)
        self._bins = per_bin if self._bins is None else self._bins + per_bin
        weight = lost / np.maximum(stem_power, POWER_FLOOR)
        missing = np.einsum("ktf,tf->k", power, weight).astype(np.float64)
        self._missing += missing
        self._energy += block.stereo_energy[1:]
        self._missing_worst.update(missing, block.start_s, block.end_s)

    def _in_time(self, block: Block) -> None:
        squares = np.stack([block.rest_squares, block.squares[0]])
        joined = np.concatenate([self._carry, squares], axis=1)
        half = max(block.rate_hz // 2, 1)
        whole = joined.shape[1] // half * half
        if whole:
            self._halves.extend(
                joined[:, :whole].reshape(2, -1, half).sum(axis=2).T.astype(np.float64)
            )
        self._carry = joined[:, whole:]

    def result(self) -> ResidualResult:
        halves = np.array([*self._halves, self._carry.sum(axis=1).astype(np.float64)])
        lost, mixture = halves.T
        half_db = _live_only(lost, mixture)
        worst = int(np.nanargmax(half_db)) if np.isfinite(half_db).any() else -1
        half_second_db = float(half_db[worst]) if worst >= 0 else float("nan")
        return ResidualResult(
            float(decibels(lost.sum(), mixture.sum())),
            half_second_db,
            self._half_second(worst) if worst >= 0 else None,
            *self._in_bands(),
            self._missing / np.where(self._energy > 0, self._energy, np.nan),
            self._missing_worst.result(),
        )

    def lost_above(self, ends_at_bin: npt.NDArray[np.int64], levels: Float64) -> Float64:
        """Residual above where stems end, Σ_{f > end} |X - ΣS|² / Σ P_i, (stems,).

        Shared out by energy (`missing`), it is laid to every stem but the one that ends. A stem is
        charged if the residual begins where it ends; of several, each by its level there.

        Args:
            ends_at_bin: Where the stems' spectra end in a cliff, (stems,); -1 where they don't.
            levels: Their mean power a bin just under that, (stems,).
        """
        if self._bins is None:
            return np.zeros(len(levels))
        lost, bins = self._bins[0], np.arange(self._bins.shape[1])
        charged = np.array([end >= 0 and _begins_at(lost, int(end)) for end in ends_at_bin])
        part = np.where(charged[:, None] & (bins > ends_at_bin[:, None]), levels[:, None], 0.0)
        # A stem loses no more a bin than it has just under its end: spectra fall.
        part = np.minimum(part, lost * part / np.maximum(part.sum(axis=0), 1e-30))
        return np.asarray(part.sum(axis=1) / np.where(self._energy > 0, self._energy, np.nan))

    def _half_second(self, number: int) -> Span:
        """From where to where a half-second goes; the last may be shorter."""
        half = max(self._rate_hz // 2, 1)
        kept = self._carry.shape[1] if number == len(self._halves) else half
        return number * half / self._rate_hz, (number * half + kept) / self._rate_hz

    def _in_bands(self) -> tuple[Float64, Float64]:
        if self._bins is None:
            return np.empty(0), np.empty(0)
        bins = self._bins.shape[1]
        starts = mel_band_starts(bins, self._rate_hz)
        lost, mixture = np.add.reduceat(self._bins, starts, axis=1)
        return _live_only(lost, mixture), starts * self._rate_hz / 2 / (bins - 1)


def _begins_at(lost: Float64, end: int) -> bool:
    """Whether a spectrum is 10 dB higher over a bin than half an octave under it."""
    under, over = lost[int(0.6 * end) : int(0.75 * end)], lost[end : int(1.25 * end) + 1]
    return bool(under.size and over.size and over.mean() > 10 * under.mean())


def _lost_power(spectra: Spectra) -> Real:
    rest = spectra[0] - spectra[1:].sum(axis=0)
    return np.asarray(np.square(rest.real) + np.square(rest.imag))


def _mixture_bins(block: Block) -> Real:
    middle = block.bin_energy[0]
    return (
        middle if block.side_power is None else np.asarray(middle + block.side_power[0].sum(axis=0))
    )


def _live_only(lost: Float64, mixture: Float64) -> Float64:
    """dB of each, NaN where the mixture is 40 dB and more under its largest."""
    live = mixture > mixture.max() * 10 ** (LIVE_DB / 10)
    return np.where(live, decibels(lost, mixture), np.nan)
