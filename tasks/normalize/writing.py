"""Lossless stereo files, written as a stream and renamed into place when whole."""

from __future__ import annotations

import contextlib
import uuid
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from tasks.contracts import BitDepth
from tasks.normalize.avio import WriteFile
from tasks.normalize.resampling import Samples

_BITS = {"16": 16, "24": 24}


def full_scale(depth: BitDepth) -> float:
    """The largest positive sample of a depth, where -1.0 is the largest negative one."""
    return 1.0 if depth == "32f" else 1.0 - 2.0 ** (1 - _BITS[depth])


class MasterWriter:
    """Writes `folder/mixture.flac`, or `mixture.wav` for 32-bit float. A context manager.

    Until `commit` the file has a temporary name, and it is removed if `commit` isn't reached. The
    same samples give the same bytes. Nothing is dithered: dither would have to be seeded to be
    repeatable, would keep integer sources from passing through exactly, and at 24 bits hides
    nothing that can be heard.

    Raises:
        OSError: From any method: it can't be written, for example since the disk is full.
    """

    def __init__(self, folder: Path, depth: BitDepth, rate_hz: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / ("mixture.wav" if depth == "32f" else "mixture.flac")
        self._partial = folder / f".{self.path.name}.{uuid.uuid4().hex}.partial"
        self._depth = depth
        self._rate_hz = rate_hz
        self._frames = 0
        self._file = WriteFile(self._partial)
        try:
            self._open()
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> MasterWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._discard()

    def write(self, samples: Samples) -> None:
        """Append samples, shape (frames, 2); those beyond full scale are clipped."""
        if not len(samples):
            return
        packed = np.ascontiguousarray(_quantized(samples, self._depth)).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, self._stream.format.name, "stereo")
        frame.rate = self._rate_hz
        frame.time_base = Fraction(1, self._rate_hz)
        frame.pts = self._frames
        self._frames += len(samples)
        self._mux(frame)

    def commit(self) -> Path:
        """Finish the file and give it its name."""
        self._mux(None)
        self._close()
        self._partial.replace(self.path)
        return self.path

    def _open(self) -> None:
        wav = self._depth == "32f"
        self._container: Any = av.open(
            self._file,
            "w",
            format="wav" if wav else "flac",
            # Bit-exact keeps FFmpeg's version out of the file. A float WAV passes 4 GiB after three
            # hours, and becomes RF64 there.
            container_options={"fflags": "+bitexact", **({"rf64": "auto"} if wav else {})},
        )
        self._stream: Any = self._container.add_stream(
            "pcm_f32le" if wav else "flac",
            rate=self._rate_hz,
            layout="stereo",
            format={"16": "s16", "24": "s32", "32f": "flt"}[self._depth],
            options={"flags": "+bitexact"},
        )

    def _mux(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except av.FFmpegError:
            self._file.check()
            raise
        self._file.check()

    def _close(self) -> None:
        try:
            self._container.close()
        finally:
            self._file.close()
            self._file.check()

    def _discard(self) -> None:
        with contextlib.suppress(av.FFmpegError, OSError, AttributeError):
            self._close()
        self._partial.unlink(missing_ok=True)


def _quantized(samples: Samples, depth: BitDepth) -> np.ndarray[Any, np.dtype[Any]]:
    if depth == "32f":
        return samples.astype(np.float32)
    scale = 2.0 ** (_BITS[depth] - 1)
    steps = np.clip(np.rint(samples * scale), -scale, scale - 1)
    # FFmpeg's FLAC encoder takes 24 bits in the upper three bytes of 32.
    return steps.astype(np.int16) if depth == "16" else steps.astype(np.int32) << 8
