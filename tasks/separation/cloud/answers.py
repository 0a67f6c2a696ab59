"""What a service answers: read within bounds, checked, and its refusals put into our errors."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
from pydantic import ValidationError

from tasks.contracts import SeparationJob
from tasks.errors import (
    ContractBroken,
    KeyRejected,
    NetworkFault,
    NotAudio,
    RateLimited,
    ServiceFault,
    SourceRefused,
    StemwrightError,
)
from tasks.separation.cloud.retries import retry_after_s

MAX_ANSWER_BYTES = 1 << 20
_QUOTED = 120

_REFUSALS: dict[int, tuple[Callable[..., StemwrightError], str]] = {
    401: (KeyRejected, "the service rejected the API key"),
    403: (KeyRejected, "the service rejected the API key"),
    413: (SourceRefused, "the service takes no file as large as this"),
    415: (NotAudio, "the service takes it for no audio"),
}


class ServiceUnavailable(ServiceFault):
    """A 5xx; `retry_after_s` is what it asked for, if it did."""

    retry_after_s: float | None = None


class JobFailed(ServiceFault):
    """The service's own "failed": asking for the same job again changes nothing."""


async def read_answer(response: httpx.Response) -> bytes:
    """A response's body, if it is no longer than an answer may be.

    Raises:
        ContractBroken: It is longer.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise broken(f"it answered over {MAX_ANSWER_BYTES} bytes", bytes(body))
    return bytes(body)


def read_job(response: httpx.Response, body: bytes) -> SeparationJob:
    """A 2xx answer as a job.

    Raises:
        ContractBroken: Not JSON, a field missing or of the wrong type, an unknown status.
    """
    try:
        answer = json.loads(body)
    except ValueError as error:
        kind = response.headers.get("content-type", "no content type").split(";")[0]
        raise broken(f"it answered {kind} where a job in JSON was due", body) from error
    try:
        return SeparationJob.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise broken(f"{field} of the job is not valid ({first['msg']})", body) from None


def refusal(response: httpx.Response, body: bytes, *, asked_for: str) -> StemwrightError:
    """The error that a status other than 2xx stands for.

    Args:
        asked_for: What the request was about, as in "the job 7f3a".
    """
    status = response.status_code
    said = _detail(body)
    if status in _REFUSALS:
        kind, words = _REFUSALS[status]
        return kind(f"{words} ({status}{said}).", stage="separate")
    if status == 429:
        return RateLimited(
            f"the service is asked too often or its queue is full (429{said}).",
            retry_after_s=retry_after_s(response.headers.get("retry-after")),
            stage="separate",
        )
    if status == 404:
        return ContractBroken(
            f"the service knows nothing of {asked_for} (404{said}).",
            stage="separate",
            remedy="Check engine.base_url; a job that expired has to be submitted again.",
        )
    if status >= 500:
        fault = ServiceUnavailable(f"the service failed ({status}{said}).", stage="separate")
        fault.retry_after_s = retry_after_s(response.headers.get("retry-after"))
        return fault
    return broken(f"it answered status {status} to {asked_for}", body)


def network_fault(error: httpx.HTTPError, url: httpx.URL | str) -> NetworkFault:
    """A transport's exception in words; names the host, never the query or the key."""
    host = httpx.URL(url).host
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        words = f"no answer in time ({type(error).__name__})"
    return NetworkFault(f"{host}: {words}.", stage="separate")


def broken(what: str, body: bytes) -> ContractBroken:
    """The service broke the contract; the first bytes of what it sent are quoted."""
    quote = body[:_QUOTED].decode("utf-8", "replace").strip()
    return ContractBroken(
        f"the service broke its contract: {what}; it begins {quote!r}.", stage="separate"
    )


def wait_asked(error: StemwrightError) -> float | None:
    """The seconds that the service asked to be left alone for, if it did."""
    return error.retry_after_s if isinstance(error, RateLimited | ServiceUnavailable) else None


def _detail(body: bytes) -> str:
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, LookupError, TypeError):
        return ""
    return f": {str(detail)[:200]}"
