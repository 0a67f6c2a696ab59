"""A separation service on a real loopback socket, which misbehaves on request."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import soundfile

from tasks.contracts import STEMS

KEY = "sk-loopback-secret"
Answer = tuple[int, dict[str, str], bytes]
Misdeed = Callable[[BaseHTTPRequestHandler], None]
"""What a server may do to a connection; called before the request's body is read."""


def as_json(status: int, value: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, {"content-type": "application/json", **named}, json.dumps(value).encode()


@dataclass
class Request:
    """What arrived."""

    method: str
    path: str
    headers: Message
    fields: dict[str, bytes]


@dataclass
class LoopbackService:
    """Jobs are complete at the second ask; each stem is a quarter of what was uploaded.

    `planned` holds answers that are given instead of the real ones, first come first served, by
    method and the path's first part: `"POST separate"`, `"GET jobs"`, `"GET stems"`; or misdeeds.
    `leave_out` are stems that a complete job doesn't name. `spoil` may change a stem's bytes.
    `more` are further fields of a complete job, `stems_at` another home of its stems. `jobs` are
    those that it accepted, and would be paid for; `forgotten` those that it was asked to remove.
    """

    base_url: str = ""
    requests: list[Request] = field(default_factory=list)
    planned: dict[str, list[Answer | Misdeed]] = field(default_factory=dict)
    leave_out: set[str] = field(default_factory=set)
    spoil: Callable[[str, bytes], bytes] = lambda name, body: body
    more: dict[str, Any] = field(default_factory=dict)
    stems_at: str = ""
    forgotten: list[str] = field(default_factory=list)
    jobs: dict[str, Request] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def count(self, what: str) -> int:
        return sum(kind_of(request) == what for request in self.requests)

    def misdeed(self, request: Request) -> Misdeed | None:
        """The misdeed that is due for a request, if one is."""
        waiting = self.planned.get(kind_of(request))
        if not waiting or not callable(waiting[0]):
            return None
        self.requests.append(request)
        due = waiting.pop(0)
        return due if callable(due) else None

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if waiting := self.planned.get(kind_of(request)):
            due = waiting.pop(0)
            assert not callable(due)
            return due
        stem = re.fullmatch(r"/v1/stems/([^/]+)/(\w+)\.\w+", request.path)
        if stem:
            return self._stem(stem[1], stem[2])
        if request.headers["authorization"] != f"Bearer {KEY}":
            return as_json(401, {"detail": "no valid key"})
        if request.method == "POST":
            key = request.headers["idempotency-key"]
            self.jobs.setdefault(key, request)
            return as_json(202, {"job_id": key, "status": "queued", "eta_s": 3})
        job_id = request.path.rsplit("/", 1)[1]
        if request.method == "DELETE":
            self.forgotten.append(job_id)
            return 204, {}, b""
        return self._job(job_id)

    def _job(self, job_id: str) -> Answer:
        if job_id not in self.jobs:
            return as_json(404, {"detail": "no such job"})
        self.asked[job_id] += 1
        if self.asked[job_id] == 1:
            return as_json(200, {"job_id": job_id, "status": "processing"})
        asked = self.jobs[job_id].fields["stems"].decode()
        names = STEMS if asked == "4" else tuple(asked.split(","))
        suffix = self.jobs[job_id].fields["format"].decode()
        home = self.stems_at or self.base_url
        urls = {n: f"{home}/stems/{job_id}/{n}.{suffix}" for n in names if n not in self.leave_out}
        return as_json(200, {"job_id": job_id, "status": "complete", "stems": urls, **self.more})

    def _stem(self, job_id: str, name: str) -> Answer:
        job = self.jobs[job_id]
        samples, rate = soundfile.read(io.BytesIO(job.fields["audio"]), always_2d=True)
        body = io.BytesIO()
        kind = job.fields["format"].decode().upper()
        soundfile.write(body, samples / 4, rate, subtype="PCM_24", format=kind)
        return 200, {"content-type": "audio/x"}, self.spoil(name, body.getvalue())


def kind_of(request: Request) -> str:
    return f"{request.method} {request.path.split('/')[2]}"


@contextmanager
def serve(state: LoopbackService | None = None) -> Iterator[LoopbackService]:
    """Run a service on a free port of 127.0.0.1; with the state of an earlier one, on its port."""
    service = state or LoopbackService()
    port = int(service.base_url.split(":")[2].split("/")[0]) if state else 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self._handle()

        def do_GET(self) -> None:
            self._handle()

        def do_DELETE(self) -> None:
            self._handle()

        def _handle(self) -> None:
            misdeed = service.misdeed(Request(self.command, self.path, self.headers, {}))
            if misdeed:
                self.close_connection = True
                misdeed(self)
                return
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            fields = parts_of(self.headers.get("content-type", ""), body)
            request = Request(self.command, self.path, self.headers, fields)
            status, headers, answer = service.answer(request)
            if status == 0:  # hang up without an answer
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"content-length": str(len(answer)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that hangs up is part of the tests

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    service.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close without a word."""


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Read a little of the body, then break the connection off with a TCP reset."""
    handler.rfile.read(min(1000, int(handler.headers.get("content-length") or 0)))
    _reset(handler)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Begin an answer, and go on with it byte by byte, for as long as anybody listens."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    try:
        for _ in range(3000):
            handler.wfile.write(b" ")
            time.sleep(0.01)
    except OSError:
        pass


def torn(answer: Answer) -> Misdeed:
    """The first half of an answer, then a TCP reset."""

    def tear(handler: BaseHTTPRequestHandler) -> None:
        status, headers, body = answer
        handler.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        _reset(handler)

    return tear


def _reset(handler: BaseHTTPRequestHandler) -> None:
    # Closing with a linger of zero seconds sends RST rather than FIN.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def parts_of(content_type: str, body: bytes) -> dict[str, bytes]:
    """The fields of a multipart form."""
    found = re.search(r"boundary=(\S+)", content_type)
    if not found:
        return {}
    fields = {}
    for part in body.split(b"--" + found[1].encode())[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        named = re.search(rb'name="(\w+)"', head)
        assert named
        fields[named[1].decode()] = value[:-2]
    return fields
