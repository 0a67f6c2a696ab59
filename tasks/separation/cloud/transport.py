"""HTTP to one service: pooled, bounded, tried again as far as repeating does no harm."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import httpx

from tasks.errors import (
    NetworkError,
    ProtocolError,
    StemwrightError,
    SubmitUnclear,
    TransientError,
    from_os_error,
)
from tasks.net.addresses import GuardedTransport
from tasks.net.retries import RetryPolicy, retrying_async
from tasks.separation.cloud import bodies
from tasks.separation.cloud.answers import (
    Answer,
    had_no_effect,
    network_fault,
    read_answer,
    refusal,
)
from tasks.separation.cloud.origins import ServiceGuard, checked_base_url, origin
from tasks.separation.cloud.timeouts import Timeouts
from tasks.separation.deadline import Watch

if TYPE_CHECKING:
    from tasks.separation.cloud.providers.base import CloudProvider

log = logging.getLogger(__name__)
T = TypeVar("T")
_TRANSFERS_SHARE = 0.5
Repeat = Literal["safe", "unsent", "never"]


class Connections:
    """One service's pool of connections; belongs to the event loop that first uses it.

    At most half of it carries uploads and stems, so that asking for jobs never waits for them.

    Args:
        transport: The seam for tests; a guarded one by default.
    """

    def __init__(
        self, base_url: str, timeouts: Timeouts, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.timeouts = timeouts
        self.transfers = asyncio.Semaphore(max(1, int(timeouts.connections * _TRANSFERS_SHARE)))
        self.client = httpx.AsyncClient(
            timeout=httpx.Timeout(
                timeouts.stall_s, connect=timeouts.connect_s, pool=timeouts.answer_s
            ),
            transport=transport
            or GuardedTransport(
                ServiceGuard(base_url),
                connections=timeouts.connections,
                connect_s=timeouts.connect_s,
            ),
            headers={"user-agent": "stemwright"},
        )


@dataclass(frozen=True)
class Transport:
    """HTTP to one provider, over its connections.

    The key is sent to the service's own origin alone and appears in no log, error or repr.

    Attributes:
        policy: When to try again.
        level: Of the log of each wait.
        watch: The deadline and the stop flag of the track that it works for.
    """

    provider: CloudProvider
    connections: Connections
    policy: RetryPolicy
    level: int = logging.INFO
    watch: Watch | None = None

    @classmethod
    def to(
        cls,
        provider: CloudProvider,
        *,
        policy: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        log_retries: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> Transport:
        """A transport with connections of its own, to be closed; also an async context manager.

        Raises:
            SettingsError: The service's address is none.
        """
        base_url = checked_base_url(provider.base_url)
        return cls(
            provider,
            Connections(base_url, timeouts or Timeouts(), transport),
            policy or RetryPolicy(),
            logging.INFO if log_retries else logging.DEBUG,
        )

    @property
    def whose(self) -> str:
        """How a log line about the track begins; nothing where there is no track."""
        return f"{self.watch.track}: " if self.watch else ""

    def under(self, watch: Watch | None) -> Transport:
        """The same transport for one track."""
        return replace(self, watch=watch)

    def patient(self, tries: int) -> Transport:
        """The same transport with at most so many tries of each request."""
        tries = min(tries, self.policy.max_retries)
        return replace(self, policy=self.policy.model_copy(update={"max_retries": tries}))

    async def close(self) -> None:
        """Close the connections."""
        await self.connections.client.aclose()

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

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
        """Send one request, again as far as repeating it does no harm.

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
            headers: Further headers; those of `CloudProvider.auth` are added for its own origin.

        Returns:
            An answer of status 2xx.

        Raises:
            KeyRejected, SourceRefused, NotAudio, RateLimited, ServiceError, NetworkError,
            ProtocolError, SubmitUnclear: Whatever `CloudProvider.refusal` makes of a status.
            SourceMissing, SourceUnreadable: A file to send can't be read.
        """
        target = self.absolute(url)
        named = {**(headers or {}), **self.auth_for(target)}

        async def attempt() -> Answer:
            if not files and not content:
                return await self._exchange(method, target, named, asked_for, json=json, data=data)
            body = _body(data, files, content)
            async with self.connections.transfers:
                return await self._exchange(
                    method, target, {**body.headers, **named}, asked_for, body=body
                )

        return await self.persist(attempt, f"{method} {asked_for}", repeat)

    def absolute(self, url: str) -> str:
        """A path under `base_url` as the URL that it means."""
        if url.startswith("/") and not url.startswith("//"):
            return f"{self.provider.base_url.rstrip('/')}{url}"
        return url

    def auth_for(self, url: str) -> dict[str, str]:
        """The headers with the key, for the service's own origin; else none.

        Raises:
            ProtocolError: Not an http(s) URL.
        """
        return self.provider.auth() if origin(url) == origin(self.provider.base_url) else {}

    def refusal(self, answer: Answer, asked_for: str) -> StemwrightError:
        """What a status other than 2xx means, in the service's words or in general."""
        return self.provider.refusal(answer, asked_for) or refusal(answer, asked_for)

    @asynccontextmanager
    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], time_s: float, **body: Any
    ) -> AsyncIterator[httpx.Response]:
        """One request and its streamed answer, with a transport's faults put into our errors.

        Raises:
            NetworkError: No connection, a reset, a stall, or not over within `time_s`.
            ProtocolError: The URL is none, or leads where it may not.
            SourceMissing, SourceUnreadable: A file to send can't be read.
        """
        client = self.connections.client
        try:
            async with (
                asyncio.timeout(time_s),
                client.stream(method, url, headers=dict(headers), **body) as response,
            ):
                yield response
        except TimeoutError as error:
            raise NetworkError(
                f"no whole answer within {time_s:.0f} s.", stage="separate"
            ) from error
        except httpx.HTTPError as error:
            # Not chained: the exception holds the request, and the request holds the key.
            raise network_fault(error, url) from None
        except httpx.InvalidURL as error:
            raise ProtocolError(f"{url[:120]!r} is no URL: {error}.", stage="separate") from error
        except OSError as error:
            raise from_os_error(error, stage="separate") from error

    async def persist(
        self, attempt: Callable[[], Awaitable[T]], doing: str, repeat: Repeat = "safe"
    ) -> T:
        """Try, and try again while that does no harm and may help.

        A service that asks for more patience than the policy has, or than the deadline leaves, is
        taken at its word and not asked again here.

        Raises:
            SubmitUnclear: A fault after which the service may have done it all the same.
            Others: The last try's.
        """

        async def once() -> T:
            if self.watch:
                self.watch.check(0.0)
            try:
                return await attempt()
            except TransientError as error:
                if repeat == "unsent" and not had_no_effect(error):
                    raise SubmitUnclear(
                        f"{doing} broke off, and the service may have taken it all the same: "
                        f"{error.cause}",
                        stage="separate",
                    ) from None
                raise

        def noted(error: TransientError, tried: int, pause_s: float) -> None:
            words = "%s%s: %s Try %d of %d in %.1f s"
            which = (tried + 1, self.policy.max_retries, pause_s)
            log.log(self.level, words, self.whose, doing, error.cause, *which)

        return await retrying_async(
            once,
            self.policy,
            declined=lambda error, _: repeat == "never" or self.is_too_long(error.retry_after_s),
            noted=noted,
            sleep=self.pause,
        )

    def is_too_long(self, asked_s: float | None) -> bool:
        """Whether a service asks for more patience than the policy has or the deadline leaves."""
        return self.policy.is_too_long(asked_s, self.watch.left_s if self.watch else None)

    async def pause(self, pause_s: float) -> None:
        """Sleep, but not beyond the deadline.

        Raises:
            DeadlineMissed, Interrupted: It is time.
        """
        left_s = self.watch.left_s if self.watch else None
        await asyncio.sleep(pause_s if left_s is None else min(pause_s, left_s + 0.001))
        if self.watch:
            self.watch.check(0.0)

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        asked_for: str,
        *,
        json: Any = None,
        data: Mapping[str, str] | None = None,
        body: bodies.Body | None = None,
    ) -> Answer:
        timeouts = self.connections.timeouts
        sent: dict[str, Any] = {"json": json, "data": data}
        if body:
            sent = {"content": body.chunks()}
        time_s = timeouts.upload_s(body.size) if body else timeouts.answer_s
        async with self.exchange(method, url, headers, time_s, **sent) as response:
            answer = await read_answer(response)
        if not 200 <= answer.status < 300:
            raise self.refusal(answer, asked_for)
        return answer


def _body(
    fields: Mapping[str, str] | None, files: Mapping[str, Path] | None, content: Path | None
) -> bodies.Body:
    try:
        return bodies.raw(content) if content else bodies.multipart(fields or {}, files or {})
    except OSError as error:
        raise from_os_error(error, stage="separate") from error
