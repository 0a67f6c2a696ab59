"""A model hub on a real loopback socket, as the hub's own client expects one; it misbehaves."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Asked(NamedTuple):
    """A request for a file's bytes: its name, and the first byte that was asked for."""

    name: str
    start: int


@dataclass
class LoopbackHub:
    """Repositories of files, each at one commit.

    Attributes:
        repos: A folder of files by `OWNER/NAME`.
        url: What `HF_ENDPOINT` is set to.
        asked: Every request for bytes, in order.
        break_after: Bytes after which a file's next answers are cut off, as often as listed.
        refuse: Statuses of the next answers to requests for bytes.
        spoil: Files whose bytes are sent changed.
        ignores_ranges: Every answer is the whole file.
    """

    repos: dict[str, Path]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    break_after: dict[str, list[int]] = field(default_factory=dict)
    refuse: list[int] = field(default_factory=list)
    spoil: set[str] = field(default_factory=set)
    ignores_ranges: bool = False

    def etag(self, name: str, body: bytes) -> str:
        if name.endswith(".yaml"):  # small files lie in git
            return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        return hashlib.sha256(body).hexdigest()

    def file(self, path: str) -> Path | None:
        """The file of a request's path."""
        found = re.fullmatch(r"/([^/]+/[^/]+)/(?:resolve/[^/]+|bytes)/(.+)", path)
        file = self.repos[found[1]] / found[2] if found and found[1] in self.repos else None
        return file if file and file.is_file() else None

    def command(self, *args: str, cache: Path, **env: str) -> subprocess.CompletedProcess[str]:
        """`stemwright ARGS` in a process of its own that knows this hub alone."""
        return subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", *args],
            env=os.environ
            | {
                "HF_ENDPOINT": self.url,
                "HF_HUB_CACHE": str(cache / "hub"),
                "XDG_CACHE_HOME": str(cache),
                "PYTHONPATH": os.pathsep.join(sys.path),
            }
            | env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body_too=False)

    def do_GET(self) -> None:
        self._answer(body_too=True)

    def _answer(self, *, body_too: bool) -> None:
        file = self.hub.file(self.path)
        if file is None:
            self._head(404, 0)
            return
        body = file.read_bytes()
        etag = f'"{self.hub.etag(file.name, body)}"'
        headers = {"ETag": etag, "X-Repo-Commit": COMMIT}
        if file.suffix == ".safetensors" and "/resolve/" in self.path:
            # A large file is elsewhere; this answer alone knows its digest and size.
            where = self.hub.url + re.sub("/resolve/[^/]+/", "/bytes/", self.path)
            linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(body)), "Location": where}
            self._head(302, 0, linked | {"X-Repo-Commit": COMMIT})
        elif body_too:
            self._body(file.name, body, headers)
        else:
            self._head(200, len(body), headers)

    def _body(self, name: str, body: bytes, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.hub.asked.append(Asked(name, start))
        if self.hub.refuse:
            self._head(self.hub.refuse.pop(0), 0)
            return
        start = 0 if self.hub.ignores_ranges else start
        if name in self.hub.spoil:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._head(206 if start else 200, len(body) - start, headers)
        breaks = self.hub.break_after.get(name)
        if breaks:
            self.close_connection = True
            body = body[: start + breaks.pop(0)]
        self.wfile.write(body[start:])

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def loopback_hub(repos: dict[str, Path]) -> Iterator[LoopbackHub]:
    hub = LoopbackHub(repos)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
