"""The API of `interfaces.md` section 5, which `stemwright endpoint` serves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, SecretStr

from tasks.contracts import STEMS, SeparationJob
from tasks.errors import ProtocolError, SettingsError, StemwrightError
from tasks.separation.cloud.answers import JobUnknown, parse
from tasks.separation.cloud.origins import checked_base_url
from tasks.separation.cloud.service import Answer, Order, ServiceJob, Wire


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


class Stemwright:
    """A service that speaks our own API; repeated submits carry one idempotency key.

    Args:
        base_url: As in `https://host/v1`.
        api_key: Sent as a bearer token, if there is one.
        options: None are known.

    Raises:
        SettingsError: The address is none, or an option.
    """

    name = "stemwright"

    def __init__(
        self,
        *,
        base_url: str,
        api_key: SecretStr | str = "",
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.base_url = checked_base_url(base_url)
        self._key = api_key if isinstance(api_key, SecretStr) else SecretStr(api_key)
        if options:
            raise SettingsError(
                f"stemwright has no option {next(iter(options))[:80]!r}.",
                remedy="Remove engine.service_options.",
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def auth(self) -> dict[str, str]:
        key = self._key.get_secret_value()
        return {"authorization": f"Bearer {key}"} if key else {}

    def check(self, order: Order) -> None:
        """Which models and stems there are is the service's to say."""

    async def submit(self, wire: Wire, order: Order) -> ServiceJob:
        fields = {
            "stems": "4" if order.stems == STEMS else ",".join(order.stems),
            "format": order.format,
            "bit_depth": order.bit_depth,
        }
        answer = await wire.send(
            "POST",
            "/separate",
            asked_for="/separate",
            repeat="safe",
            data=fields | ({"model": order.model} if order.model else {}),
            files={"audio": order.path},
            headers={"Idempotency-Key": order.idempotency_key},
        )
        job = _read(answer)
        _url_part(job.job_id)
        return job

    async def ask(self, wire: Wire, job: ServiceJob, order: Order) -> ServiceJob:
        answer = await wire.send(
            "GET",
            f"/jobs/{_url_part(job.job_id)}",
            asked_for=f"the job {job.job_id}",
            repeat="never",
        )
        found = _read(answer)
        # The id is ours to keep: an answer doesn't make another job of this one.
        return found.model_copy(update={"job_id": job.job_id})

    async def forget(self, wire: Wire, job: ServiceJob) -> None:
        try:
            await wire.send(
                "DELETE",
                f"/jobs/{_url_part(job.job_id)}",
                asked_for=f"the job {job.job_id}",
                repeat="safe",
            )
        except JobUnknown:
            return

    def refusal(self, answer: Answer, asked_for: str) -> StemwrightError | None:
        return None

    def price_usd(self, order: Order) -> float:
        return 0.0


def _read(answer: Answer) -> ServiceJob:
    found = parse(answer, _Job, noun="job")
    absent, cost = found.absent, found.cost_usd
    return ServiceJob(
        **found.model_dump(include=set(SeparationJob.model_fields)),
        gain=found.gain,
        absent=tuple(name for name in absent if isinstance(name, str))
        if isinstance(absent, list)
        else (),
        cost_usd=cost if isinstance(cost, int | float) and 0 <= cost < math.inf else None,
        standing=f"progress {found.progress!r}, place {found.queue_position!r}"[:200],
    )


def _url_part(job_id: str) -> str:
    if not job_id.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ProtocolError(
            f"the service gave a job id that fits no URL: {job_id[:80]!r}.", stage="separate"
        )
    return job_id
