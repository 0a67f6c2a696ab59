"""What the measures look at: mixture and stems block by block, with their short-time spectra.

One transform per signal feeds every measure: of its middle (the mean of the channels) and, in
stereo, of its side (half their difference), Hann window of 2048, hop of 1024 (at 44.1 kHz; the
power of two nearest to the same 46 ms at other rates). A block is 64 frames, 1.5 s,
and the window's overlap is carried over, so what is held doesn't grow with the track.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.audio.decibels import Float64
from tasks.audio.side_by_side import Passage, less_all
from tasks.audio.stft import Real, ShortTimeFourier, Spectra, fft_size, mel_band_starts

Values = TypeVar("Values", Real, Float64)

BINS_PER_TILE = 8
POWER_FLOOR = np.float32(1e-20)


@dataclass(frozen=True)
class Block:
    """1.5 s of every signal; the mixture is signal 0, stem i is signal 1 + i.

    Attributes:
        start_s: Where it begins in the track, seconds.
        rate_hz: Sample rate.
        samples: (signals, channels, samples) float32, full scale is 1.
        spectra: (signals, frames, bins) complex64, of the middle.
        side: The same of the side; None unless there are two channels.
    """

    start_s: float
    rate_hz: int
    samples: Real
    spectra: Spectra
    side: Spectra | None = None

    @property
    def end_s(self) -> float:
        return self.start_s + float(self.samples.shape[2] / self.rate_hz)

    @cached_property
    def mono(self) -> Real:
        """Mean of the channels, (signals, samples)."""
        return channel_mean(self.samples)

    @cached_property
    def peaks(self) -> Float64:
        """Largest absolute sample, (signals,)."""
        return np.asarray(np.abs(self.samples).max(axis=(1, 2)), dtype=np.float64)

    @cached_property
    def rest(self) -> Real:
        """What of the mixture is in no stem, x - Σ s_i, (channels, samples)."""
        return less_all(self.samples)

    @cached_property
    def rest_squares(self) -> Real:
        """Its squared samples summed over the channels, (samples,)."""
        return np.asarray(np.einsum("cn,cn->n", self.rest, self.rest))

    @cached_property
    def squares(self) -> Real:
        """Squared samples summed over the channels, (signals, samples)."""
        return np.asarray(np.einsum("kcn,kcn->kn", self.samples, self.samples))

    @cached_property
    def time_energy(self) -> Float64:
        """Sum of squared samples, (signals,)."""
        return np.asarray(self.squares.sum(axis=1), dtype=np.float64)

    @cached_property
    def mono_energy(self) -> Float64:
        """The same of the mean of the channels, times their number, (signals,)."""
        energy = np.asarray(np.square(self.mono).sum(axis=1), dtype=np.float64)
        return np.asarray(energy * self.samples.shape[1])

    @cached_property
    def amplitude(self) -> Real:
        """|S|, (signals, frames, bins)."""
        return np.abs(self.spectra)

    @cached_property
    def power(self) -> Real:
        """|S|², (signals, frames, bins)."""
        return np.square(self.amplitude)

    @cached_property
    def log_power(self) -> Real:
        """ln |S|², floored."""
        floored = np.maximum(self.power, POWER_FLOOR)
        return np.log(floored, out=floored)

    @cached_property
    def stem_power(self) -> Real:
        """Sum of the stems' powers, (frames, bins)."""
        return np.asarray(self.power[1:].sum(axis=0))

    @cached_property
    def frame_energy(self) -> Real:
        """Sum of |S|² over the bins, (signals, frames)."""
        return np.asarray(self.power.sum(axis=2))

    @cached_property
    def bin_energy(self) -> Real:
        """Sum of |S|² over the frames, (signals, bins)."""
        return np.asarray(self.power.sum(axis=1))

    @cached_property
    def energy(self) -> Float64:
        """Sum of |S|² over the block, (signals,)."""
        return np.asarray(self.frame_energy.sum(axis=1, dtype=np.float64))

    @cached_property
    def side_power(self) -> Real | None:
        """|S|² of the side, (signals, frames, bins)."""
        return None if self.side is None else squared(np.abs(self.side))

    @cached_property
    def stereo_frame_energy(self) -> Real:
        """Sum of |S|² over the bins, middle and side, (signals, frames)."""
        if self.side_power is None:
            return self.frame_energy
        return np.asarray(self.frame_energy + self.side_power.sum(axis=2))

    @cached_property
    def stereo_energy(self) -> Float64:
        """Sum of |S|² over the block, middle and side, (signals,)."""
        return np.asarray(self.stereo_frame_energy.sum(axis=1, dtype=np.float64))

    @cached_property
    def stem_mel_power(self) -> Real:
        """|S|² of the stems summed over mel bands, (stems, frames, bands)."""
        starts = mel_band_starts(self.power.shape[2], self.rate_hz)
        return np.asarray(np.add.reduceat(self.power[1:], starts, axis=2))

    @cached_property
    def with_mixture(self) -> Real:
        """Σ_t Re(S_i conj X) of each stem in each bin, (stems, bins)."""
        return with_mixture(self.spectra)

    @cached_property
    def gram(self) -> npt.NDArray[np.complex128]:
        """The stems' cross-spectra summed over tiles of 8 bins by the block, (tiles, stems, stems).

        Entry [b, i, j] is sum S_i conj(S_j). The last bin (Nyquist) is left out.
        """
        stems = self.spectra[1:]
        tiles = (stems.shape[2] - 1) // BINS_PER_TILE
        gram = np.empty((tiles, len(stems), len(stems)), dtype=np.complex128)

        def tiled(bins: npt.NDArray[Any]) -> npt.NDArray[Any]:
            cut = bins[: tiles * BINS_PER_TILE]
            return np.asarray(cut.reshape(tiles, BINS_PER_TILE).sum(axis=1))

        for i, stem in enumerate(stems):
            gram[:, i, i] = tiled(self.bin_energy[1 + i])
            conjugate = stem.conj()
            for j in range(i):
                gram[:, j, i] = tiled((stems[j] * conjugate).sum(axis=0))
                gram[:, i, j] = gram[:, j, i].conj()
        return gram


