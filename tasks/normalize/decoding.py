"""A file's audio as stereo blocks, and an error where the file is not what it promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np

from tasks.contracts import AudioPolicy
from tasks.errors import CorruptAudio, EmptyAudio, SourceRefused
from tasks.normalize import downmix, padding
from tasks.normalize.declared_length import Promise, promise_of
from tasks.normalize.resampling import Block, Samples
from tasks.normalize.samples import as_floats
from tasks.normalize.source import AudioFile

_BLOCK_FRAMES = 32_768
_GAP_S = 0.05
_EMPTY_REMEDY = "Leave it out, or fetch or export it again."


class Decoder:
    """Decodes one `AudioFile`, folds it to stereo, and holds it to its promise.

    Raises from `blocks`:
        SourceRefused: Longer than the policy's limit.
        EmptyAudio: Shorter than the policy's least, or without a sample.
        CorruptAudio: Truncated, damaged, or with samples that are not finite numbers.
    """

    def __init__(self, source: AudioFile, policy: AudioPolicy) -> None:
        self.notes: list[str] = []
        self.decoded_s = 0.0
        self._gap_at_s: float | None = None
        self._source = source
        self._policy = policy
        self._promise: Promise = promise_of(source)
        self._check_longest(self._promise.duration_s or 0.0)

    def blocks(self) -> Iterator[Block]:
        """Stereo blocks of about a second, shape (frames, 2), in double precision."""
        pending: list[Samples] = []
        rate = frames = 0
        for samples, rate_now in self._samples():
            if pending and (rate_now != rate or frames >= _BLOCK_FRAMES):
                yield Block(np.concatenate(pending), rate)
                pending, frames = [], 0
            rate = rate_now
            pending.append(samples)
            frames += len(samples)
        if pending:
            yield Block(np.concatenate(pending), rate)
        self._check_whole()

    def _samples(self) -> Iterator[tuple[Samples, int]]:
        for samples, rate in padding.without(self._stereo_frames(), self._source):
            self._check_finite(samples, rate)
            self.decoded_s += len(samples) / rate
            self._check_longest(self.decoded_s)
            yield samples, rate

    def _stereo_frames(self) -> Iterator[tuple[Samples, int]]:
        origin: int | None = None
        heard_s = 0.0
        for frame in self._frames():
            if frame.pts is not None and frame.time_base:
                origin = frame.pts if origin is None else origin
                self._look_for_gap(float((frame.pts - origin) * frame.time_base), heard_s)
            heard_s += frame.samples / frame.rate
            yield self._stereo(as_floats(frame), frame.layout), frame.rate

    def _look_for_gap(self, stamp_s: float, heard_s: float) -> None:
        # Demuxers skip what they can't make out; the time stamps tell where. Some formats stamp
        # loosely, so that a gap counts only when audio turns out to be missing.
        if self._gap_at_s is None and stamp_s > heard_s + _GAP_S:
            self._gap_at_s = heard_s

    def _frames(self) -> Iterator[Any]:
        """Decoded frames. An error before more audio is damage, one at the end a cut."""
        failed: _Failed | None = None
        try:
            for packet in self._source.packets():
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    failed = failed or _Failed(self.decoded_s, self._is_junk(packet))
                    continue
                if frames and failed:
                    if not (failed.junk and failed.at_s == 0):
                        raise _damaged(failed.at_s)
                    failed = None
                yield from frames
        except av.FFmpegError:
            # The container ends in something unreadable; the promise tells whether it matters.
            if self._promise.duration_s is None:
                raise _damaged(self.decoded_s) from None
            self.notes.append("What follows its audio could not be read.")
        if failed and not failed.junk and self._promise.keeps_open(failed.at_s):
            raise self._truncated()

    def _is_junk(self, packet: Any) -> bool:
        # MP3s from the wild carry tags and worse around their frames, which have a sync word.
        data = bytes(packet)[:2]
        synced = len(data) == 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0
        return self._source.codec in ("mp3", "mp2", "mp1") and not synced

    def _stereo(self, samples: Samples, layout: Any) -> Samples:
        names, guessed = downmix.names_of(layout)
        note = downmix.note_of(names, guessed, layout.name)
        if note and note not in self.notes:
            self.notes.append(note)
        return downmix.fold(samples, names)

    def _check_finite(self, samples: Samples, rate: int) -> None:
        bad = np.any(~np.isfinite(samples), axis=1)
        if not bad.any():
            return
        at_s = self.decoded_s + int(bad.argmax()) / rate
        raise CorruptAudio(
            f"it holds samples that are not finite numbers: the first at {at_s:.3f} s, "
            f"{int(bad.sum())} of {len(bad)} around there.",
            remedy="Export the file again from what made it.",
        )

    def _check_longest(self, seconds: float) -> None:
        if seconds > self._policy.max_duration_s:
            raise SourceRefused(
                f"it is {seconds:.1f} s long or longer; the limit is "
                f"{self._policy.max_duration_s:.1f} s.",
                remedy="Split it, or raise the longest duration.",
            )

    def _check_whole(self) -> None:
        if self._promise.broken_by(self.decoded_s):
            raise self._truncated()
        if self.decoded_s == 0:
            raise EmptyAudio("its audio stream holds no samples.", remedy=_EMPTY_REMEDY)
        if self.decoded_s < self._policy.min_duration_s:
            raise EmptyAudio(
                f"it holds only {self.decoded_s:.3f} s of audio; the least is "
                f"{self._policy.min_duration_s:.3f} s.",
                remedy=_EMPTY_REMEDY,
            )

    def _truncated(self) -> CorruptAudio:
        promised, decoded = self._promise.duration_s, self.decoded_s
        if self._gap_at_s is not None:
            return _damaged(self._gap_at_s)
        if promised is None or promised <= decoded:
            return CorruptAudio(
                f"the file ends in the middle of its audio: only {decoded:.1f} s could be decoded."
            )
        digits = 1 if promised - decoded >= 0.1 else 4
        return CorruptAudio(
            f"the header promises {promised:.{digits}f} s but only {decoded:.{digits}f} s "
            "could be decoded."
        )


class _Failed(NamedTuple):
    """A packet that didn't decode: where, and whether it isn't audio at all."""

    at_s: float
    junk: bool


def _damaged(at_s: float) -> CorruptAudio:
    return CorruptAudio(f"its audio is damaged at {at_s:.1f} s.")
