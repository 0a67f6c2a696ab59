"""One audio file, read block by block, measured as it goes by."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf

Samples = npt.NDArray[np.float32]

INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


class AudioFile:
    """A file that never raises: what is wrong with it becomes a sentence in `problems`.

    Args:
        path: Any file libsndfile reads.

    Attributes:
        frames: Sample frames decoded so far.
        peak: Largest absolute sample so far, full scale is 1.
        energy: Sum of squared samples over all channels, float64.
        clipped: Samples in runs of three or more at integer full scale, see `ClippedRuns`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.frames = 0
        self.peak = 0.0
        self.energy = 0.0
        self.finite = True
        self.promised_frames = 0
        self.sample_rate_hz = 0
        self.channels = 0
        self._integer_bits: int | None = None
        self._file: sf.SoundFile | None = None
        self._runs: ClippedRuns | None = None
        try:
            self._file = sf.SoundFile(path)
        except (sf.LibsndfileError, OSError, ValueError) as error:
            self.problems.append(_why_not_opened(path, error))
        else:
            self.sample_rate_hz = self._file.samplerate
            self.channels = self._file.channels
            self.promised_frames = self._file.frames
            self._integer_bits = INTEGER_BITS.get(self._file.subtype)
            self._runs = ClippedRuns(self.channels)

    def read(self, frames: int) -> Samples | None:
        """The next block, (up to frames, channels) float32; None at the end or after damage."""
        if self._file is None:
            return None
        try:
            block: Samples = self._file.read(frames, dtype="float32", always_2d=True)
        except (sf.LibsndfileError, OSError, RuntimeError) as error:
            self._file.close()
            self._file = None
            self.problems.append(
                f"decoding stopped after {self.frames:,} of {self.promised_frames:,} frames "
                f"({str(error).rstrip('.')})."
            )
            return None
        return self._measured(block) if len(block) else None

    def full_scale(self, block: Samples) -> npt.NDArray[np.bool_]:
        """Where a block sits at the ends of the file's integer range; nowhere in a float file."""
        if self._integer_bits is None:
            return np.zeros(block.shape, dtype=bool)
        ceiling = np.float32(1.0 - 2.0 ** (1 - self._integer_bits))
        return np.asarray(np.abs(block) >= ceiling)

    def count_clipped(self, block: Samples, exempt: npt.NDArray[np.bool_] | None) -> None:
        """Count the block's clipped runs, but not where `exempt` (the mixture clips too)."""
        if self._runs is None or self._integer_bits is None:
            return
        at_full_scale = self.full_scale(block)
        if exempt is not None and exempt.shape == at_full_scale.shape:
            at_full_scale &= ~exempt
        self._runs.update(at_full_scale)

    def _measured(self, block: Samples) -> Samples:
        self.frames += len(block)
        if not np.isfinite(block).all():
            self.finite = False
            block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        self.peak = max(self.peak, float(np.abs(block).max()))
        self.energy += float(np.square(block, dtype=np.float64).sum())
        return block

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def clipped(self) -> int:
        return self._runs.samples if self._runs else 0

    @property
    def peak_dbfs(self) -> float:
        """20 log10(peak), -inf for digital silence."""
        return 20 * math.log10(self.peak) if self.peak > 0 else -math.inf

    @property
    def rms_dbfs(self) -> float:
        """Root mean square over all channels, dB re full scale; -inf for digital silence."""
        samples = self.frames * self.channels
        return 10 * math.log10(self.energy / samples) if samples and self.energy > 0 else -math.inf


class ClippedRuns:
    """Counts samples in runs of three or more at full scale, over blocks.

    One or two samples at full scale are what peak normalization leaves; a writer that clips
    leaves flat tops.
    """

    def __init__(self, channels: int) -> None:
        self.samples = 0
        self._tail = np.zeros((3, channels), dtype=bool)

    def update(self, at_full_scale: npt.NDArray[np.bool_]) -> None:
        """Take the next block, (frames, channels) bool."""
        mask = np.concatenate([self._tail, at_full_scale])
        self._tail = mask[-3:]
        if not mask.any():
            return
        triples = mask[2:] & mask[1:-1] & mask[:-2]
        starts = triples[1:] & ~triples[:-1]
        # A run of n samples holds n - 2 triples, one of them its start.
        self.samples += int(triples[1:].sum()) + 2 * int(starts.sum())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes in hex; empty if it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def size_of(path: Path) -> int:
    """Bytes; 0 if it can't be read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _why_not_opened(path: Path, error: Exception) -> str:
    if not path.exists():
        return f"there is no file at {path}."
    if not path.is_file():
        return f"{path} isn't a file."
    if path.stat().st_size == 0:
        return "the file is empty."
    return f"it can't be opened as audio ({str(error).rstrip('.')})."
