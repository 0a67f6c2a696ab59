"""When to try again: capped exponential backoff with full jitter, and `Retry-After`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from pydantic import Field

from tasks.contracts import Value
from tasks.errors import TransientError

T = TypeVar("T")
Declined = Callable[[TransientError, float], bool]
"""Whether not to wait so many seconds after an error, but to raise it."""
Noted = Callable[[TransientError, int, float], None]
"""Told the error, the number of tries so far, and the seconds until the next one."""


class RetryPolicy(Value):
    """How often and how long to ask; the article's three settings.

    `max_retries` counts requests of one kind about one job. The ceiling of the nth wait is
    `backoff_multiplier` to the n times `first_s`, at most `max_backoff_seconds`; the wait itself
    is drawn evenly below it ("full jitter": Brooker, Exponential Backoff and Jitter, AWS, 2015).
    """

    max_retries: int = Field(default=20, ge=1)
    backoff_multiplier: float = Field(default=1.5, ge=1)
    max_backoff_seconds: float = Field(default=30.0, gt=0)
    first_s: float = Field(default=1.0, gt=0)
    longest_asked_s: float = Field(
        default=300.0, gt=0, description="A service that asks for a longer wait is given up."
    )

    def ceiling_s(self, attempt: int) -> float:
        """Return the longest wait after the attempt, counted from 0, in seconds."""
        try:
            grown = self.first_s * self.backoff_multiplier**attempt
        except OverflowError:
            grown = self.max_backoff_seconds
        return min(self.max_backoff_seconds, grown)

    def wait_s(self, attempt: int, retry_after_s: float | None = None) -> float:
        """Draw the seconds to wait after the attempt; never less than the service asked for."""
        return max(random.uniform(0.0, self.ceiling_s(attempt)), retry_after_s or 0.0)

    def is_too_long(self, retry_after_s: float | None, left_s: float | None = None) -> bool:
        """Tell whether a service asks for more patience than there is."""
        limit_s = self.longest_asked_s if left_s is None else min(self.longest_asked_s, left_s)
        return retry_after_s is not None and retry_after_s > limit_s

    def pause_s(
        self, error: TransientError, tried: int, declined: Declined | None, noted: Noted | None
    ) -> float | None:
        """Return the seconds to wait after so many failed tries, or None to give up."""
        pause_s = self.wait_s(tried - 1, error.retry_after_s)
        if tried >= self.max_retries or self.is_too_long(error.retry_after_s):
            return None
        if declined and declined(error, pause_s):
            return None
        if noted:
            noted(error, tried, pause_s)
        return pause_s


def retrying(
    work: Callable[[], T],
    policy: RetryPolicy,
    *,
    declined: Declined | None = None,
    noted: Noted | None = None,
) -> T:
    """Do some work, again after each `TransientError` as the policy has it.

    Raises:
        The last try's error.
    """
    tried = 0
    while True:
        try:
            return work()
        except TransientError as error:
            tried += 1
            pause_s = policy.pause_s(error, tried, declined, noted)
            if pause_s is None:
                raise
        time.sleep(pause_s)


async def retrying_async(
    work: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    declined: Declined | None = None,
    noted: Noted | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """As `retrying`, without holding up the event loop."""
    tried = 0
    while True:
        try:
            return await work()
        except TransientError as error:
            tried += 1
            pause_s = policy.pause_s(error, tried, declined, noted)
            if pause_s is None:
                raise
        await sleep(pause_s)


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Read `Retry-After`, in either of its forms (RFC 9110, 10.2.3), as seconds from now."""
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
