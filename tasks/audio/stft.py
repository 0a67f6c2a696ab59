"""Short-time spectra of signals that come in blocks, and mel bands of them."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from tasks.audio.decibels import Float64

Real = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]


def fft_size(rate_hz: int) -> int:
    """Return 2048 at 44.1 kHz; the power of two nearest to 46 ms at any other rate."""
    return 1 << max(round(math.log2(2048 * rate_hz / 44_100)), 5)


class ShortTimeFourier:
    """Transforms consecutive blocks as if they were one signal; frame k is centred on k hops.

    Args:
        signals: How many run side by side.
        size: Samples a window, which is Hann's.
        hop: Samples from frame to frame, even more than a window; 0 is half of one.
    """

    def __init__(self, signals: int, size: int, hop: int = 0) -> None:
        self.signals, self.size = signals, size
        self.hop = hop or size // 2
        # A periodic window; at half overlap its copies sum to one.
        self._window = np.hanning(size + 1)[:-1].astype(np.float32)
        self._rest = np.zeros((signals, size // 2), dtype=np.float32)
        self._skip = 0
        self._framed = np.empty((signals, 0, size), dtype=np.float32)

    def __call__(self, samples: Real, *, more: bool = False) -> Spectra:
        """Return the spectra, (signals, frames, size // 2 + 1), of samples (signals, samples).

        Args:
            samples: The next ones.
            more: Whether samples that don't fill a frame wait for more of them; otherwise they
                are padded with zeros to the next hop, so only the last block may have such.
        """
        # Slow to load, and measures are registered where nothing is transformed.
        from scipy.fft import rfft

        skipped = min(self._skip, samples.shape[1])
        self._skip -= skipped
        joined = np.concatenate([self._rest, samples[:, skipped:]], axis=1)
        if not more:
            padding = (self.size - joined.shape[1]) % self.hop
            joined = np.pad(joined, ((0, 0), (0, padding))) if padding else joined
        count = max((joined.shape[1] - self.size) // self.hop + 1, 0)
        self._rest = joined[:, count * self.hop :].copy()
        self._skip += max(count * self.hop - joined.shape[1], 0)
        if not count:
            return np.empty((len(joined), 0, self.size // 2 + 1), dtype=np.complex64)
        windows = np.lib.stride_tricks.sliding_window_view(joined, self.size, axis=1)
        windows = windows[:, :: self.hop][:, :count]
        if self._framed.shape != windows.shape:
            self._framed = np.empty(windows.shape, dtype=np.float32)
        np.multiply(windows, self._window, out=self._framed)
        return np.asarray(rfft(self._framed, axis=-1))


def mel_edges_hz(bands: int, lowest_hz: float, highest_hz: float) -> Float64:
    """Return the edges of bands that are alike wide in mel, (bands + 1,).

    m = 2595 log10(1 + f / 700); O'Shaughnessy, "Speech Communication", 1987.
    """
    from librosa import mel_frequencies

    edges = mel_frequencies(n_mels=bands + 1, fmin=lowest_hz, fmax=highest_hz, htk=True)
    return np.asarray(edges, dtype=np.float64)


@cache
def mel_band_starts(bins: int, rate_hz: int, bands: int = 24) -> npt.NDArray[np.int64]:
    """Return the first bin of each of about `bands` mel bands that tile the spectrum."""
    edges_hz = mel_edges_hz(bands, 0.0, rate_hz / 2)[:-1]
    return np.unique(np.round(edges_hz / (rate_hz / 2) * (bins - 1)).astype(np.int64))
