"""The encoder's padding at the end of an MP4.

FFmpeg's libraries cut the priming of every format, and the padding of all but MP4: what an AAC
encoder added to fill its last frame stays. The sample table and the edit list tell where it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

from tasks.normalize.audio_file import AudioFile
from tasks.normalize.resampling import Samples

# Two frames of HE-AAC: what an end further off cuts away isn't an encoder's padding.
_LONGEST_PADDING = 4096


def without(
    parts: Iterable[tuple[Samples, int]], source: AudioFile
) -> Iterator[tuple[Samples, int]]:
    """The parts, samples of shape (frames, 2) and their rate, up to where an MP4 says it ends."""
    if source.kind != "mov":
        yield from parts
        return
    held: deque[tuple[Samples, int]] = deque()
    held_frames = frames = 0
    for samples, rate in parts:
        held.append((samples, rate))
        held_frames += len(samples)
        frames += len(samples)
        while held_frames - len(held[0][0]) >= _LONGEST_PADDING:
            held_frames -= len(held[0][0])
            yield held.popleft()
    excess = frames - _end(source, held[-1][1]) if held else 0
    keep = held_frames - excess if 0 < excess <= held_frames else held_frames
    for samples, rate in held:
        yield samples[: max(keep, 0)], rate
        keep -= len(samples)


def _end(source: AudioFile, rate: int) -> int:
    """Where the stream ends, in frames from its start: its last packet or its edit list."""
    start = source.stream.start_time or 0
    ends = [source.stream.duration, source.end_pts - start if source.end_pts else None]
    ticks = [end for end in ends if end]
    if not ticks:
        return 1 << 62
    end_s: Fraction = min(ticks) * source.stream.time_base
    return round(end_s * rate)
