"""Audio in the formats that people listen to, of exactly the length that it had."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from tasks.audio.block_reader import Samples
from tasks.contracts import BitDepth
from tasks.errors import StorageError

Format = Literal["flac", "wav", "mp3", "m4a", "opus"]


@dataclass(frozen=True)
class Coding:
    """How FFmpeg's libraries write a format."""

    container: str
    codec: str
    sample_format: str
    bit_rate: int | None = None
    rate_hz: int | None = None
    options: dict[str, str] | None = None


FORMATS: dict[Format, str] = {
    "flac": "lossless",
    "wav": "lossless, as large as can be",
    "mp3": "320 kbit/s",
    "m4a": "AAC, 256 kbit/s",
    "opus": "192 kbit/s, at 48 kHz",
}
_DEPTHS = {"16": ("pcm_s16le", "s16"), "24": ("pcm_s24le", "s32"), "32f": ("pcm_f32le", "flt")}
_FLAC = {"16": "s16", "24": "s32", "32f": "s32"}


def _coding(form: Format, depth: BitDepth) -> Coding:
    match form:
        case "flac":
            return Coding("flac", "flac", _FLAC[depth])
        case "wav":
            return Coding("wav", *_DEPTHS[depth], options={"rf64": "auto"})
        case "mp3":
            return Coding("mp3", "libmp3lame", "fltp", 320_000)
        case "m4a":
            return Coding("ipod", "aac", "fltp", 256_000, options={"movflags": "+faststart"})
        case "opus":
            return Coding("opus", "libopus", "flt", 192_000, rate_hz=48_000)


def write_audio(
    path: Path, blocks: Iterable[Samples], *, form: Format, depth: BitDepth, rate_hz: int
) -> None:
    """Encode blocks of samples, shape (frames, channels), into one file.

    Args:
        path: Where; what is there is overwritten.
        blocks: The samples, in order; beyond full scale they are clipped in integer formats.
        form: The format.
        depth: Bits a sample, for flac and wav.
        rate_hz: Of the samples.

    Raises:
        StorageError: FFmpeg's libraries here can't write it.
        OSError: The disk.
    """
    coding = _coding(form, depth)
    with written(path, coding.container, coding.options or {}, form) as container:
        track: Track | None = None
        for block in blocks:
            track = track or Track(container, coding, block.shape[1], rate_hz)
            track.write(block)
        if track:
            track.end()


@contextmanager
def written(path: Path, container: str, options: dict[str, str], form: str) -> Iterator[Any]:
    """A file to write encoded audio into; FFmpeg's errors as ours."""
    try:
        with av.open(str(path), "w", format=container, container_options=options) as opened:
            yield opened
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno is not None and 0 < error.errno < 200:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise StorageError(f"{form} can't be written here ({error}).") from error


class Track:
    """One stream of a file that is written: its encoder, and how far it is."""

    def __init__(self, container: Any, coding: Coding, channels: int, rate_hz: int) -> None:
        self._container, self._coding, self._rate_hz = container, coding, rate_hz
        self._layout = "mono" if channels == 1 else "stereo"
        rate = coding.rate_hz or rate_hz
        self.stream = container.add_stream(
            coding.codec, rate=rate, layout=self._layout, format=coding.sample_format
        )
        if coding.bit_rate:
            self.stream.bit_rate = coding.bit_rate
        self._resampler: Any = None
        self._rate = rate
        self._at = 0

    def write(self, block: Samples) -> None:
        """Encode further samples, shape (frames, channels)."""
        if self._resampler is None:
            self._resampler = av.AudioResampler(
                format=self._coding.sample_format,
                layout=self._layout,
                rate=self._rate,
                frame_size=self.stream.codec_context.frame_size or None,
            )
        frame = _frame(block, self._coding, self._layout, self._rate_hz, self._at)
        self._at += len(block)
        self._encode(frame)

    def end(self) -> None:
        """Encode what is left in the encoder."""
        if self._resampler is not None:
            self._encode(None)
            self._container.mux(self.stream.encode(None))

    def _encode(self, frame: Any) -> None:
        for ready in self._resampler.resample(frame):
            self._container.mux(self.stream.encode(ready))


def _frame(block: Samples, coding: Coding, layout: str, rate_hz: int, at: int) -> Any:
    """A block as FFmpeg has it; integers are made here, rounded, since its resampler truncates."""
    sample_format = coding.sample_format if coding.sample_format in ("s16", "s32") else "flt"
    packed = np.ascontiguousarray(_quantized(block, sample_format, coding.codec)).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, sample_format, layout)
    frame.rate = rate_hz
    frame.time_base = Fraction(1, rate_hz)
    frame.pts = at
    return frame


def _quantized(block: Samples, sample_format: str, codec: str) -> np.ndarray[Any, Any]:
    if sample_format == "flt":
        return block if codec == "pcm_f32le" else np.clip(block, -1.0, 1.0)
    bits = 16 if sample_format == "s16" else 24
    scale = 2.0 ** (bits - 1)
    steps = np.clip(np.rint(block * np.float64(scale)), -scale, scale - 1)
    # FFmpeg takes 24 bits in the upper three bytes of 32.
    return steps.astype(np.int16) if bits == 16 else steps.astype(np.int32) << 8
