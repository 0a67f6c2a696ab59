"""Reading a mixture's samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contracts import Mixture
from tasks.errors import (
    CorruptAudio,
    ProtocolError,
    from_os_error,
)

if TYPE_CHECKING:
    import soundfile
    import torch
    from numpy.typing import NDArray

_BLOCK = 1 << 18


class MixtureReader:
    """A mixture's samples, read where they are asked for; nothing of it stays in memory.

    Made with one pass over the file, which checks it and finds what normalises it.

    Attributes:
        frames: Of the track.
        channels: Of the track.
        mean: Of the mono mean; what demucs subtracts.
        deviation: Of the mono mean, never 0; what demucs divides by.
        silent: Every sample is exactly 0.

    Raises:
        SourceMissing: The file is gone.
        CorruptAudio: It can't be decoded, or holds samples that are not finite numbers.
        ProtocolError: It isn't what the value says it is.
    """

    def __init__(self, mixture: Mixture) -> None:
        self._name = mixture.path.name
        with _told(self._name):
            self._file = _open(mixture.path)
            self.frames, self.channels = self._file.frames, self._file.channels
            found = (self._file.samplerate, self.channels, self.frames)
            if found != (mixture.sample_rate_hz, mixture.channels, mixture.frames):
                raise ProtocolError(
                    f"{self._name} holds {found[1]} x {found[2]} samples at {found[0]} Hz, not "
                    f"{mixture.channels} x {mixture.frames} at {mixture.sample_rate_hz} Hz.",
                    stage="separate",
                )
            self.mean, self.deviation, self.silent = self._measure()

    def normal(self, start: int, frames: int) -> torch.Tensor:
        """Normalised samples, (channels, frames), float32; zeros where the track has none.

        Args:
            start: First frame; may be before the track's.
            frames: May go on beyond its end.
        """
        import torch

        first, last = max(0, start), min(self.frames, start + frames)
        out = torch.zeros(self.channels, frames)
        if first < last:
            wave = self.samples(first, last - first)
            out[:, first - start : last - start] = (wave - self.mean) / self.deviation
        return out

    def samples(self, start: int, frames: int) -> torch.Tensor:
        """Samples as they are, (channels, frames), float32.

        Args:
            start: First frame of the track's.
            frames: As many as the track has from there on, at most.
        """
        import torch

        with _told(self._name):
            self._file.seek(start)
            samples = self._file.read(frames, dtype="float32", always_2d=True)
        if len(samples) != frames:
            raise CorruptAudio(f"{self._name} ends before its time.", stage="separate")
        return torch.from_numpy(samples.T)

    def silence(self, stems: int) -> Iterator[NDArray[np.float32]]:
        """Zeros as long as the track, in blocks of shape (stems, channels, frames)."""
        for start in range(0, self.frames, _BLOCK):
            length = min(_BLOCK, self.frames - start)
            yield np.zeros((stems, self.channels, length), dtype=np.float32)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> MixtureReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _measure(self) -> tuple[float, float, bool]:
        """Mean and deviation (of a sample, as torch's) of the mono mean; whether all is zero."""
        count, total, squares, silent = 0, 0.0, 0.0, True
        for block in self._file.blocks(_BLOCK, dtype="float32", always_2d=True):
            if not np.isfinite(block).all():
                raise CorruptAudio(
                    "it holds samples that are not finite numbers.", stage="separate"
                )
            mono = block.mean(axis=1, dtype=np.float64)
            count += len(mono)
            total += float(mono.sum())
            squares += float(mono @ mono)
            silent = silent and not block.any()
        if count != self.frames:
            raise CorruptAudio(f"{self._name} ends before its time.", stage="separate")
        mean = total / count
        variance = max(0.0, squares - count * mean * mean) / max(1, count - 1)
        return mean, variance**0.5 + 1e-8, silent


def _open(path: Path) -> soundfile.SoundFile:
    import soundfile

    try:
        path.open("rb").close()
    except OSError as error:
        raise from_os_error(error, track=path.name, stage="separate") from error
    return soundfile.SoundFile(str(path))


@contextmanager
def _told(name: str) -> Iterator[None]:
    """libsndfile's error as ours."""
    import soundfile

    try:
        yield
    except soundfile.LibsndfileError as error:
        raise CorruptAudio(
            f"it can't be decoded ({error.error_string})", track=name, stage="separate"
        ) from error
