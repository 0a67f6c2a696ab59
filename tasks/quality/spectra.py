"""Mixture and stems side by side, block by block, with their short-time spectra.

One transform per signal feeds every measure: of its middle (the mean of the channels) and, in
stereo, of its side (half their difference), Hann window of 2048, hop of 1024 (at 44.1 kHz; the
power of two nearest to the same 46 ms at other rates). A block is 64 frames, 1.5 s,
and the window's overlap is carried over, so what is held doesn't grow with the track.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.fft
import soundfile as sf

from tasks.errors import CorruptAudio, IncompleteSeparation, StemwrightError, from_os_error

Real = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]
Float64 = npt.NDArray[np.float64]
Values = TypeVar("Values", Real, Float64)

FRAMES_PER_BLOCK = 64
BINS_PER_TILE = 8
POWER_FLOOR = np.float32(1e-20)


def fft_size(rate_hz: int) -> int:
    """2048 at 44.1 kHz; the power of two nearest to 46 ms at any other rate."""
    return 1 << max(round(math.log2(2048 * rate_hz / 44_100)), 5)


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

    @cached_property
    def mono(self) -> Real:
        """Mean of the channels, (signals, samples)."""
        return channel_mean(self.samples)

    @property
    def end_s(self) -> float:
        return self.start_s + float(self.samples.shape[2] / self.rate_hz)

    @cached_property
    def rest(self) -> Real:
        """What of the mixture is in no stem, x - Σ s_i, (channels, samples)."""
        return np.asarray(self.samples[0] - self.samples[1:].sum(axis=0))

    @cached_property
    def rest_squares(self) -> Real:
        """Its squared samples summed over the channels, (samples,)."""
        return np.asarray(np.square(self.rest).sum(axis=0))

    @cached_property
    def squares(self) -> Real:
        """Squared samples summed over the channels, (signals, samples)."""
        return np.asarray(np.square(self.samples).sum(axis=1))

    @cached_property
    def power(self) -> Real:
        """|S|², (signals, frames, bins)."""
        return np.square(self.spectra.real) + np.square(self.spectra.imag)

    @cached_property
    def log_power(self) -> Real:
        """ln |S|², floored."""
        return np.log(np.maximum(self.power, POWER_FLOOR))

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
        return None if self.side is None else np.square(self.side.real) + np.square(self.side.imag)

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
    def gram(self) -> npt.NDArray[np.complex64]:
        """Cross-spectra summed over tiles of 8 bins by the block, (tiles, signals, signals).

        Entry [b, i, j] is sum S_i conj(S_j). The last bin (Nyquist) is left out.
        """
        signals, frames, bins = self.spectra.shape
        tiles = (bins - 1) // BINS_PER_TILE
        cut = self.spectra[:, :, : tiles * BINS_PER_TILE]
        tiled = cut.reshape(signals, frames, tiles, BINS_PER_TILE).transpose(2, 0, 1, 3)
        flat = tiled.reshape(tiles, signals, frames * BINS_PER_TILE)
        return flat @ flat.conj().transpose(0, 2, 1)


@cache
def mel_band_starts(bins: int, rate_hz: int, bands: int = 24) -> npt.NDArray[np.int64]:
    """First bin of each of about `bands` bands that tile the spectrum, alike wide in mel.

    m = 2595 log10(1 + f / 700); O'Shaughnessy, "Speech Communication", 1987.
    """
    from librosa import mel_frequencies

    edges_hz = mel_frequencies(n_mels=bands + 1, fmin=0.0, fmax=rate_hz / 2, htk=True)[:-1]
    return np.unique(np.round(edges_hz / (rate_hz / 2) * (bins - 1)).astype(np.int64))


def channel_mean(samples: Real) -> Real:
    """(signals, channels, samples) to (signals, samples)."""
    # numpy's mean over a short middle axis takes thrice as long.
    total = samples[:, 0].copy()
    for channel in range(1, samples.shape[1]):
        total += samples[:, channel]
    return np.asarray(total * np.float32(1 / samples.shape[1]))


class ShortTimeFourier:
    """Transforms consecutive blocks as if they were one signal.

    Args:
        signals: How many run side by side.
        size: Samples a window; the hop is half of it.
    """

    def __init__(self, signals: int, size: int) -> None:
        self.size = size
        self.hop = size // 2
        # A periodic Hann window; at half overlap its copies sum to one.
        self._window = np.hanning(size + 1)[:-1].astype(np.float32)
        self._carry = np.zeros((signals, size - self.hop), dtype=np.float32)

    def __call__(self, mono: Real) -> Spectra:
        """(signals, samples) to (signals, frames, size // 2 + 1); frame k is centred on k hops.

        A length that is no multiple of the hop is padded with zeros: only the last block may be.
        """
        padding = -mono.shape[1] % self.hop
        joined = np.concatenate([self._carry, np.pad(mono, ((0, 0), (0, padding)))], axis=1)
        self._carry = joined[:, -self._carry.shape[1] :]
        windows = np.lib.stride_tricks.sliding_window_view(joined, self.size, axis=1)
        framed = windows[:, :: self.hop] * self._window
        return np.asarray(scipy.fft.rfft(framed, axis=-1, overwrite_x=True))


class FrameSteps:
    """What changes from one frame to the next, across the blocks' boundaries."""

    def __init__(self) -> None:
        self._last: Any = None

    def __call__(self, values: Values) -> Values:
        """(signals, frames, bands) of a block to their changes; the very first frame has none."""
        before = values[:, :1] if self._last is None else self._last
        self._last = values[:, -1:].copy()
        return np.diff(values, axis=1, prepend=before)


def stream(mixture: Path, stems: Mapping[str, Path], gain: float) -> Iterator[Block]:
    """Read mixture and stems in lock-step; the stems' common gain is undone.

    Raises:
        CorruptAudio: A file can't be decoded, or holds samples that are not finite.
        IncompleteSeparation: A stem hasn't the mixture's rate, channels or length.
        SourceMissing, SourceUnreadable: A file isn't there, or may not be read.
    """
    files: dict[str, sf.SoundFile] = {}
    try:
        for name, path in {"mixture": mixture, **_named(stems)}.items():
            files[name] = _opened(name, path)
        _refuse_mismatch(files)
        yield from _blocks(files, gain)
    finally:
        for file in files.values():
            file.close()


def _named(stems: Mapping[str, Path]) -> dict[str, Path]:
    return {f"the {name} stem": path for name, path in stems.items()}


def _blocks(files: dict[str, sf.SoundFile], gain: float) -> Iterator[Block]:
    mixture = files["mixture"]
    rate, size = mixture.samplerate, fft_size(mixture.samplerate)
    transform = ShortTimeFourier(len(files), size)
    of_side = ShortTimeFourier(len(files), size) if mixture.channels == 2 else None
    length = FRAMES_PER_BLOCK * transform.hop
    position = 0
    while True:
        parts = [_read(name, file, length) for name, file in files.items()]
        if len({len(part) for part in parts}) > 1:
            raise CorruptAudio(
                "the files promise one length, but decoding gave different ones.", stage="score"
            )
        if not len(parts[0]):
            return
        samples = np.ascontiguousarray(np.stack(parts).transpose(0, 2, 1))
        samples[1:] *= np.float32(1 / gain)
        side = of_side(np.float32(0.5) * (samples[:, 0] - samples[:, 1])) if of_side else None
        yield Block(position / rate, rate, samples, transform(channel_mean(samples)), side)
        position += samples.shape[2]


def _opened(name: str, path: Path) -> sf.SoundFile:
    try:
        path.stat()
        return sf.SoundFile(path)
    except OSError as error:
        raise _translated(error) from error
    except (sf.LibsndfileError, ValueError) as error:
        why = str(error).rstrip(".")
        raise CorruptAudio(f"{name} can't be opened as audio ({why}).", stage="score") from error


def _translated(error: OSError) -> StemwrightError:
    return from_os_error(error, stage="score")


def _read(name: str, file: sf.SoundFile, frames: int) -> Real:
    try:
        block: Real = file.read(frames, dtype="float32", always_2d=True)
    except (sf.LibsndfileError, RuntimeError) as error:
        why = str(error).rstrip(".")
        raise CorruptAudio(f"decoding {name} stopped ({why}).", stage="score") from error
    except OSError as error:
        raise _translated(error) from error
    if not np.isfinite(block).all():
        raise CorruptAudio(f"{name} has samples that are not finite numbers.", stage="score")
    return block


def _refuse_mismatch(files: dict[str, sf.SoundFile]) -> None:
    mixture = _shape(files["mixture"])
    for name, file in files.items():
        if _shape(file) != mixture:
            raise IncompleteSeparation(
                f"{name} has {_in_words(file)}, where the mixture has "
                f"{_in_words(files['mixture'])}.",
                missing=(name.removeprefix("the ").removesuffix(" stem"),),
                stage="score",
            )


def _shape(file: sf.SoundFile) -> tuple[int, int, int]:
    return file.samplerate, file.channels, file.frames


def _in_words(file: sf.SoundFile) -> str:
    return f"{file.frames:,} frames of {file.channels} channel(s) at {file.samplerate} Hz"
