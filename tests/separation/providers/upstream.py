"""A paid service on real loopback sockets: what is common to the five that we speak to.

Each has its API on one port and its storage on another, as the real ones do, so that a key that
strays to the storage is seen.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import soundfile

from tests.separation.loopback import parts_of

KEY = "key-of-the-paying-user"
Reply = tuple[int, dict[str, str], bytes]
LOST: Reply = (0, {}, b"")
"""Hang up without an answer."""


def as_json(status: int, value: Any, **headers: str) -> Reply:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, {"content-type": "application/json", **named}, json.dumps(value).encode()


@dataclass
class Call:
    """What arrived, and on which of the two ports."""

    at: str
    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def files(self) -> dict[str, bytes]:
        return parts_of(self.headers.get("content-type", ""), self.body)


class Upstream:
    """A service's state: what was uploaded, which jobs there are, what it keeps for download.

    `instead` holds answers given in place of the real ones, by method and path. `lost` counts how
    often the answer to a call is lost after the service acted on it. `patience` is how often a job
    says that it isn't done. With `short_lived`, all URLs handed out before the first download have
    expired by then. `not_made` maps a stem in the service's words to what goes wrong.
    """

    def __init__(self) -> None:
        self.api = ""
        self.storage = ""
        self.calls: list[Call] = []
        self.instead: dict[str, list[Reply]] = {}
        self.lost: dict[str, int] = {}
        self.uploads: dict[str, bytes] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, bytes] = {}
        self.expired: set[str] = set()
        self.short_lived = False
        self.patience = 2
        self.not_made: dict[str, str] = {}

    def answer(self, call: Call) -> Reply:
        self.calls.append(call)
        what = f"{call.method} {call.path}"
        if waiting := self.instead.get(what):
            return waiting.pop(0)
        if call.at == "storage":
            return self.stored(call)
        reply = self.route(call) if self.has_key(call) else self.no_key(call)
        if self.lost.get(what, 0):
            self.lost[what] -= 1
            return LOST
        return reply

    def has_key(self, call: Call) -> bool:
        raise NotImplementedError

    def no_key(self, call: Call) -> Reply:
        return as_json(401, {"detail": "no valid key"})

    def route(self, call: Call) -> Reply:
        raise NotImplementedError

    def stored(self, call: Call) -> Reply:
        """The storage: presigned PUTs, and GETs of what jobs made until that expires."""
        if call.method == "PUT":
            self.uploads[call.path] = call.body
            return 200, {}, b""
        if self.short_lived:
            self.short_lived = False
            self.expired |= set(self.kept)
        if call.path in self.expired or call.path not in self.kept:
            xml = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
            return 403, {"content-type": "application/xml"}, xml
        return 200, {"content-type": "audio/x"}, self.kept[call.path]

    def keep(self, upload: bytes, name: str, format: str, share: float = 0.25) -> str:
        """Make a stem, a share of the mixture, and give its URL: another one each time."""
        path = f"/made/{len(self.kept)}/{name}.{format}"
        samples, rate = soundfile.read(io.BytesIO(upload), always_2d=True)
        body = io.BytesIO()
        soundfile.write(body, samples * share, rate, subtype="PCM_24", format=format.upper())
        self.kept[path] = body.getvalue()
        return f"{self.storage}{path}"

    def asked(self, job: dict[str, Any]) -> bool:
        """Count an ask; whether the job is done by now."""
        job["asks"] = job.get("asks", 0) + 1
        return bool(job["asks"] > self.patience)

    def count(self, pattern: str) -> int:
        return len(self.sent(pattern))

    def sent(self, pattern: str) -> list[Call]:
        return [c for c in self.calls if re.fullmatch(pattern, f"{c.method} {c.path}")]

    def strays(self) -> list[Call]:
        """The calls to the storage that brought the key along."""
        return [c for c in self.calls if c.at == "storage" and KEY in str(c.headers)]


U = TypeVar("U", bound=Upstream)


@contextmanager
def serving(upstream: U) -> Iterator[U]:
    """Serve its API and its storage on two free ports of 127.0.0.1."""
    servers = [_listen(upstream, at) for at in ("api", "storage")]
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        for server in servers
    ]
    for thread in threads:
        thread.start()
    upstream.api, upstream.storage = (f"http://127.0.0.1:{s.server_port}" for s in servers)
    try:
        yield upstream
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # a client that hangs up is part of the tests


def _listen(upstream: Upstream, at: str) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_any(self) -> None:
            call = Call(at, self.command, self.path, self.headers, self._body())
            status, headers, body = upstream.answer(call)
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("transfer-encoding", ""):
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole

    return _Server(("127.0.0.1", 0), Handler)
