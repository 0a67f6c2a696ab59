"""Audio files, read in blocks of float32; libsndfile's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import soundfile as sf

from tasks.errors import CorruptAudio, from_os_error

Samples = npt.NDArray[np.float32]

INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


class _Stream(sf.SoundFile):  # type: ignore[misc]
    """soundfile's, without a seek in libsndfile to where it is already after every read."""

    def seekable(self) -> bool:
        return False


class AudioFile:
    """An open file of any kind that libsndfile reads; close it, or use it in a `with`.

    Args:
        path: The file.
        name: What an error calls it; its file name if empty.
        stage: The stage that an error names.

    Attributes:
        sample_rate_hz: Sample rate.
        channels: Number of channels.
        frames: Sample frames that the file promises.
        integer_bits: Bits a sample; None for what isn't integer PCM.

    Raises:
        SourceMissing, SourceUnreadable: There is no such file, or it may not be read.
        CorruptAudio: It isn't audio; libsndfile's own error is its cause.
    """

    def __init__(self, path: Path, *, name: str = "", stage: str = "") -> None:
        self.path, self.name, self._stage = path, name or path.name, stage
        try:
            path.stat()
            self._file = _Stream(path)
        except OSError as error:
            raise from_os_error(error, stage=stage) from error
        except (sf.LibsndfileError, ValueError) as error:
            cause = f"{self.name} can't be opened as audio ({in_words(error)})."
            raise CorruptAudio(cause, stage=stage) from error
        self.sample_rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int = self._file.frames
        self.integer_bits = INTEGER_BITS.get(self._file.subtype)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sample rate, channels and frames."""
        return self.sample_rate_hz, self.channels, self.frames

    @property
    def shape_in_words(self) -> str:
        return f"{self.frames:,} frames of {self.channels} channel(s) at {self.sample_rate_hz} Hz"

    def read(self, frames: int, *, finite: bool = False, into: Samples | None = None) -> Samples:
        """Return the next samples, (up to `frames`, channels); fewer only at the end.

        Args:
            frames: How many.
            into: Where they are written, (`frames`, channels); a new array if None.
            finite: Whether infinities and what isn't a number are refused.

        Raises:
            CorruptAudio: They can't be decoded, or aren't finite where that is demanded.
        """
        try:
            block: Samples = self._file.read(frames, dtype="float32", always_2d=True, out=into)
        except OSError as error:
            raise from_os_error(error, stage=self._stage) from error
        except (sf.LibsndfileError, RuntimeError) as error:
            cause = f"decoding {self.name} stopped ({in_words(error)})."
            raise CorruptAudio(cause, stage=self._stage) from error
        if finite and not all_finite(block):
            raise not_finite(self.name, self._stage)
        return block

    def blocks(self, frames: int, *, finite: bool = False) -> Iterator[Samples]:
        """Yield the rest of the file in blocks of `frames`; as `read` otherwise."""
        while len(block := self.read(frames, finite=finite)):
            yield block

    def seek(self, frame: int) -> None:
        """Go to a frame, from the beginning."""
        self._file.seek(frame)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def all_finite(block: Samples) -> bool:
    """Whether every sample is a finite number."""
    # The sum of finite samples is finite, but for ones around 1e33.
    return bool(np.isfinite(block.sum()) or np.isfinite(block).all())


def energy(block: Samples) -> float:
    """Return the sum of squares, of runs of 2,048 in single precision, of those in double."""
    flat = block.ravel()
    whole = len(flat) - len(flat) % 2048
    runs, rest = flat[:whole].reshape(-1, 2048), flat[whole:]
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.einsum("ij,ij->i", runs, runs).sum(dtype=np.float64) + np.dot(rest, rest))


def not_finite(name: str, stage: str) -> CorruptAudio:
    """Return the error of a file with samples that are not finite."""
    return CorruptAudio(f"{name} has samples that are not finite numbers.", stage=stage)


def in_words(error: BaseException) -> str:
    """Return what an error says, without the full stop."""
    return str(error).rstrip(".")
