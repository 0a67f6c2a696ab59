"""What a signal looks like: its waveform and its spectrogram, from one pass over its blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.audio.stft import ShortTimeFourier, Spectra, mel_edges_hz

COLUMNS = 960
BANDS = 96
N_FFT = 2048
RANGE_DB = 80.0
"""From the loudest band of the mixture down to black."""

_LOWEST_HZ = 30.0
_HOPS = (256, 1024)
_WINDOWS_A_COLUMN = 4
"""Of a long track this many windows a column are looked at: a picture shows no more."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """A signal over `columns` equal parts of its length.

    `low` and `high` are its extremes (columns,), `power` the mean power of each mel band
    (bands, columns), the lowest band first.
    """

    duration_s: float
    low: Floats
    high: Floats
    power: Floats

    @property
    def peak(self) -> float:
        return float(max(np.abs(self.low).max(initial=0), np.abs(self.high).max(initial=0)))

    def levels(self, loudest: float) -> NDArray[np.uint8]:
        """The spectrogram, the highest band on top: 255 at `loudest`, 0 from `RANGE_DB` below."""
        floor = loudest * 10 ** (-RANGE_DB / 10)
        db = 10 * np.log10(np.maximum(self.power, floor) / loudest) if loudest > 0 else None
        if db is None:
            return np.zeros(self.power.shape, np.uint8)
        share = np.clip(1 + db / RANGE_DB, 0, 1)
        return np.asarray(np.round(255 * share[::-1]), np.uint8)


class Looking:
    """Makes a `Look` of blocks (frames, channels) as they come, in memory that doesn't grow.

    Args:
        frames: The signal's length.
        rate_hz: Its sample rate.
    """

    def __init__(self, frames: int, rate_hz: int) -> None:
        self._frames = max(1, frames)
        self._rate = rate_hz
        sparse = self._frames // (_WINDOWS_A_COLUMN * COLUMNS)
        self._hop = max(int(np.clip(self._frames // COLUMNS, *_HOPS)), sparse)
        self._columns = int(np.clip(math.ceil(self._frames / self._hop), 1, COLUMNS))
        self._low = np.zeros(self._columns, np.float32)
        self._high = np.zeros(self._columns, np.float32)
        self._power = np.zeros((self._columns, BANDS), np.float64)
        self._counts = np.zeros(self._columns, np.int64)
        self._edges = band_edges(rate_hz)
        self._stft: ShortTimeFourier | None = None
        self._seen = 0
        self._first_hop = 0

    def add(self, block: Floats) -> None:
        self._extremes(block)
        if self._stft is None:
            self._stft = ShortTimeFourier(block.shape[1], N_FFT, self._hop)
        self._add_spectra(self._stft(block.T, more=True))
        self._seen += len(block)

    def finish(self) -> Look:
        if self._stft is not None:
            silence = np.zeros((self._stft.signals, N_FFT), np.float32)
            self._add_spectra(self._stft(silence, more=True))
        filled = np.maximum.accumulate(np.where(self._counts > 0, np.arange(self._columns), 0))
        mean = self._power[filled] / np.maximum(self._counts[filled], 1)[:, None]
        return Look(
            duration_s=self._frames / self._rate,
            low=self._low,
            high=self._high,
            power=mean.T.astype(np.float32),
        )

    def _column(self, frame: Any) -> Any:
        return np.minimum(frame * self._columns // self._frames, self._columns - 1)

    def _extremes(self, block: Floats) -> None:
        column = self._column(self._seen + np.arange(len(block), dtype=np.int64))
        starts = np.flatnonzero(np.diff(column, prepend=-1))
        # By channel: numpy is slow to reduce along an axis of two.
        low = np.minimum.reduceat(reduce(np.minimum, block.T), starts)
        high = np.maximum.reduceat(reduce(np.maximum, block.T), starts)
        touched = column[starts]
        self._low[touched] = np.minimum(self._low[touched], low)
        self._high[touched] = np.maximum(self._high[touched], high)

    def _add_spectra(self, spectra: Spectra) -> None:
        """Take in spectra, (channels, frames, bins)."""
        count = spectra.shape[1]
        power = np.square(np.abs(spectra)).mean(axis=0)
        column = self._column((self._first_hop + np.arange(count, dtype=np.int64)) * self._hop)
        np.add.at(self._power, column, in_bands(power, self._edges))
        np.add.at(self._counts, column, 1)
        self._first_hop += count


def band_edges(rate_hz: int) -> NDArray[np.float64]:
    """The edges of the bands, (bands + 1,), equally far apart in mel, as positions among the bins.

    Position k is the lower edge of bin k.
    """
    hertz = mel_edges_hz(BANDS, _LOWEST_HZ, rate_hz / 2)
    return np.asarray(hertz * N_FFT / rate_hz + 0.5, np.float64)


def in_bands(power: Floats, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean power between the edges, (frames, bands), of spectra (frames, bins).

    By the running sum, so that a band narrower than a bin gets its share of that bin.
    """
    running = np.zeros((len(power), power.shape[1] + 1))
    np.cumsum(power, axis=1, out=running[:, 1:])
    below = edges.astype(np.int64)
    share = edges - below
    at_edges = running[:, below] + share * np.asarray(power[:, below], np.float64)
    return np.asarray(np.diff(at_edges, axis=1) / np.diff(edges))
