"""One file over HTTP: resumed where it broke off, and checked against the hub's own digest.

`huggingface_hub` (2.4) does neither: it throws away what a broken process brought, loses up to
10 MB of each broken connection, and checks sizes only.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from filelock import FileLock

from tasks.errors import NetworkError, ProtocolError, WeightsRefused
from tasks.separation.models.family import OnProgress

CONNECT_TIMEOUT_S = 4.0

_READ_TIMEOUT_S = 30.0
_ATTEMPTS = 4
_PASSING = {408, 429, 500, 502, 503, 504}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Remote:
    """A file as a hub describes it.

    Attributes:
        url: Where its bytes are.
        name: What messages call it.
        etag: The SHA-256 of a large file's bytes, git's SHA-1 of a small one's.
        size: In bytes; 0 where the hub doesn't say.
    """

    url: str
    name: str
    etag: str
    size: int = 0


def is_sha256(text: str) -> bool:
    return bool(_SHA256.fullmatch(text))


def is_git_sha1(text: str) -> bool:
    return bool(_GIT_SHA1.fullmatch(text))


def download(
    remote: Remote, target: Path, on_progress: OnProgress, headers: dict[str, str]
) -> None:
    """Bring a file to `target`, which appears whole and checked or not at all.

    What a transfer that broke off left behind (`TARGET.incomplete`) is gone on with, also by a
    later call; two processes that want the same file fetch it once.

    Raises:
        NetworkError: It broke off again and again without a new byte.
        WeightsRefused: The bytes aren't those that the hub's digest is of; they are thrown away.
        ProtocolError: The hub refuses the file, or answers something else.
        OSError: The disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.incomplete")
    with FileLock(f"{target}.lock"), part.open("ab") as file:
        if target.exists():  # another process fetched it while this one waited
            return
        _fill(remote, file, on_progress, headers)
        file.flush()
        _check(remote, part)
        part.replace(target)


def matches(etag: str, path: Path) -> bool:
    """Whether a file's bytes have the digest that is its etag."""
    with path.open("rb") as file:
        if is_sha256(etag):
            return hashlib.file_digest(file, "sha256").hexdigest() == etag
        # git hashes a blob's kind and length before its bytes.
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        digest.update(file.read())
        return digest.hexdigest() == etag


def _fill(
    remote: Remote, file: IO[bytes], on_progress: OnProgress, headers: dict[str, str]
) -> None:
    failures = 0
    while True:
        before = file.tell()
        try:
            _stream(remote, file, on_progress, headers)
            return
        except (httpx.TransportError, _Passing) as error:
            failures = 1 if file.tell() > before else failures + 1
            if failures >= _ATTEMPTS:
                raise NetworkError(
                    f"fetching {remote.name} broke off at {file.tell() / 1e6:.1f} MB: "
                    f"{str(error)[:200] or type(error).__name__}.",
                    remedy="Run the same command again: it goes on where it stopped.",
                ) from error
            time.sleep(0.25 * 2**failures)


class _Passing(Exception):
    """An answer that can be another one in a moment."""


def _stream(
    remote: Remote, file: IO[bytes], on_progress: OnProgress, headers: dict[str, str]
) -> None:
    here = file.tell()
    if remote.size and here == remote.size:
        return
    if remote.size and here > remote.size:
        here = _restart(file)
    wanted = headers | {"Accept-Encoding": "identity"}
    if here:
        wanted["Range"] = f"bytes={here}-"
    timeout = httpx.Timeout(_READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    with httpx.stream(
        "GET", remote.url, headers=wanted, timeout=timeout, follow_redirects=True
    ) as answer:
        if answer.status_code in _PASSING:
            raise _Passing(f"HTTP {answer.status_code}")
        if answer.status_code == 416 or (here and answer.status_code == 200):
            here = _restart(file)
        if answer.status_code == 416:
            raise _Passing("HTTP 416")
        if answer.status_code not in (200, 206):
            raise ProtocolError(f"the hub answered {answer.status_code} for {remote.name}.")
        on_progress(remote.name, here, remote.size)
        for chunk in answer.iter_bytes():
            file.write(chunk)
            here += len(chunk)
            on_progress(remote.name, here, remote.size)
    if remote.size and here < remote.size:
        raise _Passing(f"it ended at {here} of {remote.size} bytes")


def _restart(file: IO[bytes]) -> int:
    file.truncate(0)
    file.seek(0)
    return 0


def _check(remote: Remote, part: Path) -> None:
    size = part.stat().st_size
    if (remote.size and size != remote.size) or not matches(remote.etag, part):
        part.unlink()
        raise WeightsRefused(
            f"{remote.name} came with other bytes than the hub's digest {remote.etag[:12]}… is of; "
            "they were thrown away.",
            remedy="Fetch it again; if that doesn't help, something between here and the hub "
            "changes what is sent.",
        )
