"""From a request's body to a job in the queue."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
import uuid
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deployments.endpoint.failures import in_words
from deployments.endpoint.fields import read_fields
from deployments.endpoint.jobs import Job
from deployments.endpoint.refusals import Refused, unwritable
from deployments.endpoint.service import Service
from deployments.endpoint.uploads import (
    FORM_OVERHEAD_BYTES,
    Upload,
    boundary_of,
    receive_upload,
    too_large,
)
from tasks.errors import InputError, SourceRefused

log = logging.getLogger("stemwright.endpoint")

_LONGEST_KEY = 255
_SPARE_BYTES = 256 * 1024**2


class Submits:
    """Takes submits in. Belongs to one event loop.

    A place in the queue is taken before the body is read, so that nobody uploads for nothing.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._arriving = 0
        # One submit at a time under a key: a repeat waits for the first, whichever way that ends.
        self._turns: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def take(
        self,
        body: AsyncIterator[bytes],
        *,
        owner: str,
        content_type: str | None,
        content_length: int | None,
        idempotency_key: str | None,
    ) -> Job:
        """Read a submit and queue it; a repeated one answers the first job.

        Raises:
            Refused: 400, 408, 413, 415, 422, 429, 503 or 507.
        """
        self._check_open()
        boundary = boundary_of(content_type)
        most = self._service.settings.max_upload_bytes
        if content_length is not None and content_length > most + FORM_OVERHEAD_BYTES:
            raise too_large(most)
        if idempotency_key is None:
            return await self._first(body, boundary, owner, content_length, None)
        _check_key(idempotency_key)
        turn = self._turns.setdefault((owner, idempotency_key), asyncio.Lock())
        async with turn:
            job = await asyncio.to_thread(self._service.store.find, owner, idempotency_key)
            if job is None:
                return await self._first(body, boundary, owner, content_length, idempotency_key)
            return await self._again(body, boundary, job)

    async def _first(
        self,
        body: AsyncIterator[bytes],
        boundary: bytes,
        owner: str,
        content_length: int | None,
        idempotency_key: str | None,
    ) -> Job:
        async with self._place():
            self._check_room(content_length or 0)
            path = self._service.folder.new_upload()
            upload = await self._read(body, boundary, path)
            try:
                job = await asyncio.to_thread(self._accept, upload, path, owner, idempotency_key)
            finally:
                path.unlink(missing_ok=True)
        self._service.worker.wake()
        about = {"job_id": job.job_id, "model": job.model, "bytes": job.upload_bytes}
        log.info("accepted", extra=about)
        return job

    async def _again(self, body: AsyncIterator[bytes], boundary: bytes, job: Job) -> Job:
        upload = await self._read(body, boundary, None)
        if read_fields(upload.fields).fingerprint(upload.sha256) != job.fingerprint:
            raise Refused(
                422,
                "This Idempotency-Key was used for other audio or other fields. Use a new key for "
                "another submit.",
            )
        log.info("repeated", extra={"job_id": job.job_id})
        return job

    async def _read(self, body: AsyncIterator[bytes], boundary: bytes, path: Path | None) -> Upload:
        settings = self._service.settings
        return await receive_upload(
            body,
            boundary,
            path,
            max_bytes=settings.max_upload_bytes,
            stall_s=settings.stall_timeout_s,
            count=self._service.metrics.upload_bytes.inc,
        )

    def _accept(self, upload: Upload, path: Path, owner: str, idempotency_key: str | None) -> Job:
        service = self._service
        asked = read_fields(upload.fields)
        spec = service.engines.spec(asked.model)
        settings = asked.settings(spec.name, spec.sources)
        duration_s = _probed(path, service.settings.max_duration_s)
        job = Job(
            job_id=uuid.uuid4().hex,
            owner=owner,
            idempotency_key=idempotency_key,
            fingerprint=asked.fingerprint(upload.sha256),
            filename=upload.filename,
            upload_bytes=upload.bytes,
            model=spec.name,
            stems=settings.stems,
            format=settings.format,
            bit_depth=settings.bit_depth,
            duration_s=duration_s,
            created_at=time.time(),
        )
        self._check_open()
        try:
            service.folder.keep_upload(path, job.job_id)
            service.store.add(job)
        except (OSError, sqlite3.Error) as error:
            service.folder.drop(job.job_id)
            raise unwritable(error) from error
        return job

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold a place in the queue while an upload arrives.

        Raises:
            Refused: 429, there is none.
        """
        service = self._service
        self._arriving += 1
        try:
            # In this order: one that arrives meanwhile may be counted twice, but never not at all.
            arriving = self._arriving
            if await asyncio.to_thread(service.store.waiting) + arriving > service.settings.queue:
                raise Refused(
                    429, "The queue is full. Try again later.", Retry_After=service.place_wait()
                )
            yield
        finally:
            self._arriving -= 1

    def _check_open(self) -> None:
        if self._service.stopping.is_set():
            raise Refused(503, "The service is stopping. Try again in a moment.", Retry_After="15")

    def _check_room(self, needed: int) -> None:
        if self._service.folder.free_bytes() < needed + _SPARE_BYTES:
            raise Refused(507, "The service's disk is full. Try again later.", Retry_After="300")


def _check_key(key: str) -> None:
    if not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
        raise Refused(422, f"Idempotency-Key takes 1 to {_LONGEST_KEY} printable characters.")


def _probed(path: Path, longest_s: float) -> float | None:
    """The length that the audio's headers declare.

    Raises:
        Refused: 415, it isn't audio; 413, it is too long.
    """
    from tasks import normalize

    try:
        normalize.probe(path)
        declared = normalize.duration_s(path)
    except SourceRefused as error:
        raise Refused(413, in_words(error)) from error
    except InputError as error:
        raise Refused(415, in_words(error)) from error
    if declared is not None and declared > longest_s:
        raise Refused(
            413, f"It is {declared:.0f} s long; the limit is {longest_s:.0f} s. Split the track."
        )
    return declared
