"""Decoded frames as numbers."""

from __future__ import annotations

from typing import Any

import av
import numpy as np

from tasks.normalize.resampling import Samples

_FULL_SCALE = {"i2": 2.0**15, "i4": 2.0**31, "i8": 2.0**63, "u1": 2.0**7}


def as_floats(frame: Any) -> Samples:
    """A decoded frame, shape (frames, channels), full scale at 1.0.

    Exact for every format but 64-bit integers, of which 53 bits are kept.
    """
    channels = frame.layout.nb_channels
    if frame.format.name.startswith("s64"):
        # PyAV has no array type for it; what encodes to it isn't planar.
        kind = "i8"
        raw = np.frombuffer(frame.planes[0], dtype="<i8")[: frame.samples * channels]
    else:
        kind = av.audio.frame.format_dtypes[frame.format.name]
        raw = frame.to_ndarray()
    rows = raw.T if frame.format.is_planar else raw.reshape(-1, channels)
    samples: Samples = rows.astype(np.float64)
    if kind == "u1":
        samples -= _FULL_SCALE["u1"]
    samples /= _FULL_SCALE.get(kind, 1.0)
    return samples
