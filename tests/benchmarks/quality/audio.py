"""Audio on a 24-bit grid, so that sums which are exact in memory stay exact in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.data.studio.score import SAMPLE_RATE

Audio = NDArray[np.float64]
"""Samples of shape (2, samples), full scale is 1."""

GRID = 2.0**23
CEILING = 1 - 1 / GRID


def from_int16(samples: NDArray[np.int16]) -> Audio:
    """16-bit samples as float: every value lies on the 24-bit grid."""
    return np.asarray(samples.astype(np.float64) / 32768)


def on_grid(audio: Audio) -> Audio:
    """Rounded to 24 bits; sums and differences of such signals are exact."""
    return np.asarray(np.round(audio * GRID) / GRID)


def write_stems(folder: Path, named: Mapping[str, Audio]) -> None:
    """Writes each as 24-bit FLAC; what goes over full scale is clipped, as a file would be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, audio in named.items():
        words = np.round(np.clip(audio, -1, CEILING) * GRID).astype(np.int32) << 8
        # Integers pass unchanged, where libsndfile scales floats by 2^23 - 1.
        soundfile.write(folder / f"{name}.flac", words.T, SAMPLE_RATE, subtype="PCM_24",
                        compression_level=0.0)  # fmt: skip


def read(path: Path) -> Audio:
    """A file as (2, samples)."""
    audio, _ = soundfile.read(path, dtype="float64", always_2d=True)
    return np.asarray(audio.T)
