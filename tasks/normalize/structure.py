"""Whether a file is as long as the containers in it say, from a few headers.

Each container is a row of sized boxes. A download that was cut short leaves the last one open,
which a decoder takes for the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tasks.normalize.avio import ReadFile

# Writers to a pipe leave sizes like these where they can't go back and fill them in.
_UNKNOWN_32 = 0x7FFF_0000
# The boxes of an MP4 that its audio needs. Others cut short, and junk that looks like a box, don't
# matter.
_MP4_NEEDED = (b"mdat", b"moov", b"moof")


class Structure(NamedTuple):
    """What a container's own sizes say.

    Attributes:
        missing_bytes: What the file is short of.
        declared_s: The audio's length by a header.
        block_s: The length of one of the codec's blocks, of which a header may count a part.
        open_ended: More may be missing than can be told.
    """

    missing_bytes: int
    declared_s: float | None = None
    block_s: float = 0.0
    open_ended: bool = False


def inspect(file: ReadFile) -> Structure:
    """Read the container's own sizes. A container that isn't known here is taken for whole.

    Leaves the file's position where it was.
    """
    before = file.tell()
    file.seek(0)
    walk = _walker(file.read(12))
    found = walk(file, file.size) if walk else Structure(0)
    file.seek(before)
    return found


def _walker(head: bytes) -> Callable[[ReadFile, int], Structure] | None:
    if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        return _wav
    if head[:4] == b"\x1aE\xdf\xa3":
        return _matroska
    if head[4:8] in (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free"):
        return _mp4
    return None


def _wav(file: ReadFile, size: int) -> Structure:
    at, rate, block, long_size = 12, 0, 0, 0
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return Structure(0)
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"fmt ":
            fmt = file.read(16)
            # Bytes a second over bytes a block: right for compressed WAV too.
            rate = int.from_bytes(fmt[8:12], "little")
            block = int.from_bytes(fmt[12:14], "little")
        elif head[:4] == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little")
        elif head[:4] == b"data":
            return _wav_data(size - at - 8, long_size or length, bool(long_size), rate, block)
        at += 8 + length + length % 2


def _wav_data(present: int, length: int, is_long: bool, rate: int, block: int) -> Structure:
    unknown = length == 0 or (not is_long and length >= _UNKNOWN_32 and present < length)
    if unknown or not rate or not block:
        return Structure(0)
    whole = length - length % block
    return Structure(max(whole - present, 0), whole / rate, block / rate)


def _mp4(file: ReadFile, size: int) -> Structure:
    at, fragmented = 0, False
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        fragmented = fragmented or head[4:8] == b"moof"
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return Structure(0)  # zero means "to the end of the file"; others are no boxes
        at += length
        if at > size and head[4:8] in _MP4_NEEDED:
            return Structure(at - size, open_ended=fragmented)
    return Structure(0)


def _matroska(file: ReadFile, size: int) -> Structure:
    file.seek(4)
    length, width = _vint(file.read(8))
    at = 4 + width + length
    file.seek(at)
    head = file.read(12)
    if head[:4] != b"\x18\x53\x80\x67":
        return Structure(0)
    length, width = _vint(head[4:])
    # All ones is a size that a live writer left open (RFC 8794, 6.2).
    unknown = width == 0 or length == (1 << 7 * width) - 1
    return Structure(0 if unknown else max(at + 4 + width + length - size, 0))


def _vint(data: bytes) -> tuple[int, int]:
    """An EBML variable-size integer: its value and its width in bytes (0 if it is none)."""
    if not data or not data[0]:
        return 0, 0
    width = 9 - data[0].bit_length()
    return int.from_bytes(data[:width], "big") & (1 << 7 * width) - 1, width
