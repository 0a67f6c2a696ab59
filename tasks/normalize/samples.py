"""Decoded frames as numbers."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from tasks.errors import NotAudio
from tasks.normalize.resampling import Samples

_FULL_SCALE = {"i2": 2.0**15, "i4": 2.0**31, "u1": 2.0**7}


def as_floats(frame: Any) -> Samples:
    """A decoded frame, shape (frames, channels), full scale at 1.0, exact for every format.

    Raises:
        NotAudio: Its samples are of a kind that can't be read (64-bit integers).
    """
    kind = av.audio.frame.format_dtypes.get(frame.format.name)
    if kind is None:
        raise NotAudio(f"its samples are of an unsupported kind, {frame.format.name}.")
    raw = frame.to_ndarray()
    rows = raw.T if frame.format.is_planar else raw.reshape(-1, frame.layout.nb_channels)
    samples: Samples = rows.astype(np.float64)
    if kind == "u1":
        samples -= _FULL_SCALE["u1"]
    samples /= _FULL_SCALE.get(kind, 1.0)
    return samples
