"""One service's jobs: submitted, asked for until they are done, and their stems fetched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import DeadlineMissed, TransientError, from_os_error
from tasks.separation.cloud.answers import JobFailed
from tasks.separation.cloud.downloads import Download, fetch
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.stem_check import DownloadedStem, check_audio
from tasks.separation.cloud.transport import Transport

log = logging.getLogger(__name__)
_DOWNLOAD_TRIES = 4
_FORGET_TRIES = 3


class ServiceClient:
    """Drives any `CloudProvider` over a transport. Belongs to the transport's event loop.

    Args:
        transport: Under the watch of the track, where there is one.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._provider = transport.provider

    @property
    def whose(self) -> str:
        """How a log line about the track begins."""
        return self._transport.whose

    async def submit(self, request: ProviderRequest) -> ProviderJob:
        """Upload the audio and have it separated.

        Raises:
            As `Transport.send`, `CloudProvider.check` and `CloudProvider.submit`.
        """
        self._provider.check(request)
        with _tried_enough():
            return await self._provider.submit(self._transport, request)

    async def ask(self, job: ProviderJob, request: ProviderRequest) -> ProviderJob:
        """A job as it stands, without trying again.

        Raises:
            As `Transport.send`.
        """
        return await self._provider.ask(self._transport.patient(1), job, request)

    async def wait(
        self,
        job: ProviderJob,
        request: ProviderRequest,
        *,
        max_retries: int | None = None,
        changed: Callable[[ProviderJob], Awaitable[object]] | None = None,
        while_it_moves: bool = False,
    ) -> ProviderJob:
        """Ask until a job is complete.

        A fault that can pass costs one of the asks, no more.

        Args:
            changed: Told the job when its handle isn't what it was.
            while_it_moves: Count the asks anew whenever the service shows that the job got on (its
                status, its place in the queue, its progress): a long queue isn't a stuck job.

        Raises:
            DeadlineMissed: Asked `max_retries` times, or the watch's time ran out.
            JobFailed: In the service's own words.
            Others: As `ask`.
        """
        with _tried_enough():
            return await self._waited(job, request, max_retries, changed, while_it_moves)

    async def _waited(
        self,
        job: ProviderJob,
        request: ProviderRequest,
        max_retries: int | None,
        changed: Callable[[ProviderJob], Awaitable[object]] | None,
        while_it_moves: bool,
    ) -> ProviderJob:
        policy, watch = self._transport.policy, self._transport.watch
        asks = max_retries or policy.max_retries
        fault: TransientError | None = None
        if is_complete(job):
            return job
        asked, waits = 0, 0
        while asked < asks:
            if waits:
                pause_s = policy.wait_s(waits - 1, fault.retry_after_s if fault else None)
                said = fault.cause if fault else job.status
                # That a job takes its time is no retry.
                level = self._transport.level if fault else logging.DEBUG
                words = "%sjob %s: %s; asked %d of %d times, again in %.1f s"
                log.log(level, words, self.whose, job.job_id, said, asked, asks, pause_s)
                await self._transport.pause(pause_s)
            elif watch:
                watch.check(0.0)
            asked, waits = asked + 1, waits + 1
            try:
                found, fault = await self.ask(job, request), None
            except TransientError as error:
                if self._transport.is_too_long(error.retry_after_s):
                    raise
                fault = error
                continue
            if changed and found.handle != job.handle:
                await changed(found)
            if while_it_moves and (found.status, found.standing) != (job.status, job.standing):
                asked = 0
            job = found
            if is_complete(job):
                return job
        if fault:
            raise fault
        raise DeadlineMissed(
            f"the job {job.job_id} was not complete after it was asked for {asks} times.",
            stage="separate",
            remedy="The same command goes on waiting for it. To wait longer, raise "
            "engine.max_retries or engine.max_backoff_seconds.",
        )

    async def fetch(
        self, url: str, path: Path, expected: Download, *, lossless: bool = True
    ) -> DownloadedStem:
        """Fetch one stem to `path`, decode it through and check it; only then does it count.

        Raises:
            StemGone: Its URL has expired.
            StemUnsound: It isn't the audio that it has to be.
            AddressRefused, ProtocolError, DiskFull, KeyRejected, DeadlineMissed, RateLimited,
            ServiceError, NetworkError.
        """
        transport = self._transport.patient(_DOWNLOAD_TRIES)

        async def attempt() -> DownloadedStem:
            async with transport.connections.transfers:
                await fetch(transport, url, path, expected)
            check = asyncio.to_thread(check_audio, path, path.stem, expected, lossless=lossless)
            return await check

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return await transport.persist(attempt, f"downloading {path.name}")
        except OSError as error:
            raise from_os_error(error, stage="separate") from error

    async def forget(self, job: ProviderJob) -> None:
        """Have the service remove what it keeps of a job, where it offers that.

        Raises:
            As `Transport.send`.
        """
        await self._provider.forget(self._transport.patient(_FORGET_TRIES), job)


@contextmanager
def _tried_enough() -> Iterator[None]:
    """What comes through here was tried as often as the policy says, or would be paid again."""
    try:
        yield
    except TransientError as error:
        error.tried_enough = True
        raise


def is_complete(job: ProviderJob) -> bool:
    """Whether a job is complete.

    Raises:
        JobFailed: The service says that it failed.
    """
    if job.status == "failed":
        reason = (job.error_message or "no reason given").strip()[:300]
        raise JobFailed(f"the service says that the separation failed: {reason}", stage="separate")
    return job.status == "complete"
