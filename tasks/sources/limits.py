"""The bounds of a download: size, time, requests a second to one host, retries in place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from tasks.contracts import IngestPolicy
from tasks.errors import NetworkError, SourceRefused
from tasks.net.retries import RetryPolicy, retrying

_MANY_HOSTS = 4096

T = TypeVar("T")


def check_size(size: int | None, policy: IngestPolicy) -> None:
    """Raise `SourceRefused` if so many bytes are over the policy's limit."""
    if size is not None and size > policy.max_bytes:
        raise SourceRefused(
            f"it holds {size:,} bytes or more, over the limit of {policy.max_bytes:,}.",
            remedy="Raise max_bytes of the ingest policy to allow it.",
        )


def check_duration(duration_s: float | None, policy: IngestPolicy) -> None:
    """Raise `SourceRefused` if a track of so many seconds is over the policy's limit."""
    if duration_s is not None and duration_s > policy.max_duration_s:
        raise SourceRefused(
            f"it lasts {duration_s:,.0f} s, over the limit of {policy.max_duration_s:,.0f} s.",
            remedy="Raise max_duration_s of the ingest policy to allow it.",
        )


class Deadline:
    """The time limit of one download, retries included."""

    def __init__(self, policy: IngestPolicy) -> None:
        self._limit_s = policy.timeout_s
        self._end = time.monotonic() + policy.timeout_s

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raise `NetworkError` if the time is over."""
        if self.left_s <= 0:
            raise NetworkError(
                f"the download took longer than {self._limit_s:g} s.",
                remedy="Run it again to go on where it stopped, or raise the ingest policy's "
                "timeout_s.",
            )


class HostLimiter:
    """Spaces the requests to each host evenly, over all threads of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def wait(self, url: str, requests_per_second: float) -> None:
        """Sleep until this host may be asked again."""
        host = urlsplit(url).netloc.rpartition("@")[2].lower()
        with self._lock:
            now = time.monotonic()
            if len(self._next) > _MANY_HOSTS:
                self._next = {name: at for name, at in self._next.items() if at > now}
            turn = max(now, self._next.get(host, now))
            self._next[host] = turn + 1 / requests_per_second
        time.sleep(turn - now)


LIMITER = HostLimiter()


def retries_in_place(policy: IngestPolicy) -> RetryPolicy:
    """Few and quick ones: a longer `Retry-After` is left to the caller."""
    return RetryPolicy(
        max_retries=policy.max_retries + 1,
        first_s=0.25,
        backoff_multiplier=2.0,
        max_backoff_seconds=5.0,
        longest_asked_s=5.0,
    )


def resuming(work: Callable[[Deadline], T], policy: IngestPolicy) -> T:
    """Do work that resumes where it stopped, again after each fault that can pass.

    At most `policy.max_retries` times more, and within `policy.timeout_s` in all.
    """
    deadline = Deadline(policy)
    return retrying(
        lambda: work(deadline),
        retries_in_place(policy),
        declined=lambda _, pause_s: pause_s > deadline.left_s,
    )
