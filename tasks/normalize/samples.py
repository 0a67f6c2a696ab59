"""Decoded frames as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.errors import NotAudio
from tasks.normalize.resampling import Samples

# FFmpeg's sample formats: the array type, and what full scale is.
_FORMATS = {
    "u8": ("u1", 2.0**7),
    "s16": ("i2", 2.0**15),
    "s32": ("i4", 2.0**31),
    "s64": ("i8", 2.0**63),
    "flt": ("f4", 1.0),
    "dbl": ("f8", 1.0),
}


def as_floats(frame: Any) -> Samples:
    """A decoded frame, shape (frames, channels), full scale at 1.0.

    Exact for every format but 64-bit integers, of which 53 bits are kept.

    Raises:
        NotAudio: Its samples are of a kind that isn't known here.
    """
    name: str = frame.format.name
    if name.removesuffix("p") not in _FORMATS:
        raise NotAudio(f"its samples are of an unsupported kind, {name}.")
    kind, full_scale = _FORMATS[name.removesuffix("p")]
    channels = frame.layout.nb_channels
    # Not PyAV's own arrays: they lack 64-bit integers, and count planes beyond the last channel
    # where there are more than eight.
    width = 1 if frame.format.is_planar else channels
    planes = frame.planes[: channels if frame.format.is_planar else 1]
    rows = [np.frombuffer(plane, kind, frame.samples * width) for plane in planes]
    samples: Samples = np.stack(rows).T.astype(np.float64).reshape(-1, channels)
    if kind == "u1":
        samples -= full_scale
    samples /= full_scale
    return samples
