"""Ratios of energies in decibels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

FLOOR_DB = -100.0


def decibels(
    energy: npt.ArrayLike, reference: npt.ArrayLike = 1.0, floor_db: float = FLOOR_DB
) -> Float64:
    """Return 10 log10(energy / reference), at least `floor_db`; NaN where the reference is 0."""
    top, bottom = np.broadcast_arrays(
        np.asarray(energy, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    )
    ratio = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=ratio, where=bottom > 0)
    return np.asarray(10 * np.log10(np.maximum(ratio, 10 ** (floor_db / 10))))
