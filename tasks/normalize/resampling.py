"""soxr's VHQ resampler over a stream of blocks, sample-exact in length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import soxr

Samples = np.ndarray[Any, np.dtype[np.float64]]


class Block(NamedTuple):
    """Stereo samples, shape (frames, 2), and their rate in hertz."""

    samples: Samples
    rate_hz: int


def resampled_length(frames: int, rate_in: int, rate_out: int) -> int:
    """`frames * rate_out / rate_in`, rounded half up, in exact arithmetic."""
    return (2 * frames * rate_out + rate_in) // (2 * rate_in)


def resample(blocks: Iterable[Block], rate_out: int) -> Iterator[Samples]:
    """Blocks at `rate_out`, shapes (frames, 2). Those at that rate already pass through untouched.

    A source may change its rate on the way (chained Ogg streams): each run of blocks at one rate
    is resampled on its own.
    """
    for rate_in, run in groupby(blocks, key=lambda block: block.rate_hz):
        if rate_in == rate_out:
            yield from (block.samples for block in run)
        else:
            yield from _resample_run(run, rate_in, rate_out)


def _resample_run(run: Iterable[Block], rate_in: int, rate_out: int) -> Iterator[Samples]:
    # VHQ works in double precision inside; so do its ends here. Its delay is made up for by soxr.
    stream = soxr.ResampleStream(rate_in, rate_out, 2, dtype="float64", quality="VHQ")
    taken = given = 0
    for block in run:
        out = stream.resample_chunk(np.ascontiguousarray(block.samples))
        taken += len(block.samples)
        given += len(out)
        if len(out):
            yield out
    tail = stream.resample_chunk(np.zeros((0, 2)), last=True)
    wanted = resampled_length(taken, rate_in, rate_out) - given
    yield np.concatenate([tail[:wanted], np.zeros((max(wanted - len(tail), 0), 2))])
