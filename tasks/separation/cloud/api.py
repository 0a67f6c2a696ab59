"""The client of the API of `INTERFACES.md` section 5: submit, ask, wait, download."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr, ValidationError

from tasks.contracts import STEMS, SeparationJob
from tasks.errors import SettingsError
from tasks.net.retries import RetryPolicy
from tasks.separation.cloud.answers import names_no_stems
from tasks.separation.cloud.client import ServiceClient
from tasks.separation.cloud.downloads import Download
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.providers import make_provider
from tasks.separation.cloud.timeouts import Timeouts
from tasks.separation.cloud.transport import Transport


class SeparationApi:
    """One service, one pool of connections; belongs to the event loop that first uses it.

    The key is sent to `base_url`'s origin alone and appears in no log, error or repr.

    Args:
        base_url: As in `https://host/v1`.
        api_key: Sent as a bearer token.
        policy: When to ask again.
        timeouts: How long one request may take.
        log_retries: Log each wait at INFO rather than DEBUG.
        transport: The seam for tests.

    Raises:
        SettingsError: `base_url` is no http(s) address.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | str = "",
        *,
        policy: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        log_retries: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        provider = make_provider("stemwright", base_url=base_url, api_key=api_key)
        self.base_url = provider.base_url
        self._transport = Transport.to(
            provider, policy=policy, timeouts=timeouts, log_retries=log_retries, transport=transport
        )
        self._client = ServiceClient(self._transport)

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
    ) -> SeparationJob:
        """Upload a file, streamed from the disk, and have it separated.

        Repeated submits carry the same key, so that none makes a second job.

        Args:
            path: The file.
            stems: `"4"`, or names joined by commas.
            format: `wav` or `flac`.
            model: By default the service's own.
            idempotency_key: By default a fresh one for this call.

        Raises:
            SettingsError, KeyRejected, SourceRefused, NotAudio, SourceMissing, ProtocolError,
            RateLimited, ServiceError, NetworkError: The last three once `max_retries` are spent.
        """
        names = STEMS if stems == "4" else tuple(name.strip() for name in stems.split(","))
        asked: dict[str, Any] = {"path": path, "stems": names, "format": format}
        key = idempotency_key or str(uuid.uuid4())
        try:
            request = ProviderRequest(**asked, model=model or "", idempotency_key=key)
        except ValidationError as error:
            raise SettingsError(f"stems come as wav or flac, not as {format!r}.") from error
        return _plain(await self._client.submit(request))

    async def ask(self, job_id: str) -> SeparationJob:
        """A job as it stands; one request.

        Raises:
            KeyRejected, ProtocolError, RateLimited, ServiceError, NetworkError.
        """
        job = ProviderJob(job_id=job_id, status="queued")
        return _plain(await self._client.ask(job, _ANY))

    async def wait(self, job: SeparationJob, *, max_retries: int | None = None) -> SeparationJob:
        """Ask until the job is complete.

        A fault that can pass costs one of the asks, no more.

        Raises:
            DeadlineMissed: Asked `max_retries` times.
            ServiceError: The job failed; the service's own words are in it.
            ProtocolError: It is complete and names no stems.
            Others: As `ask`.
        """
        asked = ProviderJob.model_validate(job.model_dump())
        done = await self._client.wait(asked, _ANY, max_retries=max_retries)
        if not done.stems:
            raise names_no_stems(done.job_id)
        return _plain(done)

    async def download(self, url: str, path: Path, expected: Download) -> Path:
        """Fetch one stem to a file, decode it through and check it; only then does it count.

        Raises:
            ProtocolError: A scheme other than http(s), not the audio promised, too large.
            DiskFull, KeyRejected, RateLimited, ServiceError, NetworkError.
        """
        part = path.with_name(f"{path.name}.part")
        try:
            await self._client.fetch(url, part, expected, lossless=False)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> SeparationApi:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


_ANY = ProviderRequest(path=Path(), stems=STEMS, model="", idempotency_key="-")


def _plain(job: ProviderJob) -> SeparationJob:
    return SeparationJob.model_validate(job.model_dump())
