"""Around every request: an id, a log line, the metrics, errors as JSON, and an end to uploads.

A plain ASGI middleware, so that bodies pass through as they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
import uuid
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.endpoint.metrics import Metrics

log = logging.getLogger(__name__)

JOB_ID = "stemwright.job_id"
"""Where in its scope a request that makes a job leaves its id, for the log."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINGER_S = 2.0
_LINGER_BYTES = 1 << 20
_QUIET = ("/healthz", "/metrics")

Headers = list[tuple[bytes, bytes]]


class Exchange:
    """See the module. `metrics` counts requests by the pattern of their route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        one = _One(scope, receive, send)
        began = time.monotonic()
        try:
            await self._app(scope, one.receive, one.send)
        except Exception:
            log.exception("a request failed", extra={"request_id": one.id})
            await one.fail()
        finally:
            self._note(scope, one, time.monotonic() - began)

    def _note(self, scope: Scope, one: _One, seconds: float) -> None:
        method, route = _method(scope), _route(scope)
        self._metrics.requests.labels(method, route, str(one.status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        quiet = route.endswith(_QUIET) and one.status < 400
        said: dict[str, Any] = {
            "request_id": one.id,
            "method": method,
            "route": route,
            "status": one.status,
            "duration_ms": round(seconds * 1000, 1),
        }
        if job_id := scope.get(JOB_ID) or scope.get("path_params", {}).get("job_id"):
            said["job_id"] = str(job_id)[:64]
        log.log(logging.DEBUG if quiet else logging.INFO, "request", extra=said)


class _One:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = scope["headers"]
        given = dict(headers)
        self.id = _request_id(given.get(b"x-request-id", b""))
        self.status = 0
        length = given.get(b"content-length", b"0")
        self._body_left = b"transfer-encoding" in given or length not in (b"0", b"")
        self._receive = receive
        self._send = send
        self._lingers = False
        self._plain: Message | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._body_left = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif self._plain is not None:
            if not message.get("more_body", False):
                await self._in_json(self._plain)
        elif self._lingers and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._send(message)

    async def fail(self) -> None:
        """Answer 500, if nothing was answered yet."""
        if self.status:
            return
        await self._start({"type": "http.response.start", "status": 500, "headers": []})
        await self.send({"type": "http.response.body"})

    async def _start(self, message: Message) -> None:
        self.status = message["status"]
        headers: Headers = [*message.get("headers", []), (b"x-request-id", self.id.encode())]
        if self._body_left:
            # The rest of the body isn't wanted, and the connection is of no use with it.
            headers.append((b"connection", b"close"))
            self._lingers = True
        message = {**message, "headers": headers}
        if self.status >= 400 and not _is_json(headers):
            self._plain = message
        else:
            await self._send(message)

    async def _in_json(self, start: Message) -> None:
        self._plain = None
        detail = f"{HTTPStatus(self.status).phrase}."
        if self.status == 500:
            detail = f"The service failed at this request. Its log says why, under {self.id}."
        body = json.dumps({"detail": detail}).encode()
        told = [pair for pair in start["headers"] if not pair[0].startswith(b"content-")]
        kept = [pair for pair in start["headers"] if pair[0] == b"content-range"]
        headers = [
            *told,
            *kept,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await self._send({**start, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _linger(self) -> None:
        """Let a sender see the answer before the connection goes: a reset could overtake it."""
        left = _LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while left > 0:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        return
                    if not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))


def _request_id(given: bytes) -> str:
    said = given.decode("latin-1")
    return said if _REQUEST_ID.fullmatch(said) else uuid.uuid4().hex


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH")
    return scope["method"] if scope["method"] in known else "other"


def _route(scope: Scope) -> str:
    # The pattern, never the path: paths are the caller's, and without number.
    return str(getattr(scope.get("route"), "path", "") or "other")


def _is_json(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"application/json") for name, value in headers
    )
