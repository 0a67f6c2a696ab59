"""The API of `INTERFACES.md` section 5, which `stemwright endpoint` serves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, SecretStr

from tasks.contracts import STEMS, SeparationJob
from tasks.errors import StemwrightError
from tasks.separation.cloud.answers import Answer, JobUnknown
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.origins import checked_base_url
from tasks.separation.cloud.providers.base import CloudProvider, url_part
from tasks.separation.cloud.transport import Transport


class _Job(SeparationJob):
    """A job on the wire, with what our own service adds to the contract's fields.

    What stems are multiplied by has to make sense; by the rest another service may mean something
    else, which the contract has ignored.
    """

    gain: float = Field(default=1.0, gt=0, le=1e3, allow_inf_nan=False)
    absent: Any = None
    cost_usd: Any = None
    progress: Any = None
    queue_position: Any = None


class Stemwright(CloudProvider):
    """Our own API; repeated submits carry one idempotency key, and the API key may be empty."""

    name = "stemwright"
    free_prefixes = ()

    def __init__(
        self, *, base_url: str = "", api_key: SecretStr, options: Mapping[str, str] = {}
    ) -> None:
        super().__init__(base_url=checked_base_url(base_url), api_key=api_key, options=options)

    def auth(self) -> dict[str, str]:
        key = self._key.get_secret_value()
        return {"authorization": f"Bearer {key}"} if key else {}

    def check(self, request: ProviderRequest) -> None:
        """Which models and stems there are is the service's to say."""

    async def submit(self, transport: Transport, request: ProviderRequest) -> ProviderJob:
        fields = {
            "stems": "4" if request.stems == STEMS else ",".join(request.stems),
            "format": request.format,
            "bit_depth": request.bit_depth,
        }
        answer = await transport.send(
            "POST",
            "/separate",
            asked_for="/separate",
            repeat="safe",
            data=fields | ({"model": request.model} if request.model else {}),
            files={"audio": request.path},
            headers={"Idempotency-Key": request.idempotency_key},
        )
        job = _read(answer)
        url_part(job.job_id)
        return job

    async def ask(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest
    ) -> ProviderJob:
        answer = await transport.send(
            "GET",
            f"/jobs/{url_part(job.job_id)}",
            asked_for=f"the job {job.job_id}",
            repeat="never",
        )
        found = _read(answer)
        # The id is ours to keep: an answer doesn't make another job of this one.
        return found.model_copy(update={"job_id": job.job_id})

    async def forget(self, transport: Transport, job: ProviderJob) -> None:
        try:
            await transport.send(
                "DELETE",
                f"/jobs/{url_part(job.job_id)}",
                asked_for=f"the job {job.job_id}",
                repeat="safe",
            )
        except JobUnknown:
            return

    def refusal(self, answer: Answer, asked_for: str) -> StemwrightError | None:
        return None


def _read(answer: Answer) -> ProviderJob:
    found = answer.parsed(_Job, noun="job")
    absent, cost = found.absent, found.cost_usd
    return ProviderJob(
        **found.model_dump(include=set(SeparationJob.model_fields)),
        gain=found.gain,
        absent=tuple(name for name in absent if isinstance(name, str))
        if isinstance(absent, list)
        else (),
        cost_usd=cost if isinstance(cost, int | float) and 0 <= cost < math.inf else None,
        standing=f"progress {found.progress!r}, place {found.queue_position!r}"[:200],
    )
