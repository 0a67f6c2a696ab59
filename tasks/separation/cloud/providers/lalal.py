"""LALAL.AI, API v1 (its OpenAPI document, version 1.1.0).

It separates named stems and hands back what is left as a "back" track, which is our `other`. Each
stem is charged the track's length. A failed task comes as HTTP 200, and so does "unable to detect
vocals": that stem is absent, and the rest is ordered again without it. How such a task is charged
and how deep its FLAC and WAV are, it doesn't say.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from pydantic import SecretStr

from tasks.errors import BudgetSpent, SourceRefused, StemwrightError, SubmitUnclear
from tasks.separation.cloud.answers import Answer, broken
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.providers.base import (
    CloudProvider,
    Reply,
    code_of,
    failed,
    model_stems,
    unknown_status,
    upload_name,
    words_of,
)
from tasks.separation.cloud.shared_checks import SharedChecks
from tasks.separation.cloud.transport import Transport

_MOST_TASKS = 200
_REST = "other"
_NOT_DETECTED = "unable to detect"
# Its sentence for vocals is "Unable to detect voice/vocals in the uploaded files".
_HEARD_AS = {"vocals": ("vocal", "voice"), "drums": ("drum",)}


class _Upload(Reply):
    id: str


class _Task(Reply):
    task_id: str


class _Track(Reply):
    type: Literal["stem", "back"]
    label: str
    url: str


class _Tracks(Reply):
    duration: float
    tracks: list[_Track]


class _Error(Reply):
    detail: str
    code: str | None = None


class _State(Reply):
    status: str
    progress: float = 0.0
    result: _Tracks | None = None
    error: _Error | str | None = None


class _Check(Reply):
    result: dict[str, Any]


class Lalal(CloudProvider):
    """LALAL.AI.

    Options: `splitter` and `extraction_level` as its API has them; `checks_per_minute` that it
    allows an account, one check asking for up to 200 jobs; `salt` of the idempotency keys;
    `usd_per_minute` of one stem (prices differ by pack).
    """

    name = "lalal"
    address = "https://www.lalal.ai/api/v1"
    defaults: ClassVar[Mapping[str, str]] = {
        "splitter": "auto",
        "extraction_level": "deep_extraction",
        "checks_per_minute": "30",
        "salt": "",
        "usd_per_minute": "0.06",
    }
    stems: ClassVar[Mapping[str, str]] = {
        "drums": "drum",
        "bass": "bass",
        _REST: "",
        "vocals": "vocals",
        "piano": "piano",
    }

    def __init__(
        self, *, base_url: str = "", api_key: SecretStr, options: Mapping[str, str] = {}
    ) -> None:
        super().__init__(base_url=base_url, api_key=api_key, options=options)
        self._checks: WeakKeyDictionary[asyncio.AbstractEventLoop, SharedChecks[Answer]] = (
            WeakKeyDictionary()
        )

    def auth(self) -> dict[str, str]:
        return {"x-license-key": self._key.get_secret_value()}

    def check(self, request: ProviderRequest) -> None:
        super().check(request)
        # What is left over is the model's `other` only if all its other stems can be taken out.
        super().check(request.model_copy(update={"stems": self._named(request)}))

    async def submit(self, transport: Transport, request: ProviderRequest) -> ProviderJob:
        self.fits(request)
        upload = await transport.send(
            "POST",
            "/upload/",
            asked_for="the upload",
            repeat="safe",
            content=request.path,
            headers={
                "content-type": "application/octet-stream",
                "content-disposition": f"attachment; filename={upload_name(request)}",
            },
        )
        source = upload.parsed(_Upload).id
        stems = self._named(request)
        task = await self._split(transport, request, source, stems)
        handle = {"source": source, "task": task, "stems": ",".join(stems), "absent": ""}
        return ProviderJob(job_id=task, status="queued", handle=handle)

    async def ask(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest
    ) -> ProviderJob:
        task = job.handle.get("task", job.job_id)
        said = await self._shared().ask(task, lambda tasks: self._check(transport, tasks))
        if said is None:
            raise broken(f"it answered nothing about the job {task}", b"")
        state = said.parsed(_State)
        if state.status == "progress":
            status: Literal["queued", "processing"] = "processing" if state.progress else "queued"
            return job.model_copy(update={"status": status})
        if state.status == "success" and state.result:
            return self._complete(job, request, state.result)
        if state.status == "error" and isinstance(state.error, _Error):
            return await self._error(transport, job, request, state.error)
        if state.status in ("cancelled", "server_error"):
            return failed(job, state.error if isinstance(state.error, str) else state.status)
        raise unknown_status(self.name, state.status, said.body)

    async def forget(self, transport: Transport, job: ProviderJob) -> None:
        """Deletes the upload and its tracks, which cancels what still runs."""
        if source := job.handle.get("source"):
            await transport.send(
                "POST",
                "/delete/",
                asked_for=f"the upload of {job.job_id}",
                repeat="safe",
                json={"source_id": source},
            )

    def refusal(self, answer: Answer, asked_for: str) -> StemwrightError | None:
        said, code = words_of(answer), code_of(answer)
        if answer.status == 400 and code == "idempotency_key_used":
            return SubmitUnclear(
                "an earlier submit of this track has started, and LALAL.AI doesn't say under "
                "which id.",
                stage="separate",
                remedy="Look at its history. To order the track anew, and pay for it again, set "
                "engine.service_options.salt to another word.",
            )
        if answer.status == 400 and (error := self._license(code, said)):
            return error
        return super().refusal(answer, asked_for)

    def price_usd(self, request: ProviderRequest) -> float:
        """Minutes times the stems that have to be taken out, `other` being what is left."""
        return self._charge(request.duration_s, len(self._named(request)))

    def _charge(self, duration_s: float, stems: int) -> float:
        return duration_s / 60 * stems * self.number("usd_per_minute")

    def _named(self, request: ProviderRequest) -> tuple[str, ...]:
        if _REST not in request.stems:
            return request.stems
        return tuple(stem for stem in model_stems(request) if stem != _REST)

    def _shared(self) -> SharedChecks[Answer]:
        loop = asyncio.get_running_loop()
        if loop not in self._checks:
            interval_s = 60 / max(1e-3, self.number("checks_per_minute"))
            self._checks[loop] = SharedChecks(interval_s, _MOST_TASKS)
        return self._checks[loop]

    async def _check(self, transport: Transport, tasks: Sequence[str]) -> dict[str, Answer]:
        answer = await transport.send(
            "POST",
            "/check/",
            asked_for=f"the job {tasks[0]}",
            repeat="never",
            json={"task_ids": list(tasks)},
        )
        states = answer.parsed(_Check).result
        # Each state as an answer of its own: what is wrong with one is its own job's trouble.
        return {
            task: answer.model_copy(update={"body": json.dumps(state).encode()})
            for task, state in states.items()
        }

    async def _split(
        self, transport: Transport, request: ProviderRequest, source: str, stems: tuple[str, ...]
    ) -> str:
        answer = await transport.send(
            "POST",
            "/split/multistem/",
            asked_for=request.path.name,
            repeat="safe",
            json={
                "source_id": source,
                "idempotency_key": _uuid4(request.idempotency_key, self.options["salt"], *stems),
                "presets": {
                    "stem_list": [self.stem_names[stem] for stem in stems],
                    "splitter": self.options["splitter"],
                    "extraction_level": self.options["extraction_level"],
                    "encoder_format": self.format_of(request),
                },
            },
        )
        return answer.parsed(_Task).task_id

    def _complete(self, job: ProviderJob, request: ProviderRequest, result: _Tracks) -> ProviderJob:
        ours = {self.stem_names[stem]: stem for stem in request.stems if stem != _REST}
        urls = {}
        for track in result.tracks:
            stem = _REST if track.type == "back" else ours.get(track.label, "")
            if stem in request.stems:
                urls[stem] = track.url
        absent = tuple(stem for stem in _listed(job, "absent") if stem in request.stems)
        cost = self._charge(result.duration, len(_listed(job, "stems")))
        return job.model_copy(
            update={"status": "complete", "stems": urls, "absent": absent, "cost_usd": cost}
        )

    async def _error(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest, error: _Error
    ) -> ProviderJob:
        stems = _listed(job, "stems")
        missed = _not_detected(error.detail, stems)
        if not missed:
            return failed(job, error.detail)
        absent = (*_listed(job, "absent"), missed)
        rest = tuple(stem for stem in stems if stem != missed)
        if not rest:
            return _nothing_found(job, request, absent)
        task = await self._split(transport, request, job.handle["source"], rest)
        handle = {
            **job.handle,
            "task": task,
            "stems": ",".join(rest),
            "absent": ",".join(absent),
        }
        return job.model_copy(update={"status": "processing", "handle": handle})

    def _license(self, code: str, said: str) -> BudgetSpent | SourceRefused | None:
        if code == "exceeded_duration":
            return self.out_of_credit(said)
        if code in ("exceeded_size", "max_duration"):
            return SourceRefused(
                f"LALAL.AI takes no track of this size or length ({code}: {said}).",
                stage="separate",
                remedy="Upgrade its plan, or separate this track with another engine.",
            )
        return None


def _uuid4(*of: str) -> str:
    digest = hashlib.sha256("\0".join(of).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _listed(job: ProviderJob, what: str) -> tuple[str, ...]:
    return tuple(filter(None, job.handle.get(what, "").split(",")))


def _not_detected(said: str, stems: tuple[str, ...]) -> str:
    """The stem that a task found nothing of; empty if it failed for another reason."""
    words = said.lower()
    if not words.startswith(_NOT_DETECTED):
        return ""
    named = [s for s in stems if any(w in words for w in _HEARD_AS.get(s, (s,)))]
    return named[0] if named else stems[0] if len(stems) == 1 else ""


def _nothing_found(
    job: ProviderJob, request: ProviderRequest, absent: tuple[str, ...]
) -> ProviderJob:
    # With nothing to take out there is no back track either: the mixture is all `other`.
    broken_ = {_REST: "LALAL.AI found no stem to take out"} if _REST in request.stems else {}
    found = tuple(stem for stem in absent if stem in request.stems)
    told = {"stems": {}, "absent": found, "broken": broken_, "cost_usd": 0.0}
    return job.model_copy(update={"status": "complete", **told})
