"""A multipart upload as it comes off the socket: audio to a file, fields to a few short strings.

Memory holds a block of the audio at most, and nothing beyond the limit is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from deployments.endpoint.refusals import Refused, unwritable

FORM_OVERHEAD_BYTES = 64 * 1024
_BLOCK_BYTES = 1 << 20
_LONGEST_S = 3600.0
_MOST_PARTS = 16
_LONGEST_FIELD = 4096
_MALFORMED = "The body isn't well-formed multipart/form-data."


@dataclass(frozen=True)
class Upload:
    """What arrived: the audio's digest and length, the name it had, and the other fields."""

    sha256: str
    bytes: int
    filename: str
    fields: dict[str, str]


@dataclass
class _Part:
    name: str = ""
    value: bytearray = field(default_factory=bytearray)
    headers: dict[bytes, bytes] = field(default_factory=dict)


class _Form:
    """The parser's callbacks. `audio` are bytes that have arrived and aren't written yet."""

    def __init__(self, max_bytes: int) -> None:
        self.audio = bytearray()
        self.audio_bytes = 0
        self.filename: str | None = None
        self.fields: dict[str, str] = {}
        self.misnamed: str | None = None
        self.whole = False
        self._max_bytes = max_bytes
        self._parts = 0
        self._part = _Part()
        self._header, self._header_value = bytearray(), bytearray()

    def parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._end_form,
            },
        )

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise Refused(400, f"The form has more than {_MOST_PARTS} parts.")
        self._part = _Part()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._part.headers[bytes(self._header).lower()] = bytes(self._header_value)
        self._header, self._header_value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        said = self._part.headers.get(b"content-disposition", b"").decode("latin-1")
        _, options = parse_options_header(said)
        self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part.name == "audio":
            if self.filename is not None:
                raise Refused(422, "The form has more than one part named audio.")
            self.filename = _plain(options.get(b"filename", b""))
        elif b"filename" in options and self.misnamed is None:
            self.misnamed = self._part.name

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name != "audio":
            self._part.value += data[start:end]
            if len(self._part.value) > _LONGEST_FIELD:
                raise self._too_long()
            return
        self.audio_bytes += end - start
        if self.audio_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        self.audio += data[start:end]

    def _too_long(self) -> Refused:
        if self.filename is None and self.misnamed == self._part.name:
            return no_audio(self.misnamed)
        named = _shown(self._part.name)
        return Refused(
            422,
            f"The field {named} is longer than {_LONGEST_FIELD} bytes. Audio goes into a part "
            "named audio.",
        )

    def _end(self) -> None:
        if self._part.name != "audio":
            self.fields[self._part.name] = self._part.value.decode("utf-8", "replace").strip()

    def _end_form(self) -> None:
        self.whole = True


def too_large(max_bytes: int) -> Refused:
    return Refused(
        413, f"The audio is larger than {max_bytes} bytes. Send FLAC, or split the track."
    )


def no_audio(misnamed: str | None) -> Refused:
    """Of a form without audio; `misnamed` is the part that a file came in, if one did."""
    said = "The form has no part named audio."
    if misnamed is not None:
        said = f"The file came in a part named {_shown(misnamed)}. Name that part audio."
    return Refused(422, said)


def boundary_of(content_type: str | None) -> bytes:
    """The boundary of a multipart form.

    Raises:
        Refused: 415, the body is something else.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Refused(415, "Send the audio as multipart/form-data, in a part named audio.")
    return options[b"boundary"]


async def receive_upload(
    body: AsyncIterator[bytes],
    boundary: bytes,
    path: Path | None,
    *,
    max_bytes: int,
    stall_s: float,
    count: Callable[[int], None],
) -> Upload:
    """Read a form through; its audio goes to `path`, or is hashed only where that is None.

    Args:
        body: The request's, as it comes.
        boundary: From `boundary_of`.
        path: Removed again unless the whole form is well.
        max_bytes: Of audio; reading stops where it is passed.
        stall_s: Longest wait for the next bytes.
        count: Told how many arrived, each time.

    Raises:
        Refused: 400, 408, 413, 422 or 507.
    """
    form = _Form(max_bytes)
    digest = hashlib.sha256()
    file: IO[bytes] | None = None

    def write(block: bytes) -> None:
        digest.update(block)
        if file is not None:
            file.write(block)

    try:
        file = None if path is None else await asyncio.to_thread(path.open, "wb", 0)
        parser = form.parser(boundary)
        arrived = 0
        async for chunk in _in_time(body, stall_s):
            count(len(chunk))
            arrived += len(chunk)
            if arrived > max_bytes + FORM_OVERHEAD_BYTES:
                raise too_large(max_bytes)
            parser.write(chunk)
            if len(form.audio) >= _BLOCK_BYTES:
                await asyncio.to_thread(write, _taken(form))
        await asyncio.to_thread(write, _taken(form))
        return _whole(form, digest.hexdigest())
    except BaseException as error:
        if path is not None:
            path.unlink(missing_ok=True)
        if isinstance(error, FormParserError):
            raise Refused(400, _MALFORMED) from error
        if isinstance(error, OSError):
            raise unwritable(error) from error
        raise
    finally:
        if file is not None:
            file.close()


def _taken(form: _Form) -> bytes:
    block, form.audio = bytes(form.audio), bytearray()
    return block


async def _in_time(body: AsyncIterator[bytes], stall_s: float) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    until = clock() + _LONGEST_S
    while clock() < until:
        try:
            async with asyncio.timeout(stall_s):
                chunk = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refused(408, f"Nothing arrived for {stall_s:g} s. Send it again.") from None
        yield chunk
    raise Refused(408, f"The upload took more than {_LONGEST_S:g} s. Send FLAC.")


def _whole(form: _Form, sha256: str) -> Upload:
    if not form.whole:
        raise Refused(400, f"{_MALFORMED} It ends in the middle.")
    if form.filename is None:
        raise no_audio(form.misnamed)
    return Upload(sha256, form.audio_bytes, form.filename, form.fields)


def _shown(name: str) -> str:
    return repr(name[:40])


def _plain(filename: bytes) -> str:
    # It comes back in messages: the last part of a path, and nothing that steers a terminal.
    name = re.split(r"[/\\]", filename.decode("utf-8", "replace"))[-1]
    return "".join(char for char in name if char.isprintable())[:120] or "audio"
