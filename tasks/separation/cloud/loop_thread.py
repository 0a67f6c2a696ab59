"""One event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tasks.errors import Interrupted

T = TypeVar("T")

# How soon a stop or a deadline is noticed.
_LOOK_S = 0.2


class LoopThread:
    """An event loop that runs from the first call until it is closed.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread = ExitStack()
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, work: Coroutine[Any, Any, T], check: Callable[[], None]) -> T:
        """Run a coroutine on the loop, and wait for it in the calling thread.

        Args:
            check: Called on the loop several times a second; what it raises ends the work.

        Raises:
            Interrupted: The loop was closed meanwhile.
            Others: What the work or `check` raises.
        """
        future = self._begin(self._ended_by(check, work))
        try:
            return future.result()
        except CancelledError:
            raise Interrupted("the engine was closed.", stage="separate") from None
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop without waiting for it."""
        return self._begin(self._ended_by(lambda: None, work))

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `last` on the loop, cancel what is left, and end the thread; once, then no more."""
        with self._lock:
            portal, thread = self._portal, self._thread.pop_all()
            self._portal = None
        if portal is not None:
            with thread:
                portal.call(self._wind_up, last)

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._portal is None:
                portal = start_blocking_portal("asyncio", name=self._name)
                self._portal = self._thread.enter_context(portal)
            return self._portal.start_task_soon(lambda: work)

    async def _ended_by(self, check: Callable[[], None], work: Coroutine[Any, Any, T]) -> T:
        # A task of its own: asyncio cancels it once, so that it can wait for what it tidies up.
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        try:
            while not (await asyncio.wait([task], timeout=_LOOK_S))[0]:
                check()
            return task.result()
        finally:
            self._tasks.discard(task)
            task.cancel()
            await asyncio.wait([task])

    async def _wind_up(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await last()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
