"""A real HTTP server on loopback whose answers can be good, slow or broken in named ways."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


@dataclass
class Site:
    """Answers by path, and every request that came: (path, headers in lower case)."""

    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def on(self, path: str, *answers: Answer) -> str:
        """Give these answers in turn, the last for good; returns the URL."""
        queue = list(answers)
        self.answers[path] = lambda handler: (queue.pop(0) if len(queue) > 1 else queue[0])(handler)
        return self.url + path

    def ranges(self, path: str) -> list[str]:
        """The Range header of each request for a path."""
        return [headers.get("range", "") for asked, headers in self.requests if asked == path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.site.requests.append((path, {k.lower(): v for k, v in self.headers.items()}))
        self.site.answers.get(path, status(404))(self)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def start(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()


def file(
    body: bytes, *, kind: str = "audio/flac", etag: str = '"v1"', cut: int = 0, stall: bool = False
) -> Answer:
    """A file with byte ranges; `cut` resets or stalls the connection after so many bytes."""

    def answer(handler: Handler) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-\d*", handler.headers.get("Range", ""))
        if handler.headers.get("If-Range", etag) != etag:
            wanted = None
        start = int(wanted[1]) if wanted else 0
        headers: dict[str, object] = {"Content_Type": kind, "Content_Length": len(body) - start}
        if etag:
            headers["ETag"] = etag
        if wanted and start >= len(body):
            handler.start(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
            return
        if wanted:
            headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.start(206 if wanted else 200, **headers)
        if not cut:
            handler.wfile.write(body[start:])
            return
        handler.wfile.write(body[start : start + cut])
        handler.wfile.flush()
        # The bytes before a reset must reach the client, or it resumes from nothing.
        handler.site.closing.wait(5.0 if stall else 0.1)
        handler.reset()

    return answer


def status(code: int, **headers: object) -> Answer:
    return lambda handler: handler.start(code, Content_Length=0, **headers)


def page(html: str) -> Answer:
    body = html.encode()

    def answer(handler: Handler) -> None:
        handler.start(200, Content_Type="text/html; charset=utf-8", Content_Length=len(body))
        handler.wfile.write(body)

    return answer


def redirect(to: str) -> Answer:
    return status(302, Location=to)


def endless(pause_s: float = 0.0) -> Answer:
    """Audio without a length and without an end."""

    def answer(handler: Handler) -> None:
        handler.start(200, Content_Type="audio/mpeg", Connection="close")
        handler.close_connection = True
        try:
            while not handler.site.closing.is_set():
                handler.wfile.write(b"\xff\xfb\x90\x00" * 256)
                time.sleep(pause_s)
        except OSError:
            pass

    return answer


def silent(handler: Handler) -> None:
    """Accepts the request and never answers."""
    handler.site.closing.wait(5.0)
    handler.reset()


@contextmanager
def serving() -> Iterator[Site]:
    site = Site()
    handler = type("BoundHandler", (Handler,), {"site": site})

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that go away are what these tests are about

    with Server(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield site
        finally:
            site.closing.set()
            server.shutdown()
            thread.join()
