"""A file's audio as stereo blocks, and an error where it is far from what the file promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tasks.contracts import AudioPolicy
from tasks.errors import CorruptAudio, EmptyAudio, SourceRefused
from tasks.normalize import downmix, padding
from tasks.normalize.audio_file import AudioFile
from tasks.normalize.damage import Damage
from tasks.normalize.declared_length import Promise, promise_of
from tasks.normalize.resampling import Block, Samples
from tasks.normalize.samples import as_floats
from tasks.normalize.timeline import Silence, Timeline

_BLOCK_FRAMES = 32_768
_EMPTY_REMEDY = "Leave it out, or fetch or export it again."


class Decoder:
    """Decodes one `AudioFile`, folds it to stereo, and holds it to its promise.

    Raises from `blocks`:
        SourceRefused: Longer than the policy's limit.
        EmptyAudio: Shorter than the policy's least, or without a sample.
        CorruptAudio: Truncated, damaged beyond what the policy accepts, or with samples that are
            not finite numbers.

    Attributes:
        notes: Sentences on what isn't as it should be, complete once all blocks are taken.
        decoded_s: The audio so far.
        promised_s: What the source promises, where that isn't what it holds.
        damage: What is lost.
    """

    def __init__(self, source: AudioFile, policy: AudioPolicy) -> None:
        self.notes: list[str] = []
        self.decoded_s = 0.0
        self.promised_s: float | None = None
        self.damage = Damage(policy)
        self._source = source
        self._policy = policy
        self._promise: Promise | None = None
        self._cuts: list[tuple[float, float]] = []
        start = source.stream.start_time
        start_s = float(max(start or 0, 0) * source.stream.time_base)
        self._check_longest(promise_of(source, start_s).least_s or 0.0)

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
        if self._source.chained > 1:
            self.notes.append(f"It holds {self._source.chained} streams, one after the other.")
        for opened in self._source.parts():
            if opened:
                yield from self._part()
            else:
                self.damage.add(self.decoded_s, 0.0)

    def _part(self) -> Iterator[tuple[Samples, int]]:
        before_s = self.decoded_s
        timeline = Timeline(self._source, self.damage, before_s)
        for samples, rate in padding.without(self._stereo_frames(timeline), self._source):
            self._check_finite(samples, rate)
            self.decoded_s += len(samples) / rate
            self._check_longest(self.decoded_s)
            yield samples, rate
        self._close(timeline, before_s)

    def _stereo_frames(self, timeline: Timeline) -> Iterator[tuple[Samples, int]]:
        for frame in timeline.frames():
            if isinstance(frame, Silence):
                for start in range(0, frame.frames, _BLOCK_FRAMES):
                    yield np.zeros((min(_BLOCK_FRAMES, frame.frames - start), 2)), frame.rate
            else:
                yield self._stereo(as_floats(frame), frame.layout), frame.rate

    def _close(self, timeline: Timeline, before_s: float) -> None:
        """Take the end of a part: its promise, what is unfinished, what was left out."""
        decoded_s = self.decoded_s - before_s
        promise = promise_of(self._source, timeline.origin_s or 0.0)
        if self._source.is_lossy:
            promise = promise.within(timeline.block_s)
        self._promise = promise if self._promise is None else self._promise.plus(promise)
        if timeline.unreadable:
            # The promise tells whether what can't be read matters.
            if promise.least_s is None:
                self.damage.add(self.decoded_s, 0.0)
                raise self.damage.error()
            self.notes.append("What follows its audio could not be read.")
        if timeline.paused_s:
            self.notes.append(f"Its pauses, {timeline.paused_s:.2f} s, were filled with silence.")
        cut = [one.seconds for one in timeline.unfinished if not one.junk]
        if cut and promise.misses(sum(cut), decoded_s):
            self._cuts.append((self.decoded_s, sum(cut)))

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
        promise = self._promise or Promise(None, 0.0, 0.0)
        if promise.broken_by(self.decoded_s) or (self._cuts and self.damage.refused):
            raise self._truncated()
        for at_s, seconds in self._cuts:
            self.damage.add(at_s, seconds)
        if self.decoded_s == 0:
            raise EmptyAudio("its audio stream holds no samples.", remedy=_EMPTY_REMEDY)
        if self.decoded_s < self._policy.min_duration_s:
            raise EmptyAudio(
                f"it holds only {self.decoded_s:.3f} s of audio; the least is "
                f"{self._policy.min_duration_s:.3f} s.",
                remedy=_EMPTY_REMEDY,
            )
        self.damage.check(self.decoded_s)
        if self.damage.count:
            self.notes.append(self.damage.note())
        if promise.differs_from(self.decoded_s):
            self.promised_s = promise.promised_s(self.decoded_s)
            self.notes.append(
                f"Its header promises {self.promised_s:.2f} s; it holds {self.decoded_s:.2f} s."
            )

    def _truncated(self) -> CorruptAudio:
        if self.damage.count:
            return self.damage.error()
        promised = self._promise and self._promise.promised_s(self.decoded_s)
        if promised is None or promised <= self.decoded_s:
            return CorruptAudio(
                "the file ends in the middle of its audio: only "
                f"{self.decoded_s:.1f} s could be decoded."
            )
        digits = 1 if promised - self.decoded_s >= 0.1 else 4
        return CorruptAudio(
            f"the header promises {promised:.{digits}f} s but only "
            f"{self.decoded_s:.{digits}f} s could be decoded."
        )
