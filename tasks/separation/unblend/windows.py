"""Cutting a long track for a library that takes whole ones, without a seam that can be heard.

The library cuts what it's given into segments at every `stride` from the start, and adds their
outputs with a triangular weight. So a window that starts a multiple of `stride` into the track, and
reaches a segment further on both sides than what is taken of it, gives the same samples there as
the whole track would. Where a model's members have segments of different lengths that holds for
one of them only; the fade between windows is for the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """Frames of the track: those the network gets, and those that are taken of its output.

    Attributes:
        start, stop: What the network gets.
        first, last: What is taken; after the first window it begins with the fade.
        fade: How many of the frames from `last` on are shared with the window after it.
    """

    start: int
    stop: int
    first: int
    last: int
    fade: int


def windows(frames: int, segment: int, stride: int, longest: int, fade: int) -> list[Window]:
    """Windows over a track of `frames`; one where it isn't much longer than `longest`.

    Args:
        frames: Of the track.
        segment: Frames of one forward pass.
        stride: Frames from one segment to the next.
        longest: About how many frames are taken of one window.
        fade: Frames over which two windows are faded.
    """
    core = max(1, round(longest / stride)) * stride
    starts = list(range(0, frames, core))
    if len(starts) > 1 and frames - starts[-1] < max(core // 2, fade):
        starts.pop()
    margin = math.ceil(segment / stride) * stride
    made = []
    for first, last in zip(starts, [*starts[1:], frames], strict=True):
        shared = fade if last < frames else 0
        stop = min(frames, last + shared + segment)
        made.append(Window(max(0, first - margin), stop, first, last, shared))
    return made


class Joiner:
    """Joins the windows' outputs; each with a linear fade into the next one."""

    def __init__(self) -> None:
        self._tail: NDArray[np.float32] | None = None

    def add(self, window: Window, output: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """What is complete with this window, in order.

        Args:
            window: The next one.
            output: Of its frames, (stems, channels, frames).
        """
        taken = output[..., window.first - window.start : window.last + window.fade - window.start]
        if self._tail is not None:
            length = self._tail.shape[-1]
            rising = (np.arange(length, dtype=np.float32) + 1) / (length + 1)
            yield self._tail + (taken[..., :length] - self._tail) * rising
            taken = taken[..., length:]
        whole = taken.shape[-1] - window.fade
        self._tail = taken[..., whole:].copy() if window.fade else None
        yield taken[..., :whole]
