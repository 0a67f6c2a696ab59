"""What may be spent at a service in a day or a month, counted once for all processes of a host."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from tasks.contracts import Value
from tasks.errors import BudgetSpent
from tasks.separation.state import Database

Period = Literal["day", "month"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spend (
    service TEXT NOT NULL,
    track_id TEXT NOT NULL,
    separation_id TEXT NOT NULL,
    reserved_at REAL NOT NULL,
    minutes REAL NOT NULL,
    usd REAL NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS spend_by_time ON spend (service, reserved_at);
"""
_OPEN = "service = ? AND track_id = ? AND separation_id = ? AND NOT settled"


class Limit(Value):
    """Minutes of audio and dollars that may go to a service in a period; 0 is no limit."""

    minutes: float = 0.0
    usd: float = 0.0
    period: Period = "month"


class Spent(Value):
    """What went to a service since its period began, reservations included."""

    minutes: float
    usd: float
    limit: Limit
    resets: datetime

    @property
    def minutes_left(self) -> float | None:
        return max(0.0, self.limit.minutes - self.minutes) if self.limit.minutes else None

    @property
    def usd_left(self) -> float | None:
        return max(0.0, self.limit.usd - self.usd) if self.limit.usd else None

    @property
    def used_up(self) -> bool:
        """Whether nothing at all is left of a limit."""
        return self.minutes_left == 0 or self.usd_left == 0

    @property
    def sentence(self) -> str:
        """What is left, in words."""
        left = []
        if self.minutes_left is not None:
            left.append(f"{self.minutes_left:.1f} of {self.limit.minutes:g} min")
        if self.usd_left is not None:
            left.append(f"${self.usd_left:.2f} of ${self.limit.usd:g}")
        if left:
            return f"{' and '.join(left)} left this {self.limit.period}"
        return f"{self.minutes:.1f} min and ${self.usd:.2f} spent this {self.limit.period}"


class LimitReached(BudgetSpent):
    """A track doesn't fit into what is left of a limit; another one may, or later."""


class Budget:
    """One service's spending, in a file that all processes of this host share.

    What is reserved counts until it is settled or released: a crash forgets nothing. A track and
    separation that has an open reservation isn't counted twice, so a resumed job is paid once.

    Args:
        service: The service's name.
        limit: What may be spent.
        folder: Where the file is; the state folder by default.
        now: The time, in UTC.
    """

    def __init__(
        self,
        service: str,
        limit: Limit,
        *,
        folder: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.service = service
        self.limit = limit
        self._now = now
        self._database = Database("spend", _SCHEMA, folder=folder)

    def reserve(self, track_id: str, separation_id: str, *, minutes: float, usd: float) -> bool:
        """Set aside what a track will cost, before it is submitted.

        Returns:
            Whether this call set it aside; False where an earlier one did and is still open.

        Raises:
            LimitReached: It doesn't fit.
        """
        key = (self.service, track_id, separation_id)
        with self._database.write() as rows:
            if rows.execute(f"SELECT 1 FROM spend WHERE {_OPEN}", key).fetchone():
                return False
            spent = self._spent(rows)
            if problem := _beyond(spent, minutes, usd):
                raise LimitReached(problem)
            rows.execute(
                "INSERT INTO spend (service, track_id, separation_id, reserved_at, minutes, usd)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (*key, self._now().timestamp(), minutes, usd),
            )
        return True

    def settle(self, track_id: str, separation_id: str, *, usd: float) -> None:
        """A reserved track is done, and this is what it cost."""
        with self._database.write() as rows:
            rows.execute(
                f"UPDATE spend SET settled = 1, usd = ? WHERE {_OPEN}",
                (usd, self.service, track_id, separation_id),
            )

    def release(self, track_id: str, separation_id: str) -> None:
        """A reserved track was certainly never submitted."""
        with self._database.write() as rows:
            rows.execute(
                f"DELETE FROM spend WHERE {_OPEN}", (self.service, track_id, separation_id)
            )

    def spent(self) -> Spent:
        """What went to the service in this period."""
        if not self._database.path.exists():
            # Looking changes nothing.
            return Spent(minutes=0.0, usd=0.0, limit=self.limit, resets=self._ends())
        with self._database.read() as rows:
            return self._spent(rows)

    def _ends(self) -> datetime:
        return _period(self._now(), self.limit.period)[1]

    def _spent(self, rows: sqlite3.Connection) -> Spent:
        began, ends = _period(self._now(), self.limit.period)
        minutes, usd = rows.execute(
            "SELECT coalesce(sum(minutes), 0), coalesce(sum(usd), 0) FROM spend"
            " WHERE service = ? AND reserved_at >= ?",
            (self.service, began.timestamp()),
        ).fetchone()
        return Spent(minutes=minutes, usd=usd, limit=self.limit, resets=ends)


def _period(now: datetime, period: Period) -> tuple[datetime, datetime]:
    """The day or month of a time, by UTC: its first moment and the next one's."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day, day + timedelta(days=1)
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def _beyond(spent: Spent, minutes: float, usd: float) -> str:
    """Why a track doesn't fit, as a sentence; or nothing."""
    # Sums of floats: a track that fits to the last cent must fit.
    too_long = spent.minutes_left is not None and minutes > spent.minutes_left + 1e-9
    too_dear = spent.usd_left is not None and usd > spent.usd_left + 1e-9
    used_up = spent.usd_left is not None and spent.usd_left <= 0
    if not (too_long or too_dear or used_up):
        return ""
    needs = f"{minutes:.1f} min" if too_long else f"${usd:.2f}"
    return (
        f"its limit is reached: {spent.sentence}, this track needs {needs}; "
        f"the next {spent.limit.period} begins at {spent.resets:%Y-%m-%d %H:%M} UTC."
    )
