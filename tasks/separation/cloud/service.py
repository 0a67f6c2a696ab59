"""What a separation service is to us: one small interface, which each dialect fills.

A dialect maps a service's words to ours and nothing else. Retries, polling, the ledger, downloads
and the safety of URLs are the client's; HTTP itself is the wire's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, Field

from tasks.contracts import BitDepth, SeparationJob, StemFormat, Value
from tasks.errors import StemwrightError

M = TypeVar("M", bound=BaseModel)


class Order(Value):
    """What a service is asked for. Persisted with the job, so that a later run can go on with it.

    `stems` are our names, in the model's order; `all_stems` says whether they are all of it.
    """

    path: Path
    stems: tuple[str, ...]
    all_stems: bool = True
    model: str = "htdemucs"
    format: StemFormat = "flac"
    bit_depth: BitDepth = "24"
    duration_s: float = 0.0
    idempotency_key: str


class ServiceJob(SeparationJob):
    """A job as a dialect reads it: its status and stems in our words.

    Attributes:
        absent: Stems that the service looked for and found nothing of: silence, and no fault.
        broken: Stems that the service failed at, with its words.
        gain: What all its stems are multiplied by.
        cost_usd: What the service says that it charged; None where it doesn't say.
        standing: How far it is, in whatever words; that it changes shows that the job gets on.
        handle: What the dialect needs to ask for the job again, beyond its id.
    """

    absent: tuple[str, ...] = ()
    broken: dict[str, str] = Field(default_factory=dict)
    gain: float = 1.0
    cost_usd: float | None = None
    standing: str = ""
    handle: dict[str, str] = Field(default_factory=dict)


class Answer(Value):
    """A whole answer of 1 MiB at most. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def parsed(self, model: type[M]) -> M:
        """The body as JSON of a shape.

        Raises:
            ProtocolError: Not JSON, or not of that shape; the first bytes are quoted.
        """
        from tasks.separation.cloud.answers import parse

        return parse(self, model)


Repeat = Literal["safe", "unsent", "never"]


class Wire(Protocol):
    """HTTP to one service: pooled, bounded, the key to the service's own origin alone."""

    async def send(
        self,
        method: str,
        url: str,
        *,
        asked_for: str,
        repeat: Repeat,
        json: Any = None,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
        content: Path | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its answer, with retries as far as repeating it does no harm.

        Args:
            method: As in HTTP.
            url: Absolute, or a path under `base_url`.
            asked_for: What it is about, for errors: "the job 7f3a".
            repeat: `safe`: a repeated request changes nothing (GET, an upload, a submit with an
                idempotency key). `unsent`: again only when the first certainly had no effect (no
                connection, 429, 503); else `SubmitUnclear`. `never`: the caller asks again.
            json: A body as JSON.
            data: Form fields.
            files: Multipart files by field, streamed from the disk.
            content: A raw body, streamed from the disk.
            headers: Further headers; those of `Service.auth` are added for its own origin.

        Returns:
            An answer of status 2xx.

        Raises:
            KeyRejected, SourceRefused, NotAudio, RateLimited, ServiceError, NetworkError,
            ProtocolError, SubmitUnclear: Whatever `Service.refusal` makes of another status.
        """
        ...


class Service(Protocol):
    """One service's dialect. Holds its key and options, no connection and no state of a job."""

    name: str
    """What reports and settings call it."""

    base_url: str

    def auth(self) -> dict[str, str]:
        """The headers that carry the key."""
        ...

    def check(self, order: Order) -> None:
        """Look, before anything is sent, whether the service can make what is asked for.

        Raises:
            SettingsError: It has no such stem or model, or an option is missing.
        """
        ...

    async def submit(self, wire: Wire, order: Order) -> ServiceJob:
        """Upload the audio and have it separated, never paid for twice."""
        ...

    async def ask(self, wire: Wire, job: ServiceJob, order: Order) -> ServiceJob:
        """The job as it stands, with fresh URLs; one request where the service allows it.

        The handle may change: a dialect whose service gives a whole job up over one stem orders
        the rest anew under the same job id. To be kept, so that a later run goes on with it.

        Raises:
            SourceRefused, NotAudio: The service gave the track up; the job is no use any more.
        """
        ...

    async def forget(self, wire: Wire, job: ServiceJob) -> None:
        """Cancel the job, or remove what the service keeps of it, where it offers that."""
        ...

    def refusal(self, answer: Answer, asked_for: str) -> StemwrightError | None:
        """The error that a status other than 2xx stands for; None for the usual meaning."""
        ...

    def price_usd(self, order: Order) -> float:
        """What the order will cost by the service's published prices; 0 where it's free."""
        ...
