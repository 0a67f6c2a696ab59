"""AudioShake (developer.audioshake.ai, the Tasks API).

A task has a target a stem, each with its own status. Links last an hour and are renewed by asking
for the task again. There is no idempotency key, but a task carries our metadata and tasks can be
listed, so we look for it before a submit, and after one whose answer was lost. What a stem that
isn't in the music looks like, which codes its errors have, in which order it lists tasks and what
a credit costs, it doesn't say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

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

_MAX_DURATION_S = 3 * 3600.0
_PAGE = 50
_PAGES = 4


class _Asset(Reply):
    id: str


class _Output(Reply):
    name: str = ""
    format: str
    link: str


class _Error(Reply):
    code: int | str | None = None
    message: str | None = None


class _Target(Reply):
    model: str
    status: str
    output: list[_Output] | None = None
    error: _Error | None = None
    cost: float | None = None


class _Task(Reply):
    id: str
    targets: list[_Target]
    cost: float | None = None
    metadata: str | None = None


class _Tasks(RootModel[list[_Task]]):
    pass


class AudioShake(CloudProvider):
    """AudioShake.

    Options: `usd_per_credit` (0 where nobody tells: its price is the account's own),
    `credits_per_minute` of one stem, `variant` (as `high_quality`, sent with each target).
    """

    name = "audioshake"
    address = "https://api.audioshake.ai"
    defaults: ClassVar[Mapping[str, str]] = {
        "usd_per_credit": "0",
        "credits_per_minute": "1",
        "variant": "",
    }
    stems: ClassVar[Mapping[str, str]] = {stem: stem for stem in DEMUCS_STEMS}

    most_bytes = 2 * 1024**3

    def auth(self) -> dict[str, str]:
        return {"x-api-key": self._key.get_secret_value()}

    def check(self, request: ProviderRequest) -> None:
        super().check(request)
        if {"other", "guitar"} <= set(request.stems) and self.stem_names["other"] == "other":
            raise SettingsError(
                "audioshake's `other` holds guitar and piano too, so that the stems would not "
                "sum to the track.",
                stage="separate",
                remedy="Use a model of four stems, or set engine.service_options "
                "(stem.other: other-x-guitar).",
            )
        if request.duration_s > _MAX_DURATION_S:
            raise SourceRefused(
                "audioshake takes no track over 3 h.",
                stage="separate",
                remedy="Separate this track with another engine.",
            )

    async def submit(self, transport: Transport, request: ProviderRequest) -> ProviderJob:
        # An earlier run may have been killed, or not been answered, after it had submitted.
        if earlier := await self._find(transport, request, pages=1):
            return ProviderJob(job_id=earlier.id, status="queued")
        self.fits(request)
        upload = await transport.send(
            "POST",
            "/assets",
            asked_for="the upload",
            repeat="safe",
            files={"file": request.path},
        )
        asset = upload.parsed(_Asset).id
        variant = {"variant": self.options["variant"]} if self.options["variant"] else {}
        wanted = {
            "assetId": asset,
            "metadata": request.idempotency_key,
            "targets": [
                {"model": self.stem_names[stem], "formats": [self.format_of(request)], **variant}
                for stem in request.stems
            ],
        }
        try:
            answer = await transport.send(
                "POST", "/tasks", asked_for=request.path.name, repeat="unsent", json=wanted
            )
            task = answer.parsed(_Task)
        except SubmitUnclear:
            found = await self._find(transport, request, pages=_PAGES)
            if found is None:
                raise
            task = found
        return ProviderJob(job_id=task.id, status="queued")

    async def ask(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest
    ) -> ProviderJob:
        answer = await transport.send(
            "GET",
            f"/tasks/{url_part(job.job_id)}",
            asked_for=f"the job {job.job_id}",
            repeat="never",
        )
        return self._read(job, request, answer.parsed(_Task), answer.body)

    async def forget(self, transport: Transport, job: ProviderJob) -> None:
        """Nothing: it offers no way to cancel a task; assets go after 72 hours."""

    def price_usd(self, request: ProviderRequest) -> float:
        """Whole minutes, rounded up, times stems."""
        minutes = math.ceil(request.duration_s / 60)
        rate = self.number("credits_per_minute") * self.number("usd_per_credit")
        return minutes * len(request.stems) * rate

    async def _find(
        self, transport: Transport, request: ProviderRequest, pages: int
    ) -> _Task | None:
        for page in range(pages):
            answer = await transport.send(
                "GET",
                f"/tasks?skip={page * _PAGE}&take={_PAGE}",
                asked_for="the list of tasks",
                repeat="safe",
            )
            tasks = answer.parsed(_Tasks).root
            for task in tasks:
                if task.metadata == request.idempotency_key:
                    return task
            if len(tasks) < _PAGE:
                break
        return None

    def _read(
        self, job: ProviderJob, request: ProviderRequest, task: _Task, body: bytes
    ) -> ProviderJob:
        ours = {self.stem_names[stem]: stem for stem in request.stems}
        urls: dict[str, str] = {}
        faults: dict[str, str] = {}
        for target in task.targets:
            stem = ours.get(target.model)
            if target.status not in ("processing", "completed", "error"):
                raise unknown_status(self.name, target.status, body)
            if stem is None:
                continue
            if target.status == "error":
                faults[stem] = _words(target.error)
            outputs = [o for o in target.output or [] if o.format == self.format_of(request)]
            if outputs:
                own = [output for output in outputs if output.name == target.model]
                urls[stem] = (own or outputs)[0].link
        if any(target.status == "processing" for target in task.targets):
            return job.model_copy(update={"status": "processing", "broken": faults})
        if faults and not urls:
            return failed(job, "; ".join(f"{stem}: {said}" for stem, said in faults.items()))
        return job.model_copy(
            update={
                "status": "complete",
                "stems": urls,
                "broken": faults,
                "cost_usd": self._cost(task),
            }
        )

    def _cost(self, task: _Task) -> float | None:
        price = self.number("usd_per_credit")
        credits_ = task.cost
        if credits_ is None:
            credits_ = sum(target.cost or 0.0 for target in task.targets)
        return credits_ * price if price else None


def _words(error: _Error | None) -> str:
    if error is None:
        return "it failed without a word"
    return f"{error.message or 'no words'} ({error.code})"
