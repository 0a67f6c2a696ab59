"""How much audio a file says it holds, where what it says can be trusted.

Trusted are counts that a writer knew exactly: FLAC's STREAMINFO, the sizes of WAV and AIFF data,
the Xing frame count of an MP3, MP4's sample tables, the last page of an Ogg stream, Matroska's
duration. A duration guessed from a bit rate is not, nor is what a live recording left open.

A promise is kept to within a block of the codec, the container's clock and an encoder's padding.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from tasks.normalize import structure
from tasks.normalize.audio_file import AudioFile
from tasks.normalize.xing import counted_frames

# Demuxers of formats whose header counts the samples. What isn't named here promises nothing:
# its duration may be FFmpeg's guess from the bit rate and the size of the file.
_COUNTED = ("aiff", "ape", "au", "caf", "tak", "tta", "w64", "wv")
_MPEG_FRAME = 1152
# Some encoders count the Xing frame itself, and a decoder may hold back the last frame.
_MP3_SLACK_S = 2 * _MPEG_FRAME / 32_000
# A Vorbis stream from the middle begins with a block that only primes the decoder, and the last
# page may say that part of its last packet isn't to be played.
_OGG_SLACK_S = 0.085
# An edit list counts in units of the movie, often coarse, and may begin inside a frame.
_MP4_SLACK_S = 0.1
# A Matroska duration is that of the longest stream, to the millisecond or the video frame.
_MATROSKA_SLACK_S = 0.5
# What may be missing beyond that before a file counts as cut off.
_MISSING_S, _MISSING_SHARE = 0.25, 0.005


class Promise(NamedTuple):
    """A promised duration in seconds, from `least_s` to `most_s`, and what still keeps it.

    Attributes:
        least_s: None where nothing is promised.
        most_s: More than `least_s` where a header can be read in two ways.
        slack_s: By how much less, or more, the promise is kept to the letter.
        missing_share: What the file is short of by its container's own sizes.
        cut: Its end is missing, and it can't be told how much.
    """

    least_s: float | None
    most_s: float
    slack_s: float
    missing_share: float = 0.0
    cut: bool = False

    def within(self, slack_s: float) -> Promise:
        """The same, kept with so much slack at least."""
        return self._replace(slack_s=max(self.slack_s, slack_s))

    def plus(self, other: Promise) -> Promise:
        """The promise of two streams that follow one another."""
        known = self.least_s is not None and other.least_s is not None
        return Promise(
            (self.least_s or 0.0) + (other.least_s or 0.0) if known else None,
            self.most_s + other.most_s,
            self.slack_s + other.slack_s,
            max(self.missing_share, other.missing_share),
            self.cut or other.cut,
        )

    def promised_s(self, decoded_s: float) -> float | None:
        """The seconds promised: by a duration, else by the bytes that are missing."""
        if self.least_s is None:
            return decoded_s / (1 - self.missing_share) if self.missing_share else None
        return max(self.least_s, min(decoded_s, self.most_s))

    def differs_from(self, decoded_s: float) -> bool:
        """Whether that much audio is less, or more, than what was promised."""
        promised = self.promised_s(decoded_s)
        return promised is not None and abs(promised - decoded_s) > self.slack_s

    def broken_by(self, decoded_s: float) -> bool:
        """Whether so much is missing that the file was cut off."""
        promised = self.promised_s(decoded_s)
        if self.cut or promised is None:
            return self.cut
        allowed = min(max(_MISSING_S, _MISSING_SHARE * promised), promised / 2)
        return promised - decoded_s > max(allowed, self.slack_s)

    def misses(self, lost_s: float, decoded_s: float) -> bool:
        """Whether what couldn't be decoded at the end was part of what is promised."""
        promised = self.promised_s(decoded_s)
        if self.cut or promised is None:
            return True
        return promised - decoded_s > min(self.slack_s, lost_s / 2)


def promise_of(source: AudioFile, origin_s: float = 0.0) -> Promise:
    """What the open part of a file promises. Reads a few headers; consumes no packet.

    Args:
        source: At its beginning, or at its end.
        origin_s: The time stamp of its first sample, where that is known.
    """
    if source.link is not None:
        return _ogg(source, origin_s)
    layout = structure.inspect(source.file)
    stream_s = _stream_seconds(source.stream)
    # Half a sample, so that fractions of seconds compare as counts of samples would.
    exact = 0.5 / max(source.stream.codec_context.sample_rate, 1)
    least, slack = None, exact
    most: float | None = None
    kind = source.kind
    if kind == "mp3":
        least, slack = _mp3_seconds(source, stream_s), _MP3_SLACK_S
    elif kind == "flac":
        least = _flac_seconds(source.stream.codec_context.extradata)
    elif kind == "wav":
        least, slack = layout.declared_s or stream_s, max(exact, layout.block_s)
    elif kind == "matroska":
        # Some writers count from the first sample on, some from the start of the container.
        most, slack = _matroska_seconds(source), _MATROSKA_SLACK_S
        least = None if most is None else max(most - origin_s, 0.0)
    elif kind == "mov":
        # Edits may play a part of it again.
        least, most, slack = stream_s, math.inf, _MP4_SLACK_S
    elif kind in _COUNTED:
        least = stream_s
    missing = layout.missing_bytes / (source.file.size + layout.missing_bytes)
    cut = bool(missing and layout.open_ended)
    return Promise(least, (least or 0.0) if most is None else most, slack, missing, cut)


def _ogg(source: AudioFile, origin_s: float) -> Promise:
    assert source.link is not None
    # The last whole page of a stream that is cut short isn't its last page.
    if source.link.missing_bytes:
        return Promise(None, 0.0, _OGG_SLACK_S, cut=True)
    span = source.link.span(source.stream.index, source.stream.codec_context.sample_rate)
    if span is None:
        return Promise(None, 0.0, _OGG_SLACK_S)
    first_s, last_s = span
    # A recording from the middle of a stream begins within its first page. What begins behind that
    # has lost it.
    least = last_s if first_s <= origin_s else last_s - origin_s
    return Promise(least, least, _OGG_SLACK_S)


def _stream_seconds(stream: Any) -> float | None:
    return float(stream.duration * stream.time_base) if stream.duration else None


def _mp3_seconds(source: AudioFile, stream_s: float | None) -> float | None:
    frames = counted_frames(source.file)
    if frames is None or stream_s is None:
        return None
    rate = source.stream.codec_context.sample_rate
    # FFmpeg takes the encoder's delay and padding off, but guesses where files were joined.
    length = _MPEG_FRAME if rate >= 32_000 else _MPEG_FRAME // 2
    return min(stream_s, float(frames * length / rate))


def _flac_seconds(streaminfo: bytes | None) -> float | None:
    # Offsets of RFC 9639, 8.2: 20 bits of rate at byte 10, 36 bits of samples from byte 13 on.
    if streaminfo is None or len(streaminfo) < 34:
        return None
    rate = int.from_bytes(streaminfo[10:13], "big") >> 4
    samples = int.from_bytes(streaminfo[13:18], "big") & (1 << 36) - 1
    return samples / rate if samples and rate else None


def _matroska_seconds(source: AudioFile) -> float | None:
    # Muxers tag each stream with its own duration; the file's is that of the longest.
    clock = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", source.stream.metadata.get("DURATION", ""))
    if clock:
        hours, minutes, seconds = map(float, clock.groups())
        return 3600 * hours + 60 * minutes + seconds
    if source.streams > 1 or source.stream.duration is not None:
        return None
    return source.declared_s
