"""Bringing a stem home: bounded, the key to nobody else, and decoded before it counts."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tasks.contracts import Value
from tasks.errors import ContractBroken, DiskFull, NetworkFault
from tasks.separation.cloud.answers import broken, network_fault, read_answer, refusal

_REDIRECTS = 5
_BYTES_PER_S = 50_000
_LEAST_TIME_S = 120.0
_HEADER_BYTES = 1 << 16
_BLOCK = 1 << 18


class Download(Value):
    """What a stem has to be. `frames`, rate and channels are left unchecked where None."""

    format: str = ""
    sample_rate_hz: int | None = None
    channels: int | None = None
    frames: int | None = None

    @property
    def max_bytes(self) -> int:
        """No honest file is larger: float samples, and some room for headers."""
        if self.frames is None:
            return 4 * 1024**3
        return self.frames * (self.channels or 2) * 4 + _HEADER_BYTES

    @property
    def time_s(self) -> float:
        return max(_LEAST_TIME_S, self.max_bytes / _BYTES_PER_S)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what decides who gets the key.

    Raises:
        ContractBroken: Not an http(s) URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ContractBroken(f"{url[:120]!r} is no URL.", stage="separate") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ContractBroken(
            f"the service gave a stem at {url[:120]!r}; only http(s) is fetched.",
            stage="separate",
        )
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


async def fetch_to(
    client: httpx.AsyncClient,
    url: str,
    path: Path,
    headers: dict[str, str],
    home: tuple[str, str, int],
    expected: Download,
) -> None:
    """Stream a URL into a file, following redirects with the key left behind off `home`.

    Raises:
        ContractBroken: Larger than it may be, a bad redirect, or a status out of the contract.
        NetworkFault: Broken off, too slow, or shorter than promised.
        DiskFull: No room.
    """
    try:
        async with asyncio.timeout(expected.time_s):
            for _ in range(_REDIRECTS):
                onward = await _fetch_once(client, url, path, headers, expected)
                if onward is None:
                    return
                url = onward
                if origin(url) != home:
                    headers = {}
    except TimeoutError as error:
        raise NetworkFault(
            f"a stem wasn't here within {expected.time_s:.0f} s.", stage="separate"
        ) from error
    except httpx.HTTPError as error:
        raise network_fault(error, url) from None
    except OSError as error:
        raise DiskFull(f"{path.parent} can't be written to: {error.strerror}.") from error
    raise ContractBroken(f"a stem's URL redirects over {_REDIRECTS} times.", stage="separate")


async def _fetch_once(
    client: httpx.AsyncClient, url: str, path: Path, headers: dict[str, str], expected: Download
) -> str | None:
    async with client.stream("GET", url, headers=headers) as response:
        if response.is_redirect:
            return str(response.url.join(response.headers["location"]))
        if not response.is_success:
            raise refusal(response, await read_answer(response), asked_for="a stem that it named")
        if response.headers.get("content-type", "").startswith(("text/html", "application/json")):
            raise broken("it sent a page where a stem was due", await read_answer(response))
        received = 0
        with path.open("wb") as file:
            async for chunk in response.aiter_bytes():
                received += len(chunk)
                if received > expected.max_bytes:
                    raise ContractBroken(
                        f"a stem is over {expected.max_bytes} bytes, more than its length allows.",
                        stage="separate",
                    )
                file.write(chunk)
    return None


def check_audio(path: Path, name: str, expected: Download) -> None:
    """Decode a file to its end and compare it with what it has to be.

    Raises:
        ContractBroken: Not audio, another format, rate, channel count or length, or samples that
            are not finite numbers.
    """
    import numpy as np
    import soundfile

    frames = 0
    try:
        with soundfile.SoundFile(str(path)) as file:
            found = (file.format.lower(), file.samplerate, file.channels)
            promised = file.frames
            for block in file.blocks(_BLOCK, dtype="float32"):
                frames += len(block)
                if not math.isfinite(float(np.sum(block))):
                    raise _unlike(name, "holds samples that are not finite numbers")
    except soundfile.LibsndfileError as error:
        with path.open("rb") as file:
            raise broken(f"{name} can't be decoded", file.read(120)) from error
    wanted = (expected.format or found[0], expected.sample_rate_hz, expected.channels)
    for what, is_, due in zip(("format", "sample rate", "channels"), found, wanted, strict=True):
        if due is not None and is_ != due:
            raise _unlike(name, f"has {what} {is_} where {due} was due")
    if frames != promised:
        raise _unlike(name, f"ends after {frames} of {promised} frames")
    if expected.frames is not None and frames != expected.frames:
        raise _unlike(name, f"has {frames} frames, the mixture {expected.frames}")


def _unlike(name: str, what: str) -> ContractBroken:
    return ContractBroken(f"the service's {name} {what}.", stage="separate")
