"""How a track is cut into segments, exactly as demucs cuts it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_SHIFT_S = 0.5


@dataclass(frozen=True, slots=True)
class Segment:
    """One forward pass: what it reads of the track, and which frames of a pass it is for.

    Attributes:
        offset: First frame that it is for, from the start of its pass.
        length: Frames that it is for.
        start: First frame read, from the start of the track; may be negative.
        frames: Frames that the network is given, with context or zeros on both sides.
    """

    offset: int
    length: int
    start: int
    frames: int

    @property
    def lead(self) -> int:
        """Frames of the network's output before those that it is for."""
        return (self.frames - self.length) // 2


@dataclass(frozen=True, slots=True)
class Cut:
    """One pass of a network over a track.

    Attributes:
        segment: Frames of a whole segment.
        stride: Frames from one segment to the next.
        base: Where the pass starts, from the start of the track; a shift starts before it.
        span: Frames of the pass; it ends where the track does.
    """

    segment: int
    stride: int
    base: int
    span: int

    def segments(self, network: Any) -> Iterator[Segment]:
        """The segments, in order (`demucs.apply.apply_model`, split and padded)."""
        for offset in range(0, self.span, self.stride):
            length = min(self.segment, self.span - offset)
            frames = valid_length(network, length)
            yield Segment(offset, length, self.base + offset - (frames - length) // 2, frames)

    def __len__(self) -> int:
        return len(range(0, self.span, self.stride))


def valid_length(network: Any, length: int) -> int:
    """Frames that a network has to be given for `length` of them to come out whole."""
    return int(network.valid_length(length)) if hasattr(network, "valid_length") else length


def cuts(network: Any, frames: int, overlap: float, shifts: int, seed: int) -> list[Cut]:
    """The passes of one network over a track: one, or one for each shift.

    Shifts are drawn from `seed` alone, so that all networks of a bag see the same ones.
    """
    segment = int(network.samplerate * network.segment)
    stride = int((1 - overlap) * segment)
    if not shifts:
        return [Cut(segment, stride, 0, frames)]
    longest = int(MAX_SHIFT_S * network.samplerate)
    draw = random.Random(seed)
    bases = [draw.randint(0, longest) - longest for _ in range(shifts)]
    return [Cut(segment, stride, base, frames - base) for base in bases]
