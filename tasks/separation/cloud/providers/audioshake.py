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
from tasks.separation.cloud.providers.base import (
    DEMUCS_STEMS,
    Dialect,
    Reply,
    failed,
    unknown_status,
    url_part,
)
from tasks.separation.cloud.service import Order, ServiceJob, Wire

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


class AudioShake(Dialect):
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

    def check(self, order: Order) -> None:
        super().check(order)
        if {"other", "guitar"} <= set(order.stems) and self.stem_names["other"] == "other":
            raise SettingsError(
                "audioshake's `other` holds guitar and piano too, so that the stems would not "
                "sum to the track.",
                stage="separate",
                remedy="Use a model of four stems, or set engine.service_options "
                "(stem.other: other-x-guitar).",
            )
        if order.duration_s > _MAX_DURATION_S:
            raise SourceRefused(
                "audioshake takes no track over 3 h.",
                stage="separate",
                remedy="Separate this track with another engine.",
            )

    async def submit(self, wire: Wire, order: Order) -> ServiceJob:
        # An earlier run may have been killed, or not been answered, after it had submitted.
        if earlier := await self._find(wire, order, pages=1):
            return ServiceJob(job_id=earlier.id, status="queued")
        self.fits(order)
        upload = await wire.send(
            "POST",
            "/assets",
            asked_for="the upload",
            repeat="safe",
            files={"file": order.path},
        )
        asset = upload.parsed(_Asset).id
        variant = {"variant": self.options["variant"]} if self.options["variant"] else {}
        wanted = {
            "assetId": asset,
            "metadata": order.idempotency_key,
            "targets": [
                {"model": self.stem_names[stem], "formats": [self.format_of(order)], **variant}
                for stem in order.stems
            ],
        }
        try:
            answer = await wire.send(
                "POST", "/tasks", asked_for=order.path.name, repeat="unsent", json=wanted
            )
            task = answer.parsed(_Task)
        except SubmitUnclear:
            found = await self._find(wire, order, pages=_PAGES)
            if found is None:
                raise
            task = found
        return ServiceJob(job_id=task.id, status="queued")

    async def ask(self, wire: Wire, job: ServiceJob, order: Order) -> ServiceJob:
        answer = await wire.send(
            "GET",
            f"/tasks/{url_part(job.job_id)}",
            asked_for=f"the job {job.job_id}",
            repeat="never",
        )
        return self._read(job, order, answer.parsed(_Task), answer.body)

    async def forget(self, wire: Wire, job: ServiceJob) -> None:
        """Nothing: it offers no way to cancel a task; assets go after 72 hours."""

    def price_usd(self, order: Order) -> float:
        """Whole minutes, rounded up, times stems."""
        minutes = math.ceil(order.duration_s / 60)
        rate = self.number("credits_per_minute") * self.number("usd_per_credit")
        return minutes * len(order.stems) * rate

    async def _find(self, wire: Wire, order: Order, pages: int) -> _Task | None:
        for page in range(pages):
            answer = await wire.send(
                "GET",
                f"/tasks?skip={page * _PAGE}&take={_PAGE}",
                asked_for="the list of tasks",
                repeat="safe",
            )
            tasks = answer.parsed(_Tasks).root
            for task in tasks:
                if task.metadata == order.idempotency_key:
                    return task
            if len(tasks) < _PAGE:
                break
        return None

    def _read(self, job: ServiceJob, order: Order, task: _Task, body: bytes) -> ServiceJob:
        ours = {self.stem_names[stem]: stem for stem in order.stems}
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
            outputs = [o for o in target.output or [] if o.format == self.format_of(order)]
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
