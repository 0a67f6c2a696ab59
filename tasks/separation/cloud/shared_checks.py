"""Asking for many jobs in one request, no more often than a service allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedChecks(Generic[T]):
    """Whoever asks while another's request waits for its turn is answered by that request.

    Belongs to one event loop.

    Args:
        interval_s: The least time between two requests.
        most: Jobs that one request can ask for.
    """

    def __init__(self, interval_s: float, most: int) -> None:
        self._interval_s = interval_s
        self._most = most
        self._turn = asyncio.Lock()
        self._next_s = 0.0
        self._waiting: dict[str, int] = {}
        self._told: dict[str, tuple[float, T]] = {}

    async def ask(
        self, job: str, request: Callable[[Sequence[str]], Awaitable[dict[str, T]]]
    ) -> T | None:
        """What a request that was sent after this call says of a job; None if it says nothing.

        Args:
            request: Asks for some jobs. Only its caller sees its errors: the others ask themselves.
        """
        called_s = time.monotonic()
        self._waiting[job] = self._waiting.get(job, 0) + 1
        try:
            async with self._turn:
                sent_s, told = self._told.get(job, (0.0, None))
                return told if sent_s >= called_s else await self._request(job, request)
        finally:
            self._waiting[job] -= 1
            if not self._waiting[job]:
                del self._waiting[job]
                self._told.pop(job, None)

    async def _request(
        self, job: str, request: Callable[[Sequence[str]], Awaitable[dict[str, T]]]
    ) -> T | None:
        await asyncio.sleep(self._next_s - time.monotonic())
        sent_s = time.monotonic()
        self._next_s = sent_s + self._interval_s
        others = [other for other in self._waiting if other != job]
        told = await request([job, *others[: self._most - 1]])
        self._told.update({name: (sent_s, said) for name, said in told.items()})
        return told.get(job)
