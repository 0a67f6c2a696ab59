"""A mixture and its stems, read once and in lock-step, for whoever listens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from tasks.audio.block_reader import AudioFile, Samples, all_finite, energy, not_finite
from tasks.audio.decibels import Float64
from tasks.audio.stft import Real, fft_size
from tasks.errors import CorruptAudio, IncompleteSeparation, StemwrightError

BLOCK_HOPS = 64


def block_frames(rate_hz: int) -> int:
    """Return the frames of a block: 64 hops, 1.5 s; 65,536 at 44.1 kHz."""
    return BLOCK_HOPS * fft_size(rate_hz) // 2


@dataclass(frozen=True)
class Passage:
    """As much of every signal as is read at once; the mixture is signal 0, stem i is 1 + i.

    Attributes:
        start_s: Where it begins in the track, seconds.
        rate_hz: Sample rate.
        samples: (signals, channels, samples) float32, full scale is 1; the stems' common gain is
            undone. Written over by the next passage.
        peaks: Largest absolute sample of each, (signals,).
    """

    start_s: float
    rate_hz: int
    samples: Real
    peaks: Float64

    @cached_property
    def rest(self) -> Real:
        """What of the mixture is in no stem, x - Σ s_i, (channels, samples)."""
        return less_all(self.samples)


def less_all(signals: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the first signal less all others."""
    rest = np.array(signals[0]) if len(signals) == 1 else signals[0] - signals[1]
    for signal in signals[2:]:
        rest -= signal
    return np.asarray(rest)


class Listener(Protocol):
    """Whoever takes in passages as they come."""

    def update(self, passage: Passage) -> object: ...


class Signal:
    """One of the files, and what was found in it so far. Reading it never raises.

    Attributes:
        error: Why it can't be read, or not on; None while it can.
        frames: Sample frames decoded.
        peak, block_peak: Largest absolute sample, of all and of the block; full scale is 1.
        energy: Sum of squared samples over all channels.
        finite: Whether all samples were finite; others count as zero.
        block: The samples read last, (frames, channels), written over by the next; None at the
            end, or after damage.
    """

    def __init__(self, path: Path, name: str, stage: str) -> None:
        self.path, self.name = path, name
        self.error: StemwrightError | None = None
        self.file: AudioFile | None = None
        self.frames = 0
        self.peak = self.block_peak = self.energy = 0.0
        self.finite = True
        self.block: Samples | None = None
        self._buffer: Samples | None = None
        try:
            self.file = AudioFile(path, name=name, stage=stage)
        except StemwrightError as error:
            self.error = error

    @property
    def channels(self) -> int:
        return self.file.channels if self.file else 0

    @property
    def sample_rate_hz(self) -> int:
        return self.file.sample_rate_hz if self.file else 0

    @property
    def shape_in_words(self) -> str:
        return self.file.shape_in_words if self.file else "nothing to read"

    @property
    def peak_dbfs(self) -> float:
        """20 log10(peak), -inf for digital silence."""
        return 20 * math.log10(self.peak) if self.peak > 0 else -math.inf

    @property
    def rms_dbfs(self) -> float:
        """Root mean square over all channels, dB re full scale; -inf for digital silence."""
        samples = self.frames * self.channels
        return 10 * math.log10(self.energy / samples) if samples and self.energy > 0 else -math.inf

    def advance(self, frames: int) -> None:
        """Read the next block, and measure it."""
        self.block = None
        if self.file is None or self.error:
            return
        if self._buffer is None:
            self._buffer = np.empty((frames, self.channels), dtype=np.float32)
        try:
            block = self.file.read(frames, into=self._buffer)
        except StemwrightError as error:
            self.error = error
            return
        if len(block):
            self.block = self._measured(block)

    def _measured(self, block: Samples) -> Samples:
        found = energy(block)
        if not (math.isfinite(found) or all_finite(block)):
            self.finite = False
            block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
            found = energy(block)
        self.frames += len(block)
        self.block_peak = max(float(block.max()), -float(block.min()))
        self.peak = max(self.peak, self.block_peak)
        self.energy += found
        return block


