"""fal.ai's queue (fal.ai/docs) with fal-ai/demucs.

The file goes to fal's storage first, which has an address of its own. The queue answers with URLs
for everything further; they are used as they come. A request that failed is COMPLETED too, and its
fault comes with the result. There is no idempotency key and no list of requests, so a submit whose
answer was lost is never repeated. Whether the seconds of its price are the track's or the
machine's, it doesn't say; the track's are assumed, the dearer reading.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import RootModel

from tasks.errors import NotAudio, SettingsError, SourceRefused, StemwrightError
from tasks.separation.cloud.answers import Answer, JobFailed
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.providers.base import (
    DEMUCS_MODELS,
    DEMUCS_STEMS,
    CloudProvider,
    Reply,
    failed,
    unknown_status,
    upload_name,
    words_of,
)
from tasks.separation.cloud.transport import Transport

_RESULT = "the result of the job"
_TOO_MUCH = ("file_too_large", "audio_duration_too_long", "audio_duration_too_short")
_NO_AUDIO = ("unsupported_audio_format", "audio_load_error")


class _Initiated(Reply):
    upload_url: str
    file_url: str


class _Queued(Reply):
    request_id: str
    status_url: str
    response_url: str
    cancel_url: str


class _Status(Reply):
    status: str
    error: Any = None
    error_type: str | None = None


class _Result(RootModel[dict[str, Any]]):
    pass


class Fal(CloudProvider):
    """fal.ai.

    Options: `endpoint`, `storage_url`, `model` (instead of ours), `usd_per_second` of a track,
    `expires_seconds` (how long fal keeps the upload and the stems, whose URLs need no key).
    """

    name = "fal"
    address = "https://queue.fal.run"
    defaults: ClassVar[Mapping[str, str]] = {
        "endpoint": "fal-ai/demucs",
        "storage_url": "https://rest.fal.ai",
        "model": "",
        "usd_per_second": "0.0007",
        "expires_seconds": "86400",
    }
    stems: ClassVar[Mapping[str, str]] = {stem: stem for stem in DEMUCS_STEMS}
    formats = ("wav",)
    free_prefixes = ()

    def auth(self) -> dict[str, str]:
        return {"authorization": f"Key {self._key.get_secret_value()}"}

    def check(self, request: ProviderRequest) -> None:
        super().check(request)
        if not self.options["model"] and request.model not in DEMUCS_MODELS:
            raise SettingsError(
                f"fal runs {', '.join(DEMUCS_MODELS)}; {request.model} is asked for.",
                stage="separate",
                remedy="Set separation.model to one of them, or engine.service_options.model.",
            )
        storage = urlsplit(self.options["storage_url"])
        home = urlsplit(self.base_url)
        # The key goes there too: over TLS, unless the service itself is spoken to without.
        if storage.scheme not in ("https", home.scheme) or not storage.hostname:
            raise SettingsError(
                f"engine.service_options.storage_url is {self.options['storage_url']!r}, which is "
                "no https address."
            )

    async def submit(self, transport: Transport, request: ProviderRequest) -> ProviderJob:
        keep = {"expiration_duration_seconds": int(self.number("expires_seconds"))}
        lifecycle = {"x-fal-object-lifecycle-preference": json.dumps(keep)}
        answer = await transport.send(
            "POST",
            f"/{self.options['endpoint']}",
            asked_for=request.path.name,
            repeat="unsent",
            json={
                "audio_url": await self._upload(transport, request, lifecycle),
                "model": self.options["model"] or request.model,
                "stems": list(request.stems),
                "output_format": self.format_of(request),
            },
            headers=lifecycle,
        )
        queued = answer.parsed(_Queued)
        return ProviderJob(
            job_id=queued.request_id,
            status="queued",
            handle={
                "status": queued.status_url,
                "response": queued.response_url,
                "cancel": queued.cancel_url,
            },
        )

    async def ask(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest
    ) -> ProviderJob:
        answer = await transport.send(
            "GET", job.handle["status"], asked_for=f"the job {job.job_id}", repeat="never"
        )
        found = answer.parsed(_Status)
        if found.status == "IN_QUEUE":
            return job.model_copy(update={"status": "queued"})
        if found.status == "IN_PROGRESS":
            return job.model_copy(update={"status": "processing"})
        if found.status in ("FAILED", "CANCELED") or found.error:
            return failed(job, str(found.error or found.error_type or found.status))
        if found.status != "COMPLETED":
            raise unknown_status(self.name, found.status, answer.body)
        try:
            result = await transport.send(
                "GET",
                job.handle["response"],
                asked_for=f"{_RESULT} {job.job_id}",
                repeat="never",
            )
        except JobFailed as error:
            return failed(job, error.cause)
        if result.status == 202:
            return job.model_copy(update={"status": "processing"})
        return self._complete(job, request, result.parsed(_Result).root)

    async def forget(self, transport: Transport, job: ProviderJob) -> None:
        """Cancels what still runs; the rest expires."""
        if job.status in ("queued", "processing") and (url := job.handle.get("cancel")):
            await transport.send("PUT", url, asked_for=f"the job {job.job_id}", repeat="safe")

    def refusal(self, answer: Answer, asked_for: str) -> StemwrightError | None:
        said = words_of(answer)
        if answer.status == 422:
            for kind in _kinds(answer):
                if kind in _TOO_MUCH:
                    return SourceRefused(f"fal takes no such track ({said}).", stage="separate")
                if kind in _NO_AUDIO:
                    return NotAudio(f"fal takes it for no audio ({said}).", stage="separate")
        if asked_for.startswith(_RESULT) and answer.status >= 400 and _kinds(answer):
            return JobFailed(f"{said} ({answer.status})", stage="separate")
        return super().refusal(answer, asked_for)

    def price_usd(self, request: ProviderRequest) -> float:
        return request.duration_s * self.number("usd_per_second")

    async def _upload(
        self, transport: Transport, request: ProviderRequest, lifecycle: dict[str, str]
    ) -> str:
        kind = mimetypes.guess_type(request.path.name)[0] or "application/octet-stream"
        storage = self.options["storage_url"].rstrip("/")
        answer = await transport.send(
            "POST",
            f"{storage}/storage/upload/initiate?storage_type=gcs",
            asked_for="an upload",
            repeat="safe",
            json={"content_type": kind, "file_name": upload_name(request)},
            # fal's own second address: the transport adds the key at the first alone.
            headers={**self.auth(), **lifecycle},
        )
        where = answer.parsed(_Initiated)
        await transport.send(
            "PUT",
            where.upload_url,
            asked_for="the upload",
            repeat="safe",
            content=request.path,
            headers={"content-type": kind},
        )
        return where.file_url

    def _complete(
        self, job: ProviderJob, request: ProviderRequest, result: dict[str, Any]
    ) -> ProviderJob:
        urls = {}
        for stem in request.stems:
            file = result.get(stem)
            if isinstance(file, dict) and isinstance(file.get("url"), str):
                urls[stem] = file["url"]
        cost = self.price_usd(request)
        return job.model_copy(update={"status": "complete", "stems": urls, "cost_usd": cost})


def _kinds(answer: Answer) -> list[str]:
    """The machine-readable words of a fault: of the model (`detail[].type`), or of the runner."""
    kinds = [answer.headers["x-fal-error-type"]] if "x-fal-error-type" in answer.headers else []
    try:
        said: Any = json.loads(answer.body)
    except ValueError:
        return kinds
    if not isinstance(said, dict):
        return kinds
    if isinstance(said.get("error_type"), str):
        kinds.append(said["error_type"])
    detail = said.get("detail")
    for item in detail if isinstance(detail, list) else []:
        if isinstance(item, dict) and isinstance(item.get("type"), str):
            kinds.append(item["type"])
    return kinds
