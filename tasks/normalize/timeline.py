"""Decoded frames in a row, with silence where some are lost.

A demuxer skips what it can't make out, and a decoder refuses what it can't decode. What was there
is told by the next frame's time stamp, where the container stamps exactly, else by how long the
refused packets say they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import av

from tasks.normalize.audio_file import AudioFile
from tasks.normalize.damage import Damage

# Containers in which a leap of the time stamps means that something isn't there.
_STAMPED = ("flac", "matroska", "mov", "ogg")
_LEAP_S = 0.05
# In Matroska, headers, indexes and padding lie between packets.
_FILLING_BYTES = 2048
# Streams of bare frames, and what a frame begins with. Their demuxers hand on what lies between.
_MPEG_SYNC = (b"\xff\xe0", b"\xff\xe0")
_BARE = {
    "mp3": _MPEG_SYNC,
    "aac": (b"\xff\xf6", b"\xff\xf0"),
    "ac3": (b"\xff\xff", b"\x0b\x77"),
    "eac3": (b"\xff\xff", b"\x0b\x77"),
    "dts": (b"", b""),
    "amr": (b"", b""),
    "loas": (b"\xff\xe0", b"\x56\xe0"),
}
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")


class Silence(NamedTuple):
    """Frames that are missing, and their rate."""

    frames: int
    rate: int


class _Lost(NamedTuple):
    """A packet that didn't decode: how long it should be, and whether it is audio at all."""

    seconds: float
    junk: bool


class Timeline:
    """The frames of a source's open part, held to its clock.

    Args:
        source: Where the packets come from.
        damage: Told of what is lost.
        before_s: How much audio the parts before it held.

    Attributes:
        origin_s: The first sample's time stamp.
        heard_s: What was decoded or filled in so far.
        paused_s: Of it, what the container's clock leaves out without anything being lost.
        block_s: The longest of its frames. Headers of lossy streams may count a part of a block
            that the decoder hands out whole, or the other way round.
        unreadable: The container ended in something that isn't one.
    """

    def __init__(self, source: AudioFile, damage: Damage, before_s: float) -> None:
        self.origin_s: float | None = None
        self.heard_s = 0.0
        self.paused_s = 0.0
        self.block_s = 0.0
        self.unreadable = False
        self.unfinished: list[_Lost] = []
        self._source = source
        self._damage = damage
        self._before_s = before_s
        self._sync = _BARE.get(source.kind)
        self._stamped = source.kind in _STAMPED
        self._packets = self._bytes = 0
        self._priming = source.priming

    def frames(self) -> Iterator[Any]:
        """FFmpeg's frames and `Silence`, in order.

        Raises:
            CorruptAudio: More is lost than the policy accepts.
        """
        try:
            for packet in self._source.packets():
                yield from self._placed(self._decode(packet))
        except av.FFmpegError:
            self.unreadable = True
        try:
            held_back = self._source.flush()
        except av.FFmpegError:
            return
        # What was held back belongs before the packets that failed last.
        lost, self.unfinished = self.unfinished, []
        yield from self._placed(held_back)
        self.unfinished = lost

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = packet.decode()
        except av.FFmpegError:
            self.unfinished.append(self._lost(packet))
            return []
        self._packets += 1
        self._bytes += packet.size
        return frames

    def _placed(self, frames: list[Any]) -> Iterator[Any]:
        for frame in frames[self._left_out(len(frames)) :]:
            if missing := self._missing_before(frame):
                self.heard_s += missing / frame.rate
                yield Silence(missing, frame.rate)
            length_s = frame.samples / frame.rate
            self.heard_s += length_s
            self.block_s = max(self.block_s, length_s)
            yield frame

    def _left_out(self, frames: int) -> int:
        """How many of the next frames are an encoder's priming."""
        count = min(self._priming, frames)
        self._priming -= count
        return count

    def _lost(self, packet: Any) -> _Lost:
        seconds = float((packet.duration or 0) * (packet.time_base or 0))
        if self._sync is None:
            return _Lost(seconds, False)
        data = bytes(packet)
        mask, sync = self._sync
        head = bytes(a & b for a, b in zip(data, mask, strict=False))
        if data.startswith(_TAGS):
            seconds = 0.0
        elif self._packets:
            # Such a packet is all that lies between two frames, and no frame's length.
            seconds *= max(round(len(data) * self._packets / self._bytes), 1)
        return _Lost(seconds, head != sync)

    def _missing_before(self, frame: Any) -> int:
        """How many frames of silence belong before one, having told of the damage there."""
        lost, self.unfinished = self.unfinished, []
        stamp = None
        if frame.pts is not None and frame.time_base:
            stamp = float(frame.pts * frame.time_base)
        if self.origin_s is None:
            self.origin_s = stamp or 0.0
            if cut_s := sum(one.seconds for one in lost if not one.junk):
                self._damage.add(self._before_s, cut_s)
            return 0
        leap = 0.0
        if self._stamped and stamp is not None:
            leap = max(stamp - self.origin_s - self.heard_s, 0.0)
        if leap > _LEAP_S and not lost and self._is_late_start():
            # One frame from before the place where the recording of a stream begins.
            self.origin_s += leap
            return 0
        if lost:
            seconds = leap if self._stamped else sum(one.seconds for one in lost)
        elif leap > _LEAP_S:
            seconds = leap
        else:
            return 0
        if lost or self._is_hole():
            self._damage.add(self._before_s + self.heard_s, seconds)
        else:
            self.paused_s += seconds
        return round(seconds * int(frame.rate))

    def _is_late_start(self) -> bool:
        return self._source.kind == "ogg" and self._packets <= 2

    def _is_hole(self) -> bool:
        """Whether a leap of the clock is for want of something that was there."""
        kind = self._source.kind
        if kind == "matroska":
            return self._source.skipped_bytes > _FILLING_BYTES
        # An MP4's frames are all in its table: edits and pauses are as they are meant.
        return kind != "mov"
