"""How much audio a file says it holds, where what it says can be trusted.

Trusted are counts that a writer knew exactly: FLAC's STREAMINFO, the sizes of WAV and AIFF data,
the Xing frame count of an MP3, MP4's sample tables, the last page of an Ogg stream, Matroska's
duration. A duration guessed from a bit rate is not, nor is what a live recording left open.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from tasks.normalize import structure
from tasks.normalize.source import AudioFile
from tasks.normalize.xing import counted_frames

# Demuxers of formats whose header counts the samples. What isn't named here promises nothing:
# its duration may be FFmpeg's guess from the bit rate and the size of the file.
_COUNTED = ("aiff", "ape", "au", "caf", "tak", "tta", "w64", "wv")
_MPEG_FRAME = 1152
# Some encoders count the Xing frame itself, and a decoder may hold back the last frame.
_MP3_SLACK_S = 2 * _MPEG_FRAME / 32_000
# The pre-skip that an Opus stream's last granule includes (RFC 7845) is at most this, in practice.
_OGG_SLACK_S = 0.085
# An edit list counts in units of the movie, often coarse, and may begin inside a frame.
_MP4_SLACK_S = 0.1
# A Matroska duration is that of the longest stream, to the millisecond or the video frame.
_MATROSKA_SLACK_S = 0.5


class Promise(NamedTuple):
    """A promised duration in seconds, and by how much less still keeps it.

    `missing_bytes` is what the file is short of its container's own sizes.
    """

    duration_s: float | None
    slack_s: float
    missing_bytes: int

    def broken_by(self, decoded_s: float) -> bool:
        """Whether so much decoded audio is less than was promised."""
        if self.missing_bytes:
            return True
        return self.duration_s is not None and decoded_s < self.duration_s - self.slack_s

    def keeps_open(self, decoded_s: float) -> bool:
        """Whether more audio than that may have been meant to follow."""
        return self.duration_s is None or self.broken_by(decoded_s)


def promise_of(source: AudioFile) -> Promise:
    """What a file promises. Reads a few headers; consumes no packet."""
    name = source.container.format.name.split(",")[0]
    stream_s = _stream_seconds(source.stream)
    layout = structure.inspect(source.path)
    missing = layout.missing_bytes
    # Half a sample, so that fractions of seconds compare as counts of samples would.
    exact = 0.5 / max(source.stream.codec_context.sample_rate, 1)
    if name == "mp3":
        return Promise(_mp3_seconds(source, stream_s), _MP3_SLACK_S, 0)
    if name == "flac":
        return Promise(_flac_seconds(source.stream.codec_context.extradata), exact, 0)
    if name == "wav":
        return Promise(layout.declared_s or stream_s, exact, missing)
    if name == "ogg":
        # The last whole page of a stream that is cut short isn't its last page.
        return Promise(None if missing else stream_s, _OGG_SLACK_S, missing)
    if name == "matroska":
        return Promise(_matroska_seconds(source), _MATROSKA_SLACK_S, missing)
    if name == "mov":
        return Promise(stream_s, _MP4_SLACK_S, missing)
    return Promise(stream_s if name in _COUNTED else None, exact, missing)


def _stream_seconds(stream: Any) -> float | None:
    return float(stream.duration * stream.time_base) if stream.duration else None


def _mp3_seconds(source: AudioFile, stream_s: float | None) -> float | None:
    frames = counted_frames(source.path)
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
    alone = len(source.container.streams) == 1 and source.container.duration
    return float(source.container.duration / 1e6) if alone else None
