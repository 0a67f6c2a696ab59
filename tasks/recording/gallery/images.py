"""Looks as what a page can show: a picture, and the points of a waveform."""

from __future__ import annotations

import base64
import io
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.recording.gallery.spectrogram import Floats, Look

_QUALITY = 72


@cache
def _palette() -> NDArray[np.uint8]:
    import matplotlib as mpl

    colours = mpl.colormaps["magma"](np.arange(256))
    return np.asarray(np.round(colours[:, :3] * 255), np.uint8)


def spectrogram_url(look: Look, loudest: float) -> str:
    """A spectrogram as a data URI: WebP, a pixel a band and column.

    `loudest` is the band power that is white: the mixture's largest for all of a track's
    signals, so that they can be compared.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(_palette()[look.levels(loudest)]).save(file, "WEBP", quality=_QUALITY)
    return data_url("image/webp", file.getvalue())


def waveform(look: Look, peak: float) -> str:
    """Lowest and highest value of each column as base64 of signed bytes, 127 at `peak`."""
    scale = 127 / peak if peak > 0 else 0.0
    pairs: Floats = np.stack([look.low, look.high], axis=1)
    return encoded(np.clip(np.round(pairs * scale), -127, 127).astype(np.int8).tobytes())


def data_url(mime_type: str, data: bytes) -> str:
    return f"data:{mime_type};base64,{encoded(data)}"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
