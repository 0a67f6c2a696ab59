"""What validation asks of one file: whether writing clipped it, its hash, why it can't be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.audio.block_reader import in_words
from tasks.audio.side_by_side import Signal

Flags = npt.NDArray[np.bool_]


def full_scale(signal: Signal) -> Flags | None:
    """Return where a signal's block sits at the ends of the file's integer range.

    (frames, channels); None for nowhere so far, which is so of any float file.
    """
    bits = signal.file.integer_bits if signal.file else None
    ceiling = np.float32(1.0 - 2.0 ** (1 - bits)) if bits else np.inf
    if signal.block is None or signal.peak < ceiling:
        return None
    return np.asarray(np.abs(signal.block) >= ceiling)


class ClippedRuns:
    """Counts samples in runs of three or more at full scale, over blocks.

    One or two samples at full scale are what peak normalization leaves; a writer that clips
    leaves flat tops.
    """

    def __init__(self, channels: int) -> None:
        self.samples = 0
        self._tail = np.zeros((3, channels), dtype=bool)

    def update(self, at_full_scale: Flags | None, exempt: Flags | None) -> None:
        """Take the next block, (frames, channels), but not where `exempt` (the mixture clips)."""
        if at_full_scale is None:
            return
        if exempt is not None and exempt.shape == at_full_scale.shape:
            at_full_scale = at_full_scale & ~exempt
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


def why_unreadable(signal: Signal) -> str:
    """Return a sentence on what keeps a file from being read to its end; empty if nothing does."""
    if signal.error is None:
        return ""
    why = in_words(signal.error.__cause__ or signal.error)
    if signal.file:
        promised = signal.file.frames
        return f"decoding stopped after {signal.frames:,} of {promised:,} frames ({why})."
    if not signal.path.exists():
        return f"there is no file at {signal.path}."
    if not signal.path.is_file():
        return f"{signal.path} isn't a file."
    if signal.path.stat().st_size == 0:
        return "the file is empty."
    return f"it can't be opened as audio ({why})."
