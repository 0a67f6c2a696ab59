"""What a service answers: read within bounds, checked, and its refusals put into our errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from tasks.contracts import Value
from tasks.errors import (
    KeyRejected,
    NetworkError,
    NotAudio,
    ProtocolError,
    RateLimited,
    ServiceError,
    SettingsError,
    SourceRefused,
    StemwrightError,
)
from tasks.net.retries import retry_after_s

MAX_ANSWER_BYTES = 1 << 20
_QUOTED = 120
M = TypeVar("M", bound=BaseModel)

_REFUSALS: dict[int, tuple[Callable[..., StemwrightError], str]] = {
    401: (KeyRejected, "the service rejected the API key"),
    403: (KeyRejected, "the service rejected the API key"),
    413: (SourceRefused, "the service takes no file as large as this"),
    415: (NotAudio, "the service takes it for no audio"),
    422: (SettingsError, "the service doesn't offer what is asked for"),
}


class ServiceUnavailable(ServiceError):
    """A 5xx; `retry_after_s` is what it asked for, if it did."""

    status: int = 500


class JobFailed(ServiceError):
    """The service's own "failed": asking for the same job again changes nothing."""


class JobUnknown(ProtocolError):
    """The service knows nothing of what it was asked for: 404 or 410."""


class KeyTaken(ProtocolError):
    """409: the idempotency key stands for something else, as after the mixture was made anew."""


class NotConnected(NetworkError):
    """No connection was had, so the service has seen nothing of the request."""

    default_remedy = (
        "Check engine.base_url, and that the service is there; then run the same command again."
    )


class Answer(Value):
    """A whole answer of 1 MiB at most. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def parsed(self, model: type[M], *, noun: str = "answer") -> M:
        """Return the body as JSON of a shape; `noun` is what errors call it.

        Raises:
            ProtocolError: Not JSON, a field missing or of the wrong type, an unknown status.
        """
        try:
            said = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            kind = self.headers.get("content-type", "no content type").split(";")[0]
            raise broken(f"it answered {kind} where a {noun} in JSON was due", self.body) from error
        try:
            return model.model_validate(said)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "the whole"
            why = "it should be an object" if first["type"] == "model_type" else first["msg"]
            what = f"{field} of the {noun} is not valid ({why})"
            raise broken(what, self.body) from None


async def read_answer(response: httpx.Response) -> Answer:
    """A whole answer, if it is no longer than one may be.

    Raises:
        ProtocolError: It is longer.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise broken(f"it answered over {MAX_ANSWER_BYTES} bytes", bytes(body))
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=headers, body=bytes(body))


def refusal(answer: Answer, asked_for: str) -> StemwrightError:
    """The error that a status other than 2xx usually stands for.

    Args:
        asked_for: What the request was about, as in "the job 7f3a".
    """
    status = answer.status
    said = _detail(answer.body)
    wait_s = retry_after_s(answer.headers.get("retry-after"))
    if status in _REFUSALS:
        kind, words = _REFUSALS[status]
        return kind(f"{words} ({status}{said}).", stage="separate")
    if status == 429:
        return RateLimited(
            f"the service is asked too often or its queue is full (429{said}).",
            retry_after_s=wait_s,
            stage="separate",
        )
    if status == 409:
        return KeyTaken(f"the service refused {asked_for} ({status}{said}).", stage="separate")
    if status in (404, 410):
        return JobUnknown(
            f"the service knows nothing of {asked_for} ({status}{said}).",
            stage="separate",
            remedy="Check engine.base_url; a job that expired has to be submitted again.",
        )
    if status >= 500:
        fault = ServiceUnavailable(f"the service failed ({status}{said}).", stage="separate")
        fault.status, fault.retry_after_s = status, wait_s
        return fault
    return broken(f"it answered status {status} to {asked_for}", answer.body)


def network_fault(error: httpx.HTTPError, url: httpx.URL | str) -> NetworkError:
    """A transport's exception in words; names host and port, never the query or the key."""
    host = httpx.URL(url).netloc.decode("ascii", "replace")
    words = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        words = f"no answer in time ({type(error).__name__})"
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    kind = NotConnected if unsent else NetworkError
    return kind(f"{host}: {words}.", stage="separate")


def broken(what: str, body: bytes) -> ProtocolError:
    """The service broke the contract; the first bytes of what it sent are quoted."""
    quote = body[:_QUOTED].decode("utf-8", "replace").strip()
    return ProtocolError(
        f"the service broke its contract: {what}; it begins {quote!r}.", stage="separate"
    )


def names_no_stems(job_id: str) -> ProtocolError:
    """The error of a job that is complete and yet has nothing to fetch."""
    return ProtocolError(
        f"the service calls the job {job_id} complete and names no stems.", stage="separate"
    )


def had_no_effect(error: StemwrightError) -> bool:
    """Whether the service certainly did nothing with the request: no connection, 429, 503."""
    if isinstance(error, ServiceUnavailable):
        return error.status == 503
    return isinstance(error, NotConnected | RateLimited)


def _detail(body: bytes) -> str:
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return f": {str(detail)[:200]}"
