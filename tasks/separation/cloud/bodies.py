"""Request bodies that are files, streamed from the disk without blocking the event loop."""

from __future__ import annotations

import asyncio
import mimetypes
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 18


@dataclass(frozen=True)
class Body:
    """A body of a known length that can be sent again."""

    parts: tuple[bytes | Path, ...]
    size: int
    headers: Mapping[str, str]

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
                continue
            file = await asyncio.to_thread(part.open, "rb")
            try:
                while block := await asyncio.to_thread(file.read, _BLOCK):
                    yield block
            finally:
                file.close()


def raw(path: Path) -> Body:
    """A file as it is.

    Raises:
        OSError: It can't be read.
    """
    size = path.stat().st_size
    return Body((path,), size, {"content-length": str(size), "content-type": _type_of(path)})


def multipart(fields: Mapping[str, str], files: Mapping[str, Path]) -> Body:
    """A form with files in it (RFC 7578).

    Raises:
        OSError: A file can't be read.
    """
    boundary = secrets.token_hex(16)
    parts: list[bytes | Path] = []
    for name, value in fields.items():
        parts.append(f"{_head(boundary, name)}\r\n\r\n{value}\r\n".encode())
    for name, path in files.items():
        named = f'{_head(boundary, name)}; filename="{_quoted(path.name)}"'
        parts += [f"{named}\r\nContent-Type: {_type_of(path)}\r\n\r\n".encode(), path, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    size = sum(len(p) if isinstance(p, bytes) else p.stat().st_size for p in parts)
    kind = f"multipart/form-data; boundary={boundary}"
    return Body(tuple(parts), size, {"content-length": str(size), "content-type": kind})


def _head(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'


def _quoted(name: str) -> str:
    # As browsers escape what would end the header or the quotes.
    named = name.encode("utf-8", "replace").decode()
    return named.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _type_of(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
