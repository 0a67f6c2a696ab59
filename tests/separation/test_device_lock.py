"""What the device lock promises: one run on a device, with as many tracks as it takes, in turn."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator

import pytest

from tasks.errors import Interrupted
from tasks.separation.device_lock import DeviceLock

HOLD = """
import sys
from tasks.separation.device_lock import DeviceLock
with DeviceLock(sys.argv[1]).held(lambda: False):
    print("held", flush=True)
    sys.stdin.read(1)
"""


@pytest.fixture
def name() -> str:
    return f"cuda:test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def other(name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which wants the device as soon as it has started."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def test_as_many_tracks_hold_it_as_there_are_slots(name: str) -> None:
    lock, inside, most = DeviceLock(name, slots=2), [0], [0]
    counting, both = threading.Lock(), threading.Barrier(2)

    def track() -> None:
        with lock.held(lambda: False):
            with counting:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            both.wait(20)
            with counting:
                inside[0] -= 1

    threads = [threading.Thread(target=track) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [2]


def test_another_process_waits_and_then_comes_before_our_next_track(
    name: str, other: subprocess.Popen[str]
) -> None:
    lock = DeviceLock(name, slots=2)
    order: list[str] = []
    assert other.stdout
    assert other.stdin
    assert other.stdout.readline() == "held\n"
    with pytest.raises(Interrupted), lock.held(lambda: True):
        pytest.fail("another process holds it")
    other.stdin.write("x")
    other.stdin.flush()
    other.wait(30)
    with lock.held(lambda: False):
        again = subprocess.Popen(
            [sys.executable, "-c", HOLD, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        while not lock._is_wanted():
            pass

        def join_in() -> None:
            with lock.held(lambda: False):
                order.append("our next track")

        joining = threading.Thread(target=join_in)
        joining.start()
        joining.join(0.5)
        assert order == []  # a slot is free, but it is the other one's turn
    assert again.stdout
    assert again.stdin
    order.append(again.stdout.readline().strip())
    again.communicate("x")
    joining.join(30)
    assert order == ["held", "our next track"]


def test_several_devices_are_held_together(name: str) -> None:
    both = DeviceLock(f"{name}-a,{name}-b")
    one = DeviceLock(f"{name}-b")
    with both.held(lambda: False), pytest.raises(Interrupted), one.held(lambda: True):
        pytest.fail("it is held")
