"""The pages of an Ogg file: where its chained streams begin, and whether its last page is whole.

FFmpeg's demuxer goes on from one chained stream to the next only where codec, channels and rate
stay the same, and takes the first one's length for the whole: each is opened by itself instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.normalize.avio import ReadFile

_HEADER = 27
_SEARCH = 1 << 16


@dataclass
class Link:
    """One of the chained streams of an Ogg file, or the only one.

    `firsts` and `granules` hold the positions at the end of each logical stream's first and last
    page of audio, in order of appearance, and `pre_skips` the samples that an Opus stream counts
    but doesn't play. `missing_bytes` is what the last page is short of.
    """

    start: int
    end: int = 0
    missing_bytes: int = 0
    firsts: dict[bytes, int] = field(default_factory=dict)
    granules: dict[bytes, int] = field(default_factory=dict)
    pre_skips: dict[bytes, int] = field(default_factory=dict)

    def span(self, index: int, rate_hz: int) -> tuple[float, float] | None:
        """Where the stream's first page and its last one end, in seconds; None if unknown."""
        if index >= len(self.granules) or not rate_hz:
            return None
        serial, last = list(self.granules.items())[index]
        if last <= 0:
            return None
        # Opus counts at 48 kHz, whatever it is decoded at (RFC 7845, 4).
        skip = self.pre_skips.get(serial)
        rate = rate_hz if skip is None else 48_000
        return (self.firsts[serial] - (skip or 0)) / rate, (last - (skip or 0)) / rate


def links(file: ReadFile) -> list[Link]:
    """Read the header of every page (RFC 3533, 6) of a file; none where it is no Ogg file."""
    found: list[Link] = []
    at, heads = 0, False
    while (page := _page(file, at)) is not None:
        at = page.at
        if not found or (page.begins and not heads):
            if found:
                found[-1].end = at
            found.append(Link(at))
        heads = page.begins
        _note(found[-1], page)
        at += page.size
        found[-1].missing_bytes = max(at - file.size, 0)
    if found:
        found[-1].end = file.size
    return found


@dataclass
class _Page:
    at: int
    size: int
    begins: bool
    granule: int
    serial: bytes
    body: bytes


def _page(file: ReadFile, at: int) -> _Page | None:
    file.seek(at)
    head = file.read(_HEADER)
    if head[:4] != b"OggS":
        where = _next_mark(file, at) if at else None
        return None if where is None else _page(file, where)
    if len(head) < _HEADER:
        # One byte short at least, so that the end is known to be missing.
        return _Page(at, file.size - at + 1, False, -1, b"", b"")
    segments = file.read(head[26])
    size = _HEADER + head[26] + sum(segments) + (len(segments) < head[26])
    begins = bool(head[5] & 2)
    return _Page(
        at=at,
        size=size,
        begins=begins,
        granule=int.from_bytes(head[6:14], "little", signed=True),
        serial=head[14:18],
        body=file.read(19) if begins else b"",
    )


def _next_mark(file: ReadFile, at: int) -> int | None:
    """Where the next page begins, after bytes that belong to none."""
    while at < file.size:
        file.seek(at)
        data = file.read(_SEARCH)
        if (found := data.find(b"OggS")) >= 0:
            return at + found
        at += max(len(data) - 3, 1)
    return None


def _note(link: Link, page: _Page) -> None:
    if page.begins:
        link.granules[page.serial] = 0
        if page.body[:8] == b"OpusHead":
            link.pre_skips[page.serial] = int.from_bytes(page.body[10:12], "little")
    elif page.granule > 0 and page.serial in link.granules:
        link.firsts.setdefault(page.serial, page.granule)
        link.granules[page.serial] = page.granule