def squared(values: Real) -> Real:
    """Return the squares, in the place of the values."""
    return np.multiply(values, values, out=values)


def weighted(stems: Real, weight: npt.NDArray[Any]) -> Float64:
    """Return the sum of each stem's values times the weights of (frames, bins), (stems,)."""
    return np.asarray(np.einsum("ktf,tf->kt", stems, weight).sum(axis=1), dtype=np.float64)


def with_mixture(spectra: Spectra) -> Real:
    """Return Σ_t Re(S_i conj X) of each stem in each bin, (stems, bins)."""
    # Real and imaginary parts as if they were bins, side by side.
    parts = spectra.view(np.float32)
    both = np.einsum("ktf,tf->kf", parts[1:], parts[0])
    return np.asarray(both[:, ::2] + both[:, 1::2])


def channel_mean(samples: Real) -> Real:
    """(signals, channels, samples) to (signals, samples)."""
    # numpy's mean over a short middle axis takes thrice as long.
    total = samples[:, 0].copy()
    for channel in range(1, samples.shape[1]):
        total += samples[:, channel]
    total *= np.float32(1 / samples.shape[1])
    return total


class Spectrometer:
    """Makes a block of each passage.

    Args:
        signals: How many run side by side.
    """

    def __init__(self, signals: int) -> None:
        self._signals = signals
        self._middle: ShortTimeFourier | None = None
        self._side: ShortTimeFourier | None = None

    def __call__(self, passage: Passage) -> Block:
        """Return the next block; its samples are the passage's own."""
        rate_hz, samples = passage.rate_hz, passage.samples
        if self._middle is None:
            size = fft_size(rate_hz)
            self._middle = ShortTimeFourier(self._signals, size)
            self._side = ShortTimeFourier(self._signals, size) if samples.shape[1] == 2 else None
        mono, side = channel_mean(samples), None
        if self._side is not None:
            difference = samples[:, 0] - samples[:, 1]
            difference *= np.float32(0.5)
            side = self._side(difference)
        block = Block(passage.start_s, rate_hz, samples, self._middle(mono), side)
        # These cached properties needn't be worked out again.
        vars(block).update(mono=mono, peaks=passage.peaks, rest=passage.rest)
        return block


class FrameSteps:
    """What changes from one frame to the next, across the blocks' boundaries."""

    def __init__(self) -> None:
        self._last: Any = None

    def __call__(self, values: Values) -> Values:
        """(signals, frames, bands) of a block to their changes; the very first frame has none."""
        before = values[:, :1] if self._last is None else self._last
        self._last = values[:, -1:].copy()
        return np.diff(values, axis=1, prepend=before)


class RunningSums:
    """Sums of equally long slices of samples, over blocks, in step with the track's beginning.

    Attributes:
        begun: Sum of the slice that isn't full yet, (signals,).
        kept: How many samples that has.
    """

    def __init__(self, signals: int) -> None:
        self.begun = np.zeros(signals, dtype=np.float32)
        self.kept = 0

    def __call__(self, samples: Real, length: int) -> Real:
        """Return the sums of the slices of `length` that fill up with these samples.

        (signals, samples) to (signals, slices).
        """
        starts = np.arange(length - self.kept, samples.shape[1], length)
        sums = np.add.reduceat(samples, np.append(0, starts), axis=1)
        sums[:, 0] += self.begun
        self.kept = (self.kept + samples.shape[1]) % length
        if self.kept:
            self.begun = sums[:, -1].copy()
            return sums[:, :-1]
        self.begun = np.zeros_like(self.begun)
        return sums
