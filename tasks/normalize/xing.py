"""The frame count in an MP3's first frame, where its encoder left one."""

from __future__ import annotations

from tasks.normalize.avio import ReadFile

# Behind the first frame's header and side information, whose size depends on the MPEG version and
# the channels. VBRI is always where stereo MPEG-1 would have Xing.
_OFFSETS = (36, 21, 13)
# Encoders may pad between the tag and the first frame.
_REACH = 8192


def counted_frames(file: ReadFile) -> int | None:
    """The count of MPEG frames by a Xing, Info or VBRI header; None if there is none.

    Leaves the file's position where it was.
    """
    before = file.tell()
    first = _first_bytes(file)
    file.seek(before)
    for mark, count_at in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        at = first.find(mark)
        if at < 0 or not any(_syncs(first, at - offset) for offset in _OFFSETS):
            continue
        if mark != b"VBRI" and not first[at + 7] & 1:
            return None
        return int.from_bytes(first[at + count_at : at + count_at + 4], "big") or None
    return None


def id3_size(head: bytes) -> int:
    """The bytes of an ID3v2 tag that begins with these ten; 0 if they begin none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    # ID3v2, 3.1: the size has seven bits a byte; a footer is as long as the header.
    bits = zip(head[6:10], (21, 14, 7, 0), strict=True)
    return 10 + sum((byte & 0x7F) << shift for byte, shift in bits) + (head[5] >> 4 & 1) * 10


def _first_bytes(file: ReadFile) -> bytes:
    at = 0
    while True:
        file.seek(at)
        head = file.read(10)
        if not (size := id3_size(head)):
            return head + file.read(_REACH)
        at += size


def _syncs(data: bytes, at: int) -> bool:
    return at >= 0 and data[at] == 0xFF and data[at + 1] & 0xE0 == 0xE0
