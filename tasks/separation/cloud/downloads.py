"""Bringing a stem home: bounded in size and time, and the key to nobody else."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx

from tasks.contracts import Value
from tasks.errors import NetworkError, ProtocolError
from tasks.separation.cloud.answers import broken, read_answer
from tasks.separation.cloud.timeouts import Timeouts
from tasks.separation.cloud.transport import Transport

_REDIRECTS = 5
_HEADER_BYTES = 1 << 16
_BLOCK = 1 << 20
_EXPIRED = (401, 403, 404, 410)
_PAGES = ("text/html", "application/json", "application/xml", "text/xml")


class StemGone(ProtocolError):
    """A stem's URL has expired, or leads nowhere."""


class StemUnsound(ProtocolError):
    """What a stem's URL gave isn't the audio that it has to be."""


class Download(Value):
    """What a stem has to be. `frames`, rate and channels are left unchecked where None."""

    sample_rate_hz: int | None = None
    channels: int | None = None
    frames: int | None = None

    @property
    def max_bytes(self) -> int:
        """No honest file is larger: float samples, and some room for headers."""
        if self.frames is None:
            return 4 * 1024**3
        return self.frames * (self.channels or 2) * 4 + _HEADER_BYTES


async def fetch(transport: Transport, url: str, path: Path, expected: Download) -> None:
    """Stream a URL into a file, following redirects with the key left behind off its own origin.

    Raises:
        StemGone: 401, 403, 404 or 410.
        StemUnsound: A page, or larger than a stem of its length can be.
        AddressRefused: It, or a redirect, leads where it may not.
        ProtocolError: No http(s) URL, redirected over and over, or a status out of the contract.
        NetworkError, RateLimited, ServiceError: Broken off, too slow, refused for now.
        DiskFull: No room.
    """
    for _ in range(_REDIRECTS + 1):
        onward = await _fetch_once(transport, url, path, expected)
        if onward is None:
            return
        url = onward
    raise ProtocolError(f"a stem's URL redirects over {_REDIRECTS} times.", stage="separate")


async def _fetch_once(transport: Transport, url: str, path: Path, expected: Download) -> str | None:
    timeouts = transport.connections.timeouts
    # What arrives is what is counted: nothing may unpack itself to more.
    headers = {**transport.auth_for(url), "accept-encoding": "identity"}
    time_s = timeouts.upload_s(expected.max_bytes)
    async with transport.exchange("GET", url, headers, time_s) as response:
        if response.is_redirect:
            return _onward(response)
        if not response.is_success:
            answer = await read_answer(response)
            if answer.status in _EXPIRED:
                raise StemGone(f"the URL of {path.stem} answers {answer.status}.", stage="separate")
            raise transport.refusal(answer, f"the stem {path.stem}")
        if response.headers.get("content-type", "").startswith(_PAGES):
            page = (await read_answer(response)).body
            raise StemUnsound(broken("it sent a page where a stem was due", page).cause)
        await _receive(response, path, expected, timeouts)
    return None


def _onward(response: httpx.Response) -> str:
    try:
        return str(response.url.join(response.headers["location"]))
    except (KeyError, httpx.InvalidURL) as error:
        raise ProtocolError("a stem's URL redirects to nowhere.", stage="separate") from error


async def _receive(
    response: httpx.Response, path: Path, expected: Download, timeouts: Timeouts
) -> None:
    began, received = time.monotonic(), 0
    held = bytearray()
    file = await asyncio.to_thread(path.open, "wb")
    try:
        async for chunk in response.aiter_raw():
            received += len(chunk)
            if received > expected.max_bytes:
                raise StemUnsound(
                    f"{path.stem} is over {expected.max_bytes} bytes, more than its length allows.",
                    stage="separate",
                )
            spent_s = time.monotonic() - began
            if spent_s > timeouts.grace_s and received < spent_s * timeouts.least_bytes_per_s:
                raise NetworkError(
                    f"{path.stem} comes at {received / spent_s:.0f} bytes a second.",
                    stage="separate",
                )
            held += chunk
            if len(held) >= _BLOCK:
                await asyncio.to_thread(file.write, bytes(held))
                held.clear()
        await asyncio.to_thread(file.write, bytes(held))
    finally:
        await asyncio.to_thread(file.close)