class SideBySide:
    """The files of a separation; iterate to read them to the end, close, or use in a `with`.

    Args:
        mixture: The audio that was separated.
        stems: The stems' files by name.
        gain: What the stems were multiplied by.
        stage: The stage that an error names.
    """

    def __init__(
        self, mixture: Path, stems: Mapping[str, Path], *, gain: float, stage: str
    ) -> None:
        self._stage, self._gain = stage, gain
        self.mixture = Signal(mixture, "mixture", stage)
        self.stems = {name: Signal(path, f"the {name} stem", stage) for name, path in stems.items()}
        self._signals = (self.mixture, *self.stems.values())
        self._samples = np.empty((0, 0, 0), dtype=np.float32)

    def __iter__(self) -> Iterator[Passage | None]:
        """Yield a passage for each block; None from where on the files aren't sound and alike.

        Each signal's `block` is what was read of it meanwhile, also when there is no passage.
        """
        rate = self.mixture.sample_rate_hz or 44_100
        length, position, alike = block_frames(rate), 0, self._first_mismatch() is None
        while True:
            for signal in self._signals:
                signal.advance(length)
            blocks = [signal.block for signal in self._signals if signal.block is not None]
            if not blocks:
                return
            alike = alike and self._are_alike(blocks)
            yield self._passage(position / rate, rate, blocks) if alike else None
            position += length

    def passages(self) -> Iterator[Passage]:
        """Yield every passage.

        Raises:
            CorruptAudio: A file can't be decoded, or holds samples that are not finite.
            IncompleteSeparation: A stem hasn't the mixture's rate, channels or length.
            SourceMissing, SourceUnreadable: A file isn't there, or may not be read.
        """
        self._refuse_broken()
        if odd := self._first_mismatch():
            raise IncompleteSeparation(
                f"{odd.name} has {odd.shape_in_words}, where the mixture has "
                f"{self.mixture.shape_in_words}.",
                missing=(odd.name.removeprefix("the ").removesuffix(" stem"),),
                stage=self._stage,
            )
        for passage in self:
            self._refuse_broken()
            if passage is None:
                raise CorruptAudio(
                    "the files promise one length, but decoding gave different ones.",
                    stage=self._stage,
                )
            yield passage
        self._refuse_broken()

    def _refuse_broken(self) -> None:
        for signal in self._signals:
            if signal.error:
                raise signal.error
            if not signal.finite:
                raise not_finite(signal.name, self._stage)

    def _first_mismatch(self) -> Signal | None:
        """The first signal whose rate, channels or promised length aren't the mixture's."""
        shapes = [signal.file.shape if signal.file else None for signal in self._signals]
        odd = (one for one, shape in zip(self._signals, shapes, strict=True) if shape != shapes[0])
        return next(odd, None)

    def _are_alike(self, blocks: list[Samples]) -> bool:
        same = len({block.shape for block in blocks}) == 1
        return same and len(blocks) == len(self._signals) and all(s.finite for s in self._signals)

    def _passage(self, start_s: float, rate_hz: int, blocks: list[Samples]) -> Passage:
        length, channels = blocks[0].shape
        if not self._samples.size:
            # Only the last passage may be shorter than the first.
            self._samples = np.empty((len(blocks), channels, length), dtype=np.float32)
        samples = self._samples[:, :, :length]
        for row, block in zip(samples, blocks, strict=True):
            row[:] = block.T
        peaks = np.array([signal.block_peak for signal in self._signals])
        if self._gain != 1:
            samples[1:] *= np.float32(1 / self._gain)
            peaks[1:] /= self._gain
        return Passage(start_s, rate_hz, samples, peaks)

    def close(self) -> None:
        for signal in self._signals:
            if signal.file:
                signal.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
