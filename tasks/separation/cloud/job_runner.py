"""One track at one service: its jobs, picked up or submitted, and its stems brought home."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tasks.contracts import Progress
from tasks.errors import InputError, ProtocolError, StemwrightError, SubmitUnclear, TransientError
from tasks.separation.cloud.answers import JobFailed, JobUnknown, KeyTaken, had_no_effect
from tasks.separation.cloud.client import ServiceClient
from tasks.separation.cloud.downloads import Download, StemGone, StemUnsound
from tasks.separation.cloud.job_store import Entry, JobKey, JobStore
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.origins import AddressRefused
from tasks.separation.cloud.stem_check import DownloadedStem

log = logging.getLogger(__name__)
T = TypeVar("T")
_UPLOADED, _SEPARATED = 0.2, 0.8

MakeRequest = Callable[[tuple[str, ...], str], Awaitable[ProviderRequest]]


@dataclass(frozen=True)
class JobResult:
    """What one job gave: stems in files, and those that it found nothing of."""

    entry: Entry
    request: ProviderRequest
    job: ProviderJob
    stems: list[DownloadedStem]
    absent: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        return {stem.name for stem in self.stems} | set(self.absent)


class JobRunner:
    """Works for one track; its methods run on the engine's event loop.

    Args:
        client: Under the track's watch.
        make_request: Asks for some stems under an idempotency key, with its upload.
        key: Of all the stems that are wanted.
        scratch: Where stems go that aren't checked yet.
        on_progress: Told the share done.
    """

    def __init__(
        self,
        client: ServiceClient,
        jobs: JobStore,
        make_request: MakeRequest,
        key: JobKey,
        expected: Download,
        scratch: Path,
        on_progress: Progress,
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._make_request = make_request
        self._key = key
        self._expected = expected
        self._scratch = scratch
        self._on_progress = on_progress

    async def run(self, wanted: tuple[str, ...]) -> JobResult:
        """Have one job make some stems, and fetch what it made of them.

        A job that an earlier run left is gone on with. One that the service no longer knows, or
        that failed in an earlier run, is submitted anew, once.

        Raises:
            As `ServiceClient.submit`, `.wait` and `.fetch`; `submitted` of an error is False where
            there is certainly no job.
        """
        entry = await self._open(wanted)
        resumed = entry.job is not None
        try:
            entry = await self._submitted(entry)
        except KeyTaken as error:
            entry = await self._submitted(await self._anew(entry, error))
        try:
            job = await self._complete(entry)
        except (JobFailed, ProtocolError, InputError) as error:
            if not resumed and not isinstance(error, JobUnknown):
                raise
            entry = await self._submitted(await self._anew(entry, error))
            job = await self._complete(entry)
        self._on_progress(_SEPARATED)
        assert entry.request is not None
        stems = await self._fetch(job, entry.request)
        # What it sent counts for more than its word that there is nothing.
        here = {stem.name for stem in stems}
        absent = tuple(name for name in wanted if name in job.absent and name not in here)
        return JobResult(entry, entry.request, job, stems, absent)

    async def drop(self, entry: Entry) -> None:
        """Forget a job that is no use to any later run."""
        await asyncio.to_thread(self._jobs.drop, entry)

    async def _open(self, stems: tuple[str, ...]) -> Entry:
        key = self._key.model_copy(update={"stems": stems})
        return await asyncio.to_thread(self._jobs.open, key)

    async def _anew(self, entry: Entry, error: StemwrightError) -> Entry:
        """The same entry with a new key and no job."""
        log.warning("%s%s It is submitted anew.", self._client.whose, error.cause)
        await self.drop(entry)
        return await self._open(entry.key.stems)

    async def _submitted(self, entry: Entry) -> Entry:
        """The entry with its job: the one that it has, else a new one."""
        if entry.job is not None and entry.request is not None:
            words = "%sgoing on with the job %s of an earlier run"
            log.info(words, self._client.whose, entry.job.job_id)
            return entry
        try:
            request = await self._make_request(entry.key.stems, entry.idempotency_key)
            job = await self._client.submit(request)
        except StemwrightError as error:
            effect = isinstance(error, TransientError) and not had_no_effect(error)
            if not effect and not isinstance(error, SubmitUnclear):
                error.submitted = False
            raise
        return await asyncio.to_thread(self._jobs.submitted, entry, request, job)

    async def _complete(self, entry: Entry) -> ProviderJob:
        """The entry's job, once it is complete; the entry goes when there is no such job."""
        assert entry.job is not None
        assert entry.request is not None
        self._on_progress(_UPLOADED)
        keep = partial(self._jobs.submitted, entry, entry.request)
        try:
            return await self._client.wait(
                entry.job,
                entry.request,
                changed=lambda job: asyncio.to_thread(keep, job),
                while_it_moves=True,
            )
        except (JobFailed, JobUnknown, InputError):
            await self.drop(entry)
            raise

    async def _fetch(self, job: ProviderJob, request: ProviderRequest) -> list[DownloadedStem]:
        urls = {name: url for name, url in (job.stems or {}).items() if name in request.stems}
        for name in request.stems:
            if name not in urls and name not in job.absent:
                said = job.broken.get(name, "the service's complete job lacks it")
                log.warning("%sthe stem %s: %s", self._client.whose, name, said)
        found = await together(self._one(job, request, name, url) for name, url in urls.items())
        return [a.model_copy(update={"gain": job.gain}) for a in found if a is not None]

    async def _one(
        self, job: ProviderJob, request: ProviderRequest, name: str, url: str
    ) -> DownloadedStem | None:
        """One stem, its URL refreshed once; None where what comes isn't it."""
        path = self._scratch / name
        try:
            try:
                return await self._client.fetch(url, path, self._expected)
            except (StemGone, StemUnsound) as error:
                whose = self._client.whose
                log.info("%s%s Its URL is asked for again.", whose, error.cause)
                fresh = await self._client.wait(_asked_anew(job), request)
                url = (fresh.stems or {}).get(name, "")
                if not url:
                    raise
                return await self._client.fetch(url, path, self._expected)
        except AddressRefused:
            raise
        except (ProtocolError, JobFailed) as error:
            words = "%sthe stem %s doesn't count: %s"
            log.warning(words, self._client.whose, name, error.cause)
            return None


def _asked_anew(job: ProviderJob) -> ProviderJob:
    return job.model_copy(update={"status": "processing"})


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all; when one fails, the others are ended first."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
