"""The limiter spaces requests to a host; retries in place are few and within the time limit."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.contracts import IngestPolicy
from tasks.errors import NetworkError, RateLimited, SourceMissing
from tasks.net.retries import retry_after_s
from tasks.sources.limits import Deadline, HostLimiter, resuming, retries_in_place


class Clock:
    """A clock that stands still; sleeping is written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        monkeypatch.setattr(time, "sleep", self.slept.append)
        monkeypatch.setattr(random, "uniform", lambda low, high: high)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_threads_that_ask_one_host_take_turns(clock: Clock) -> None:
    limiter = HostLimiter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: limiter.wait(f"http://a.example/{n}", 4.0), range(8)))
    assert sorted(clock.slept) == [n / 4 for n in range(8)]


def test_hosts_do_not_wait_for_each_other(clock: Clock) -> None:
    limiter = HostLimiter()
    for url in ("http://a.example/", "http://b.example/", "http://a.example:81/"):
        limiter.wait(url, 1.0)
    assert clock.slept == [0, 0, 0]
    limiter.wait("https://user:word@A.EXAMPLE/", 1.0)
    assert clock.slept[-1] == 1.0


def attempts(error: Exception, policy: IngestPolicy) -> int:
    made = 0

    def work(_: Deadline) -> None:
        nonlocal made
        made += 1
        raise error

    with pytest.raises(type(error)):
        resuming(work, policy)
    return made


def test_only_what_can_pass_is_tried_again(clock: Clock) -> None:
    policy = IngestPolicy(max_retries=2)
    assert attempts(NetworkError("reset"), policy) == 3
    assert attempts(SourceMissing("gone"), policy) == 1
    assert attempts(RateLimited("later", retry_after_s=1.0), policy) == 3
    assert attempts(RateLimited("much later", retry_after_s=600.0), policy) == 1


def test_no_pause_goes_past_the_time_limit(clock: Clock) -> None:
    assert attempts(NetworkError("reset"), IngestPolicy(max_retries=9, timeout_s=0.01)) == 1


def test_pauses_grow_and_are_spread_and_bounded() -> None:
    for attempt, longest in ((0, 0.25), (1, 0.5), (2, 1.0), (60, 5.0)):
        pauses = [retries_in_place(IngestPolicy()).wait_s(attempt) for _ in range(100)]
        assert min(pauses) < longest / 2 < max(pauses) <= longest


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s("120") == 120.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("soon") is None
    assert retry_after_s("") is None
