"""Music.AI (music.ai/docs/api), the platform behind Moises.

A job runs a workflow of the account's own, which decides what it makes, under which names and in
which format: `workflow` and `stem.OURS=THEIRS` tell us. There is no idempotency key, but a job
carries a name and jobs can be listed, so we look for it before a submit, and after one whose
answer was lost. It says nothing of prices, of how long its links last, and of a stem that isn't
in the music.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import RootModel

from tasks.errors import SettingsError, SourceRefused, SubmitUnclear
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.providers.base import (
    DEMUCS_STEMS,
    CloudProvider,
    Reply,
    failed,
    unknown_status,
    url_part,
)
from tasks.separation.cloud.transport import Transport

_PAGE = 50
_PAGES = 4
_STATUSES: dict[str, Literal["queued", "processing", "complete", "failed"]] = {
    "QUEUED": "queued",
    "STARTED": "processing",
    "SUCCEEDED": "complete",
    "FAILED": "failed",
}


class _Upload(Reply):
    uploadUrl: str  # noqa: N815
    downloadUrl: str  # noqa: N815


class _Created(Reply):
    id: str


class _Error(Reply):
    code: str | None = None
    title: str | None = None
    message: str | None = None


class _Job(Reply):
    id: str
    name: str | None = None
    status: str
    result: dict[str, Any] | None = None
    error: _Error | None = None


class _Jobs(RootModel[list[_Job]]):
    pass


class MusicAi(CloudProvider):
    """Music.AI.

    Options: `workflow` (its slug, needed; it should make WAV or FLAC), `stem.vocals=…` for outputs
    that aren't named as our stems, `usd_per_minute` of a track (the account's own price).
    """

    name = "music_ai"
    address = "https://api.music.ai/v1"
    defaults: ClassVar[Mapping[str, str]] = {"workflow": "", "usd_per_minute": "0"}
    stems: ClassVar[Mapping[str, str]] = {stem: stem for stem in DEMUCS_STEMS}

    def auth(self) -> dict[str, str]:
        return {"authorization": self._key.get_secret_value()}

    def check(self, request: ProviderRequest) -> None:
        super().check(request)
        if not self.options["workflow"]:
            raise SettingsError(
                "music_ai runs a workflow of your account, and none is named.",
                stage="separate",
                remedy="Set engine.service_options.workflow to its slug.",
            )

    async def submit(self, transport: Transport, request: ProviderRequest) -> ProviderJob:
        # An earlier run may have been killed, or not been answered, after it had submitted.
        if earlier := await self._find(transport, request, pages=1):
            return ProviderJob(job_id=earlier.id, status="queued")
        where = await transport.send("GET", "/upload", asked_for="an upload", repeat="safe")
        upload = where.parsed(_Upload)
        await transport.send(
            "PUT", upload.uploadUrl, asked_for="the upload", repeat="safe", content=request.path
        )
        wanted = {
            "name": request.idempotency_key,
            "workflow": self.options["workflow"],
            "params": {"inputUrl": upload.downloadUrl},
        }
        try:
            answer = await transport.send(
                "POST", "/job", asked_for=request.path.name, repeat="unsent", json=wanted
            )
            job_id = answer.parsed(_Created).id
        except SubmitUnclear:
            found = await self._find(transport, request, pages=_PAGES)
            if found is None:
                raise
            job_id = found.id
        return ProviderJob(job_id=job_id, status="queued")

    async def ask(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest
    ) -> ProviderJob:
        answer = await transport.send(
            "GET", f"/job/{url_part(job.job_id)}", asked_for=f"the job {job.job_id}", repeat="never"
        )
        found = answer.parsed(_Job)
        status = _STATUSES.get(found.status)
        if status is None:
            raise unknown_status(self.name, found.status, answer.body)
        if status == "failed":
            return self._failed(job, found.error or _Error())
        if status == "complete":
            return self._complete(job, request, found.result or {})
        return job.model_copy(update={"status": status})

    async def forget(self, transport: Transport, job: ProviderJob) -> None:
        await transport.send(
            "DELETE",
            f"/job/{url_part(job.job_id)}",
            asked_for=f"the job {job.job_id}",
            repeat="safe",
        )

    def price_usd(self, request: ProviderRequest) -> float:
        return request.duration_s / 60 * self.number("usd_per_minute")

    async def _find(
        self, transport: Transport, request: ProviderRequest, pages: int
    ) -> _Job | None:
        workflow = quote(self.options["workflow"], safe="")
        for page in range(pages):
            answer = await transport.send(
                "GET",
                f"/job?workflow={workflow}&page={page}&size={_PAGE}",
                asked_for="the list of jobs",
                repeat="safe",
            )
            jobs = answer.parsed(_Jobs).root
            for job in jobs:
                if job.name == request.idempotency_key:
                    return job
            if len(jobs) < _PAGE:
                break
        return None

    def _complete(
        self, job: ProviderJob, request: ProviderRequest, result: dict[str, Any]
    ) -> ProviderJob:
        urls: dict[str, str] = {}
        for stem in request.stems:
            theirs = self.stem_names[stem]
            if theirs not in result:
                # Another job wouldn't have it either. This one can be gone on with once it's named.
                raise SettingsError(
                    f"the workflow has no output {theirs!r}, it has {', '.join(result) or 'none'}.",
                    stage="separate",
                    remedy=f"Name its outputs in engine.service_options (stem.{stem}: …).",
                )
            if isinstance(url := result[theirs], str):
                urls[stem] = url
        price = self.price_usd(request) or None
        return job.model_copy(update={"status": "complete", "stems": urls, "cost_usd": price})

    def _failed(self, job: ProviderJob, error: _Error) -> ProviderJob:
        words = error.message or error.title or error.code
        if error.code == "BAD_INPUT":
            raise SourceRefused(
                f"Music.AI could do nothing with the track: {words}.",
                stage="separate",
                remedy="Check the workflow's parameters, or separate it with another engine.",
            )
        return failed(job, f"{words} ({error.code})" if error.code else words)
