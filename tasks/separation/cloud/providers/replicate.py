"""Replicate (replicate.com/docs/reference/http): a demucs of somebody's, pinned to a version.

The input's fields differ by version, so the version is pinned and its fields are known or set.
Input and output are removed an hour after a prediction. There is no idempotency key, but the
account's predictions can be listed, so after a submit whose answer was lost we look for the one
with our upload. A failed prediction is charged for its time too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tasks.errors import SettingsError, StemwrightError, SubmitUnclear
from tasks.separation.cloud.answers import Answer, broken
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.providers.base import (
    DEMUCS_MODELS,
    DEMUCS_STEMS,
    CloudProvider,
    Reply,
    failed,
    throttled,
    unknown_status,
    url_part,
    words_of,
)
from tasks.separation.cloud.transport import Transport

_CJWBW = "25a173108cff36ef9f80f854c162d01df9e6528be175794b81158fa03836d953"
# The fields of versions whose schema we know: their names, and what we always send. Stems are
# never rescaled one by one, else they'd no longer sum to the track.
_SCHEMAS: dict[str, dict[str, str]] = {
    _CJWBW: {
        "field.audio": "audio",
        "field.model": "model_name",
        "field.format": "output_format",
        "input.clip_mode": "clamp",
    },
    "bfc15c4c736da916143bf747f175ecf446b0242bd07837836c096d228866afbc": {
        "field.audio": "audio",
        "field.model": "model",
        "field.format": "output_format",
        "input.clip_mode": "clamp",
        "input.wav_format": "int24",
    },
}
_RESETS = re.compile(r"resets? in ~?(\d+)")


class _File(Reply):
    id: str
    urls: dict[str, str]


class _Metrics(Reply):
    predict_time: float | None = None


class _Prediction(Reply):
    id: str
    status: str
    input: dict[str, Any] | None = None
    output: Any = None
    error: Any = None
    metrics: _Metrics | None = None
    data_removed: bool = False


class _Predictions(Reply):
    results: list[_Prediction]


class _NamedStem(Reply):
    name: str
    audio: str


class _StemList(Reply):
    stems: list[_NamedStem]


class Replicate(CloudProvider):
    """Replicate.

    Options: `version` (64 hex digits; cjwbw/demucs by default), `field.audio`, `field.model` and
    `field.format` (what a version that we don't know calls them; an empty one isn't sent),
    `input.NAME` (further input, as JSON), `model` (instead of ours), `usd_per_second` of compute
    (a T4's by default) and `compute_per_second` of audio (our guess, for prices beforehand).
    """

    name = "replicate"
    address = "https://api.replicate.com/v1"
    defaults: ClassVar[Mapping[str, str]] = {
        "version": _CJWBW,
        "model": "",
        "usd_per_second": "0.000225",
        "compute_per_second": "0.35",
    }
    stems: ClassVar[Mapping[str, str]] = {stem: stem for stem in DEMUCS_STEMS}
    free_prefixes = ("stem.", "field.", "input.")

    most_bytes = 100 * 1024**2

    def auth(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key.get_secret_value()}"}

    def check(self, request: ProviderRequest) -> None:
        super().check(request)
        if not re.fullmatch(r"[0-9a-f]{64}", self.options["version"]):
            raise SettingsError(
                f"engine.service_options.version is {self.options['version']!r}, which is no "
                "version of a model at Replicate.",
                remedy="Give the 64 hex digits that the model's page shows under Versions.",
            )
        if not self._schema().get("field.audio"):
            raise SettingsError(
                f"what version {self.options['version'][:8]} calls its inputs isn't known.",
                remedy="Set engine.service_options field.audio, field.model and field.format.",
            )
        if not self.options["model"] and request.model not in DEMUCS_MODELS:
            raise SettingsError(
                f"replicate runs {', '.join(DEMUCS_MODELS)}; {request.model} is asked for.",
                remedy="Set separation.model to one of them, or engine.service_options.model.",
            )

    async def submit(self, transport: Transport, request: ProviderRequest) -> ProviderJob:
        self.fits(request)
        upload = await transport.send(
            "POST",
            "/files",
            asked_for="the upload",
            repeat="safe",
            files={"content": request.path},
        )
        file = upload.parsed(_File)
        url = file.urls.get("get")
        if not url:
            raise broken("it gave an upload no address", upload.body)
        try:
            answer = await transport.send(
                "POST",
                "/predictions",
                asked_for=request.path.name,
                repeat="unsent",
                json={"version": self.options["version"], "input": self._input(request, url)},
            )
            prediction = answer.parsed(_Prediction)
        except SubmitUnclear:
            found = await self._find(transport, url)
            if found is None:
                raise
            prediction = found
        return ProviderJob(job_id=prediction.id, status="queued", handle={"file": file.id})

    async def ask(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest
    ) -> ProviderJob:
        answer = await transport.send(
            "GET",
            f"/predictions/{url_part(job.job_id)}",
            asked_for=f"the job {job.job_id}",
            repeat="never",
        )
        found = answer.parsed(_Prediction)
        if found.status == "starting":
            return job.model_copy(update={"status": "queued"})
        if found.status == "processing":
            return job.model_copy(update={"status": "processing"})
        if found.status in ("failed", "canceled", "aborted"):
            return failed(job, str(found.error or found.status))
        if found.status != "succeeded":
            raise unknown_status(self.name, found.status, answer.body)
        if found.data_removed or found.output is None:
            return failed(job, "its output was removed, as it is after an hour")
        spent = found.metrics.predict_time if found.metrics else None
        return job.model_copy(
            update={
                "status": "complete",
                "stems": self._stems(request, found.output, answer),
                "cost_usd": None if spent is None else spent * self.number("usd_per_second"),
            }
        )

    async def forget(self, transport: Transport, job: ProviderJob) -> None:
        """Removes our upload and cancels what still runs; the rest goes after an hour."""
        if file := job.handle.get("file"):
            await transport.send("DELETE", f"/files/{file}", asked_for="the upload", repeat="safe")
        if job.status in ("queued", "processing"):
            await transport.send(
                "POST",
                f"/predictions/{url_part(job.job_id)}/cancel",
                asked_for=f"the job {job.job_id}",
                repeat="safe",
            )

    def refusal(self, answer: Answer, asked_for: str) -> StemwrightError | None:
        if answer.status == 429 and "retry-after" not in answer.headers:
            said = words_of(answer)
            if resets := _RESETS.search(said):
                return throttled(said, float(resets[1]))
        return super().refusal(answer, asked_for)

    def price_usd(self, request: ProviderRequest) -> float:
        """Seconds of compute, as far as they can be known beforehand, times their price."""
        compute_s = request.duration_s * self.number("compute_per_second")
        return compute_s * self.number("usd_per_second")

    async def _find(self, transport: Transport, url: str) -> _Prediction | None:
        answer = await transport.send(
            "GET", "/predictions", asked_for="the list of predictions", repeat="safe"
        )
        for prediction in answer.parsed(_Predictions).results:
            if url in (prediction.input or {}).values():
                return prediction
        return None

    def _schema(self) -> Mapping[str, str]:
        known = _SCHEMAS.get(self.options["version"], {})
        own = {k: v for k, v in self.options.items() if k.startswith(("field.", "input."))}
        return {**known, **own}

    def _input(self, request: ProviderRequest, url: str) -> dict[str, Any]:
        schema = self._schema()
        values = {
            "field.audio": url,
            "field.model": self.options["model"] or request.model,
            "field.format": self.format_of(request),
        }
        sent: dict[str, Any] = {schema[k]: v for k, v in values.items() if schema.get(k)}
        for option, text in schema.items():
            if option.startswith("input."):
                sent[option.removeprefix("input.")] = _json_or_text(text)
        return sent

    def _stems(self, request: ProviderRequest, output: Any, answer: Answer) -> dict[str, str]:
        """The output as our stems: `{name: URL}`, or the older `{stems: [{name, audio}]}`."""
        if isinstance(output, dict) and isinstance(output.get("stems"), list):
            listed = _StemList.model_validate(output) if _is_stem_list(output) else None
            output = {stem.name: stem.audio for stem in listed.stems} if listed else None
        if not isinstance(output, dict):
            raise broken("its output names no stems", answer.body)
        urls = {stem: output.get(self.stem_names[stem]) for stem in request.stems}
        return {stem: url for stem, url in urls.items() if isinstance(url, str)}


def _is_stem_list(output: dict[str, Any]) -> bool:
    return all(
        isinstance(stem, dict) and isinstance(stem.get("name"), str) and "audio" in stem
        for stem in output["stems"]
    )


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
