"""Limits hold across processes, crashes and months, and no job counts twice."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.separation.budget import Budget, Limit, LimitReached

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Calendar:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


def budget(folder: Path, calendar: Calendar, **limit: object) -> Budget:
    return Budget("lalal", Limit.model_validate(limit), folder=folder, now=calendar)


def test_what_does_not_fit_is_refused_with_what_is_left(tmp_path: Path, calendar: Calendar) -> None:
    book = budget(tmp_path, calendar, minutes=10)
    assert book.reserve("t1", "s", minutes=6, usd=0)
    with pytest.raises(LimitReached, match=r"4\.0 of 10 min left this month.* needs 5\.0 min"):
        book.reserve("t2", "s", minutes=5, usd=0)
    assert book.reserve("t3", "s", minutes=4, usd=0)
    assert book.spent().used_up
    with pytest.raises(LimitReached, match="next month begins at 2026-12-01 00:00 UTC"):
        book.reserve("t4", "s", minutes=0.1, usd=0)


def test_dollars_are_settled_at_what_it_really_cost(tmp_path: Path, calendar: Calendar) -> None:
    book = budget(tmp_path, calendar, usd=1.0)
    book.reserve("t1", "s", minutes=3, usd=0.6)
    with pytest.raises(LimitReached, match=r"\$0\.40 of \$1 left"):
        book.reserve("t2", "s", minutes=3, usd=0.6)
    book.settle("t1", "s", usd=0.2)
    assert book.reserve("t2", "s", minutes=3, usd=0.6)
    assert book.spent().usd == pytest.approx(0.8)


def test_a_reservation_outlives_its_process_and_counts_once(
    tmp_path: Path, calendar: Calendar
) -> None:
    assert budget(tmp_path, calendar, minutes=10).reserve("t1", "s", minutes=6, usd=0)
    resumed = budget(tmp_path, calendar, minutes=10)
    assert resumed.spent().minutes == 6
    assert not resumed.reserve("t1", "s", minutes=6, usd=0)
    assert resumed.spent().minutes == 6
    resumed.settle("t1", "s", usd=0)
    # Separated anew (--force): paid for anew.
    with pytest.raises(LimitReached):
        resumed.reserve("t1", "s", minutes=6, usd=0)


def test_what_was_never_submitted_is_given_back(tmp_path: Path, calendar: Calendar) -> None:
    book = budget(tmp_path, calendar, minutes=10)
    book.reserve("t1", "s", minutes=10, usd=0)
    book.release("t1", "s")
    assert book.spent().minutes == 0
    book.reserve("t1", "s", minutes=10, usd=0)
    book.settle("t1", "s", usd=0)
    book.release("t1", "s")
    assert book.spent().minutes == 10


@pytest.mark.parametrize(
    ("period", "next_one"),
    [
        ("day", datetime(2026, 11, 25, 0, 0, tzinfo=UTC)),
        ("month", datetime(2026, 12, 1, 0, 0, tzinfo=UTC)),
    ],
)
def test_each_period_begins_with_nothing_spent(
    tmp_path: Path, calendar: Calendar, period: str, next_one: datetime
) -> None:
    book = budget(tmp_path, calendar, minutes=10, period=period)
    book.reserve("t1", "s", minutes=10, usd=0)
    assert book.spent().resets == next_one
    calendar.now = next_one
    assert book.reserve("t2", "s", minutes=10, usd=0)


def test_services_have_a_book_each(tmp_path: Path, calendar: Calendar) -> None:
    budget(tmp_path, calendar, minutes=10).reserve("t1", "s", minutes=10, usd=0)
    other = Budget("fal", Limit(minutes=10), folder=tmp_path, now=calendar)
    assert other.reserve("t1", "s", minutes=10, usd=0)


def test_looking_makes_no_file(tmp_path: Path, calendar: Calendar) -> None:
    assert budget(tmp_path, calendar, minutes=10).spent().minutes_left == 10
    assert list(tmp_path.iterdir()) == []


RACER = """
import sys
from tasks.separation.budget import Budget, Limit, LimitReached

name = sys.argv[1]
book, got = Budget("lalal", Limit(minutes=50)), 0
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    try:
        got += book.reserve(f"{name}-{number}", "s", minutes=1, usd=0)
    except LimitReached:
        break
print(got)
"""


def test_two_processes_that_race_never_spend_more_than_the_limit(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"STEMWRIGHT_STATE": str(tmp_path)},
            text=True,
        )
        for name in ("one", "two")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    got = [int(racer.communicate("go\n", timeout=60)[0]) for racer in racers]
    assert sum(got) == 50
    assert Budget("lalal", Limit(minutes=50), folder=tmp_path).spent().minutes == 50
