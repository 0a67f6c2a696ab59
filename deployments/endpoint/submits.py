"""From a request's body to a job in the queue."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Request

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

log = logging.getLogger(__name__)

Read = Callable[[Path | None], Awaitable[Upload]]

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

    async def take(self, request: Request, owner: str, idempotency_key: str | None) -> Job:
        """Read a submit and queue it; a repeated one answers the first job.

        Raises:
            Refused: 400, 408, 413, 415, 422, 429, 503 or 507.
            ClientDisconnect: The sender has gone.
        """
        self._check_open()
        boundary = boundary_of(request.headers.get("content-type"))
        most = self._service.settings.max_upload_bytes
        length = _length(request)
        if length > most + FORM_OVERHEAD_BYTES:
            raise too_large(most)

        async def read(path: Path | None) -> Upload:
            return await receive_upload(
                request.stream(),
                boundary,
                path,
                max_bytes=most,
                stall_s=self._service.settings.stall_timeout_s,
                count=self._service.metrics.upload_bytes.inc,
            )

        if idempotency_key is None:
            return await self._first(read, owner, length, None)
        _check_key(idempotency_key)
        turn = self._turns.setdefault((owner, idempotency_key), asyncio.Lock())
        async with turn:
            job = await asyncio.to_thread(self._service.store.find, owner, idempotency_key)
            if job is None:
                return await self._first(read, owner, length, idempotency_key)
            return _again(await read(None), job)

    async def _first(self, read: Read, owner: str, length: int, idempotency_key: str | None) -> Job:
        async with self._place():
            self._check_room(length)
            path = self._service.folder.new_upload()
            upload = await read(path)
            try:
                job = await asyncio.to_thread(self._accept, upload, path, owner, idempotency_key)
            finally:
                path.unlink(missing_ok=True)
        self._service.worker.wake()
        about = {"job_id": job.job_id, "model": job.model, "bytes": job.upload_bytes}
        log.info("accepted", extra=about)
        return job

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


def _again(upload: Upload, job: Job) -> Job:
    """Return the first job, if the repeat asks for the same.

    Raises:
        Refused: 422, it doesn't.
    """
    if read_fields(upload.fields).fingerprint(upload.sha256) != job.fingerprint:
        raise Refused(
            422,
            "This Idempotency-Key was used for other audio or other fields. Use a new key for "
            "another submit.",
        )
    log.info("repeated", extra={"job_id": job.job_id})
    return job


def _length(request: Request) -> int:
    """The length that the request declares; 0 where it declares none."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isdecimal() else 0


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
