"""When to ask a service again: multiplicative backoff with full jitter, and `Retry-After`."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import Field

from tasks.contracts import Value

_FIRST_S = 1.0


class RetryPolicy(Value):
    """How often and how long to ask; the article's three settings.

    `max_retries` counts requests of one kind about one job. The ceiling of the nth wait is
    `backoff_multiplier` to the n in seconds, at most `max_backoff_seconds`; the wait itself is
    drawn evenly below it ("full jitter": Brooker, Exponential Backoff and Jitter, AWS, 2015).
    """

    max_retries: int = Field(default=20, ge=1)
    backoff_multiplier: float = Field(default=1.5, ge=1)
    max_backoff_seconds: float = Field(default=30.0, gt=0)
    longest_asked_s: float = Field(
        default=300.0, gt=0, description="A service that asks for a longer wait is given up."
    )

    def ceiling_s(self, attempt: int) -> float:
        """The longest wait after the attempt, counted from 0, in seconds."""
        try:
            grown = _FIRST_S * self.backoff_multiplier**attempt
        except OverflowError:
            grown = self.max_backoff_seconds
        return min(self.max_backoff_seconds, grown)

    def wait_s(self, attempt: int, retry_after_s: float | None = None) -> float:
        """Seconds to wait after the attempt; never less than the service asked for."""
        return max(random.uniform(0.0, self.ceiling_s(attempt)), retry_after_s or 0.0)


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """`Retry-After` in seconds from now, from either of its forms (RFC 9110, 10.2.3)."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
