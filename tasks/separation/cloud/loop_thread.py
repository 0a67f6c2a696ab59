"""One event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from tasks.errors import Interrupted

T = TypeVar("T")

# How soon a stop or a deadline is noticed.
_LOOK_S = 0.1
_FILE_THREADS = 8


@dataclass
class _Watched:
    """What is looked at for one piece of work, and why it was ended."""

    look: Callable[[], None]
    why: Exception | None = None

    def ask(self, task: asyncio.Task[Any]) -> None:
        try:
            self.look()
        except Exception as error:
            self.why = error
            task.cancel()


class LoopThread:
    """An event loop that runs from the first call until it is closed.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._watched: dict[asyncio.Task[Any], _Watched] = {}
        self._watching: asyncio.Task[None] | None = None

    def run(self, work: Coroutine[Any, Any, T], look: Callable[[], None]) -> T:
        """Run a coroutine on the loop, and wait for it in the calling thread.

        Args:
            look: Called on the loop several times a second; what it raises ends the work.

        Raises:
            Interrupted: The loop was closed meanwhile.
            Others: What the work or `look` raises.
        """
        future = self.start(self._looked_after(work, look))
        try:
            return future.result()
        except CancelledError:
            raise Interrupted("the engine was closed.", stage="separate") from None
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop without waiting for it."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `last` on the loop, cancel what is left, and end the thread; once, then no more."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_wound_up(last), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _looked_after(self, work: Coroutine[Any, Any, T], look: Callable[[], None]) -> T:
        task = asyncio.ensure_future(work)
        watched = self._watched[task] = _Watched(look)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.ensure_future(self._watch())
        try:
            return await task
        except asyncio.CancelledError:
            if watched.why is None:
                raise
            raise watched.why from None
        finally:
            del self._watched[task]

    async def _watch(self) -> None:
        # One for all: a timer for each of hundreds of jobs costs more than asking for them does.
        while self._watched:
            for task, watched in list(self._watched.items()):
                if watched.why is None:
                    watched.ask(task)
            await asyncio.sleep(_LOOK_S)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # For files and names: none of that may stop the loop.
                self._loop.set_default_executor(
                    ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix=f"{self._name}-files")
                )
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=self._name, daemon=True
                )
                self._thread.start()
            return self._loop


async def _wound_up(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await last()
    finally:
        own = asyncio.current_task()
        rest = [task for task in asyncio.all_tasks() if task is not own]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()
