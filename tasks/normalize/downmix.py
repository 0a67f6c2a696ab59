"""Any channel layout folded into two channels.

After ITU-R BS.775-4, annex 4 (the 3/2 to 2/0 equations), carried on to the layouts that it doesn't
know. Nothing is scaled down beforehand: a fold that exceeds full scale is brought back by the
mixture's gain, which is recorded.

| source channel                                   | into left  | into right |
| ------------------------------------------------ | ---------- | ---------- |
| mono                                             | 0 dB       | 0 dB       |
| front left / front right                         | 0 dB / –   | – / 0 dB   |
| front centre                                     | -3 dB      | -3 dB      |
| surrounds, sides, wides, heights on the left     | -3 dB      | –          |
| the same on the right                            | –          | -3 dB      |
| surrounds and heights on the centre line         | -6 dB      | -6 dB      |
| low-frequency effects                            | dropped    | dropped    |

A surround on the centre line goes to both sides at 0.5, so that its power is folded at -3 dB too.
The LFE channel is dropped, as BS.775 says: it doubles bass that the main channels carry.

A file that doesn't state its layout is read in the order that WAV fixes, by its count of channels:
3 as L R C, 4 as quad, 5 as 5.0, 6 as 5.1, 7 as 6.1, 8 as 7.1; of more, the first two are left and
right and the rest alternate between the sides at -3 dB.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from tasks.normalize.resampling import Samples

_FOLD = math.sqrt(0.5)
_FRONT = {"FL": (1.0, 0.0), "FR": (0.0, 1.0), "DL": (1.0, 0.0), "DR": (0.0, 1.0)}
_BINAURAL = {"BIL": (1.0, 0.0), "BIR": (0.0, 1.0)}
_LEFT = ("FLC", "BL", "SL", "WL", "SDL", "SSL", "TFL", "TBL", "TSL", "BFL", "TTL")
_RIGHT = ("FRC", "BR", "SR", "WR", "SDR", "SSR", "TFR", "TBR", "TSR", "BFR", "TTR")
_LFE = ("LFE", "LFE2")
_WEIGHTS: dict[str, tuple[float, float]] = {
    **_FRONT,
    **_BINAURAL,
    "FC": (_FOLD, _FOLD),
    **dict.fromkeys(_LEFT, (_FOLD, 0.0)),
    **dict.fromkeys(_RIGHT, (0.0, _FOLD)),
    **dict.fromkeys(("BC", "TC", "TFC", "TBC", "BFC"), (0.5, 0.5)),
    **dict.fromkeys(_LFE, (0.0, 0.0)),
}
_BY_COUNT = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


@cache
def matrix(channels: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The weights of a layout, shape (channels, 2), for `samples @ matrix`.

    `channels` are FFmpeg's names of the channels in order, as `names_of` gives them.
    """
    if len(channels) == 1:
        return np.ones((1, 2))
    if all(name in _WEIGHTS for name in channels):
        return np.array([_WEIGHTS[name] for name in channels])
    sides = np.array([_WEIGHTS["SL"], _WEIGHTS["SR"]])
    weights = np.resize(sides, (len(channels), 2))
    weights[:2] = np.eye(2)
    return weights


def fold(samples: Samples, channels: tuple[str, ...]) -> Samples:
    """Samples of shape (frames, channels) as (frames, 2)."""
    if channels == ("FL", "FR"):
        return samples
    folded = np.zeros((len(samples), 2))
    # Not as a matrix product: BLAS may add in another order on another machine.
    for column, weights in zip(samples.T, matrix(channels), strict=True):
        for side in np.flatnonzero(weights):
            folded[:, side] += weights[side] * column
    return folded


def names_of(layout: Any) -> tuple[tuple[str, ...], bool]:
    """A PyAV layout's channel names, and whether they had to be guessed from their count."""
    names = tuple(channel.name for channel in layout.channels)
    if all(name in _WEIGHTS for name in names):
        return names, False
    return _BY_COUNT.get(len(names), names), True


def note_of(channels: tuple[str, ...], guessed: bool, layout: str) -> str | None:
    """What the fold did, as a sentence; None where it did nothing."""
    count = len(channels)
    if count == 1:
        return "Its one channel was copied to both."
    if count == 2:
        return None
    called = "an unstated layout, read in WAV order" if guessed else layout
    dropped = " The LFE channel was dropped." if set(channels) & set(_LFE) else ""
    return f"Its {count} channels ({called}) were folded into two.{dropped}"
