"""The client of the separation API: submit, ask, wait, download. Async throughout."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import SecretStr

from tasks.contracts import SeparationJob
from tasks.errors import (
    ContractBroken,
    DeadlineMissed,
    NetworkFault,
    PassingError,
    SettingsError,
    SourceMissing,
    from_os_error,
)
from tasks.separation.cloud.answers import (
    JobFailed,
    network_fault,
    read_answer,
    read_job,
    refusal,
    wait_asked,
)
from tasks.separation.cloud.downloads import Download, check_audio, fetch_to, origin
from tasks.separation.cloud.retries import RetryPolicy
from tasks.separation.deadline import Watch

logger = logging.getLogger(__name__)
T = TypeVar("T")

# The article's, with a longer read: a submit is answered once the upload is stored.
TIMEOUT = httpx.Timeout(connect=10.0, read=30.0, write=30.0, pool=10.0)
_ANSWER_TIME_S = 90.0
_UPLOAD_BYTES_PER_S = 50_000
_DOWNLOAD_TRIES = 4
_PAUSE_SLICE_S = 0.5


class SeparationApi:
    """One service, one pool of connections; belongs to the event loop that first uses it.

    The key is sent to `base_url`'s origin alone and appears in no log, error or repr.

    Args:
        base_url: As in `https://host/v1`.
        api_key: Sent as a bearer token.
        policy: When to ask again.
        log_retries: Log each wait at INFO rather than DEBUG.
        transport: The seam for tests and proxies; httpx's own by default.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | str = "",
        *,
        policy: RetryPolicy | None = None,
        log_retries: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        parts = httpx.URL(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.host:
            raise SettingsError(
                f"engine.base_url is {self.base_url!r}, which is no http(s) address."
            )
        self.policy = policy or RetryPolicy()
        self._key = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key)
        self._level = logging.INFO if log_retries else logging.DEBUG
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT, transport=transport, headers={"user-agent": "stemwright"}
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    async def submit(
        self,
        path: Path,
        *,
        stems: str = "4",
        format: str = "wav",
        model: str | None = None,
        idempotency_key: str | None = None,
        watch: Watch | None = None,
    ) -> SeparationJob:
        """Upload a file, streamed from the disk, and have it separated.

        Repeated submits carry the same key, so that none makes a second job.

        Args:
            path: The file.
            stems: `"4"`, or names joined by commas.
            format: `wav` or `flac`.
            model: By default the service's own.
            idempotency_key: By default a fresh one for this call.
            watch: A deadline and a stop flag, looked at between attempts.

        Raises:
            KeyRejected, SourceRefused, NotAudio, SourceMissing, ContractBroken, DeadlineMissed,
            RateLimited, ServiceFault, NetworkFault: The last three once `max_retries` are spent.
        """
        headers = {**self._auth(), "Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        fields = {"stems": stems, "format": format, **({"model": model} if model else {})}
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"

        async def attempt() -> SeparationJob:
            try:
                with path.open("rb") as file:
                    size = path.stat().st_size
                    return await self._job(
                        "POST",
                        f"{self.base_url}/separate",
                        headers,
                        _ANSWER_TIME_S + size / _UPLOAD_BYTES_PER_S,
                        asked_for="/separate",
                        files={"audio": (path.name, file, kind)},
                        data=fields,
                    )
            except FileNotFoundError as error:
                raise SourceMissing(f"there is no file at {path}.", stage="separate") from error
            except OSError as error:
                raise from_os_error(error, stage="separate") from error

        return await self._persist(attempt, f"submitting {path.name}", self.policy, watch)

    async def ask(self, job_id: str) -> SeparationJob:
        """A job as it stands; one request.

        Raises:
            KeyRejected, ContractBroken, RateLimited, ServiceFault, NetworkFault.
        """
        if not job_id.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ContractBroken(
                f"the service gave a job id that fits no URL: {job_id[:80]!r}.", stage="separate"
            )
        return await self._job(
            "GET",
            f"{self.base_url}/jobs/{job_id}",
            self._auth(),
            _ANSWER_TIME_S,
            asked_for=f"the job {job_id}",
        )

    async def wait(
        self, job: SeparationJob, *, max_retries: int | None = None, watch: Watch | None = None
    ) -> SeparationJob:
        """Ask until the job is complete.

        A fault that can pass costs one of the asks, no more.

        Raises:
            DeadlineMissed: Asked `max_retries` times, or the watch's time ran out.
            ServiceFault: The job failed; the service's own words are in it.
            Others: As `ask`.
        """
        asks = max_retries or self.policy.max_retries
        fault: PassingError | None = None
        if is_complete(job):
            return job
        for asked in range(asks):
            if asked:
                pause = self.policy.wait_s(asked - 1, wait_asked(fault) if fault else None)
                said = fault.cause if fault else job.status
                words = "job %s: %s; asked %d of %d times, again in %.1f s"
                logger.log(self._level, words, job.job_id, said, asked, asks, pause)
                await self._pause(pause, watch)
            elif watch:
                watch.check(0.0)
            try:
                job, fault = await self.ask(job.job_id), None
            except PassingError as error:
                fault = error
                continue
            if is_complete(job):
                return job
        if fault:
            raise fault
        raise DeadlineMissed(
            f"the job {job.job_id} was not complete after it was asked for {asks} times.",
            stage="separate",
            remedy="Raise engine.max_retries or engine.max_backoff_seconds.",
        )

    async def download(
        self, url: str, path: Path, expected: Download, *, watch: Watch | None = None
    ) -> Path:
        """Fetch one stem to a file, decode it through and check it; only then does it count.

        Raises:
            ContractBroken: A scheme other than http(s), not the audio promised, too large.
            DiskFull, KeyRejected, DeadlineMissed, RateLimited, ServiceFault, NetworkFault.
        """
        part = path.with_name(f"{path.name}.part")

        async def attempt() -> Path:
            headers = self._auth() if origin(url) == origin(self.base_url) else {}
            await fetch_to(self._client, url, part, headers, origin(self.base_url), expected)
            await asyncio.to_thread(check_audio, part, path.name, expected)
            part.replace(path)
            return path

        policy = self.policy.model_copy(
            update={"max_retries": min(_DOWNLOAD_TRIES, self.policy.max_retries)}
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return await self._persist(attempt, f"downloading {path.name}", policy, watch)
        except OSError as error:
            raise from_os_error(error, stage="separate") from error
        finally:
            part.unlink(missing_ok=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> SeparationApi:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _auth(self) -> dict[str, str]:
        key = self._key.get_secret_value()
        return {"authorization": f"Bearer {key}"} if key else {}

    async def _job(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        time_s: float,
        *,
        asked_for: str,
        files: dict[str, object] | None = None,
        data: dict[str, str] | None = None,
    ) -> SeparationJob:
        try:
            async with (
                asyncio.timeout(time_s),
                self._client.stream(
                    method,
                    url,
                    headers=headers,
                    files=files,  # type: ignore[arg-type]
                    data=data,
                ) as response,
            ):
                body = await read_answer(response)
        except TimeoutError as error:
            raise NetworkFault(
                f"no whole answer within {time_s:.0f} s.", stage="separate"
            ) from error
        except httpx.HTTPError as error:
            # Not chained: the exception holds the request, and the request holds the key.
            raise network_fault(error, url) from None
        except httpx.InvalidURL as error:
            raise ContractBroken(f"{url[:120]!r} is no URL: {error}.", stage="separate") from error
        if not response.is_success:
            raise refusal(response, body, asked_for=asked_for)
        return read_job(response, body)

    async def _persist(
        self,
        attempt: Callable[[], Awaitable[T]],
        doing: str,
        policy: RetryPolicy,
        watch: Watch | None,
    ) -> T:
        for tried in range(policy.max_retries):
            if watch:
                watch.check(0.0)
            try:
                return await attempt()
            except PassingError as error:
                if tried + 1 == policy.max_retries:
                    raise
                pause = policy.wait_s(tried, wait_asked(error))
                logger.log(
                    self._level,
                    "%s: %s Try %d of %d in %.1f s",
                    doing,
                    error.cause,
                    tried + 2,
                    policy.max_retries,
                    pause,
                )
            await self._pause(pause, watch)
        raise AssertionError("a retry policy has at least one try")

    async def _pause(self, pause_s: float, watch: Watch | None) -> None:
        # In slices, so that a stop or a deadline is noticed during a long wait.
        left = pause_s
        if watch and watch.left_s is not None and pause_s > watch.left_s:
            left = watch.left_s + 0.001
        while left > 0:
            step = min(left, _PAUSE_SLICE_S) if watch else left
            await asyncio.sleep(step)
            left -= step
            if watch:
                watch.check(0.0)


def is_complete(job: SeparationJob) -> bool:
    """Whether a job is complete.

    Raises:
        JobFailed: The service says that it failed.
        ContractBroken: It is complete and names no stems.
    """
    if job.status == "failed":
        reason = (job.error_message or "no reason given").strip()[:300]
        raise JobFailed(f"the service says that the separation failed: {reason}", stage="separate")
    if job.status == "complete" and not job.stems:
        raise ContractBroken(
            f"the service calls the job {job.job_id} complete and names no stems.",
            stage="separate",
        )
    return job.status == "complete"
