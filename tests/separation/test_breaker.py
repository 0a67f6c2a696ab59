"""A service that keeps failing is left alone, asked again with one track, and taken back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.separation.breaker import Breaker, breaker_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("lalal", threshold=3, cool_down_s=10.0, longest_s=35.0, clock=clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.admits()
        breaker.failed("503")


def test_it_opens_after_so_many_faults_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert breaker.admits()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state == "closed"
    fail(breaker)
    assert (breaker.state, breaker.left_s) == ("open", 10.0)
    assert not breaker.admits()


def test_after_the_cool_down_one_probe_and_no_more(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10.0
    assert (breaker.state, breaker.left_s) == ("half-open", 0.0)
    assert breaker.admits()
    assert not breaker.admits()
    breaker.succeeded()
    assert breaker.state == "closed"
    assert breaker.admits()
    assert breaker.admits()


def test_each_failed_probe_doubles_the_cool_down_up_to_its_cap(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    waits = []
    for _ in range(4):
        waits.append(breaker.left_s)
        clock.now += breaker.left_s
        fail(breaker)
    assert waits == [10.0, 20.0, 35.0, 35.0]
    clock.now += breaker.left_s
    assert breaker.admits()
    breaker.succeeded()
    fail(breaker, 3)
    assert breaker.left_s == 10.0


def test_calls_from_before_it_opened_neither_lengthen_the_wait_nor_spoil_the_probe(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 4.0
    breaker.failed("503")
    assert breaker.left_s == 6.0


def test_a_probe_that_says_nothing_leaves_room_for_another(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10.0
    assert breaker.admits()
    breaker.undecided()
    assert breaker.admits()


def test_many_threads_get_one_probe_between_them(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 10.0
    gate = threading.Barrier(16)

    def ask(_: int) -> bool:
        gate.wait()
        return breaker.admits()

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(16))) == 1


def test_what_happens_is_logged(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="tasks"):
        fail(breaker, 3)
        clock.now += 10.0
        assert breaker.admits()
        breaker.succeeded()
    assert caplog.messages == [
        "lalal is left alone for 10 s after 3 faults in a row: 503",
        "lalal: asking it again with one track",
        "lalal works again",
    ]


def test_a_process_has_one_breaker_for_a_service() -> None:
    one = breaker_of("test-service", "https://a.test/v1")
    assert breaker_of("test-service", "https://a.test/v1") is one
    assert breaker_of("test-service", "https://b.test/v1") is not one
