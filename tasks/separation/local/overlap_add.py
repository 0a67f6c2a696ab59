"""Overlap-add as a stream: frames leave as soon as no later segment can touch them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def triangle(frames: int, device: str) -> torch.Tensor:
    """The weight of each frame of a segment, (frames,): 1 in the middle, towards 0 at the ends."""
    import torch

    half = frames // 2
    rising = torch.arange(1, half + 1, device=device)
    falling = torch.arange(frames - half, 0, -1, device=device)
    weight = torch.cat([rising, falling])
    return weight / weight.max()


class OverlapAdd:
    """Weighs overlapping estimates together; holds one segment, on the estimates' device.

    Args:
        stems: Of each estimate.
        channels: Of each estimate.
        segment: Frames of a whole segment.
        device: Torch's name.
    """

    def __init__(self, stems: int, channels: int, segment: int, device: str) -> None:
        import torch

        self._weight = triangle(segment, device)
        self._sum = torch.zeros(stems, channels, segment, device=device)
        self._weights = torch.zeros(segment, device=device)

    def add(self, estimate: torch.Tensor) -> None:
        """Add an estimate, (stems, channels, frames), that starts where the buffer does."""
        frames = estimate.shape[-1]
        weight = self._weight[:frames]
        self._sum[..., :frames] += weight * estimate
        self._weights[:frames] += weight

    def take(self, frames: int) -> torch.Tensor:
        """The first `frames`, which no later estimate starts before; (stems, channels, frames)."""
        done = self._sum[..., :frames] / self._weights[:frames]
        for buffer in (self._sum, self._weights):
            kept = buffer[..., frames:].clone()
            buffer.zero_()
            buffer[..., : kept.shape[-1]] = kept
        return done


class Merge:
    """Adds up what several passes estimate of the same frames, as they come.

    Passes may be a segment apart; what all of them have reached leaves.

    Args:
        shape: Stems and channels.
        passes: How many there are.
    """

    def __init__(self, shape: tuple[int, int], passes: int) -> None:
        import torch

        self._pending = torch.zeros(*shape, 0)
        self._start = 0
        self._reached = [0] * passes

    def behind(self, frames: int) -> int | None:
        """The pass that is furthest behind; None once all have reached `frames`."""
        least = min(self._reached)
        return None if least >= frames else self._reached.index(least)

    def add(self, which: int, stems: Sequence[int], block: torch.Tensor) -> torch.Tensor:
        """Add the next block of a pass, (len(stems), channels, frames).

        Returns:
            What is complete now, (all stems, channels, frames); often no frames.
        """
        import torch

        begin = self._reached[which] - self._start
        end = begin + block.shape[-1]
        if (more := end - self._pending.shape[-1]) > 0:
            self._pending = torch.nn.functional.pad(self._pending, (0, more))
        self._pending[list(stems), :, begin:end] += block
        self._reached[which] += block.shape[-1]
        complete = min(self._reached) - self._start
        done, self._pending = self._pending[..., :complete], self._pending[..., complete:].clone()
        self._start += complete
        return done
