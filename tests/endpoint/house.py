"""A real endpoint on a loopback socket: in a thread of this process, or as the command."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import soundfile

from deployments.endpoint.engines import Engines
from deployments.endpoint.keys import Keys
from deployments.endpoint.server import Server, bind
from deployments.endpoint.service import Service
from deployments.endpoint.settings import EndpointSettings
from tasks.contracts import SeparationSettings
from tasks.separation.device_lock import DeviceLock
from tasks.separation.factory import EngineOptions

T = TypeVar("T")

KEY, OTHER_KEY = "key-of-the-first-caller", "key-of-another-caller"
RATE = 44_100
PATIENCE_S = 60.0
SCRIPT = Path(sys.executable).with_name("stemwright")


def until(found: Callable[[], T | None], what: str) -> T:
    """Ask until there is an answer."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (answer := found()) is not None:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited for {what} in vain")


def audio(seconds: float = 1.0, *, seed: int = 7, format: str = "FLAC", rate: int = RATE) -> bytes:
    """Seeded stereo noise as a 16-bit file."""
    draw = np.random.default_rng(seed)
    samples = draw.normal(0, 0.1, (round(seconds * rate), 2))
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype="PCM_16")
    return file.getvalue()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@dataclass
class Client:
    """What a caller does, with one key."""

    http: httpx.Client
    key: str = KEY
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        headers = bearer(self.key) | self.headers | how.pop("headers", {})
        return self.http.request(method, path, headers=headers, **how)

    def submit(
        self,
        content: bytes | None = None,
        *,
        filename: str = "song.flac",
        idempotency_key: str | None = None,
        **fields: str,
    ) -> httpx.Response:
        headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
        files = {"audio": (filename, audio() if content is None else content)}
        return self.ask("POST", "/v1/separate", files=files, data=fields, headers=headers)

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.ask("GET", f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait_for(self, job_id: str, *statuses: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["status"] in statuses else None

        return until(reached, f"the job to be {' or '.join(statuses)}")

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.wait_for(job_id, "complete", "failed")


@dataclass
class Endpoint:
    """One that runs in this process."""

    service: Service
    server: Server
    client: Client

    def as_other(self) -> Client:
        return Client(self.client.http, OTHER_KEY)


@contextmanager
def running(
    models_dir: Path, data: Path, *, keys: Keys | None = None, **set_: Any
) -> Iterator[Endpoint]:
    """An endpoint with the tiny model, which separates on the CPU."""
    settings = EndpointSettings(data=data, port=0, **set_)
    options = EngineOptions(
        settings=SeparationSettings(model="tiny"),
        provider="local_cpu",
        models_dir=models_dir,
        offline=True,
    )
    service = Service(
        settings,
        Keys((KEY, OTHER_KEY)) if keys is None else keys,
        Engines(options),
    )
    with bind(settings) as listening:
        server = Server(service)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        until(lambda: server.started or None, "the server to start")
        where = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(base_url=where, timeout=PATIENCE_S) as http:
            yield Endpoint(service, server, Client(http))
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextmanager
def held_device() -> Iterator[None]:
    """Nothing is separated meanwhile: the job in hand waits for the device."""
    with DeviceLock("cpu").held(lambda: False):
        yield


@dataclass
class Command:
    """`stemwright endpoint` as a process of its own."""

    process: subprocess.Popen[str]
    client: Client
    banner: dict[str, str]
    logged: list[dict[str, Any]]

    def end(self, sig: int) -> int:
        self.process.send_signal(sig)
        return self.process.wait(PATIENCE_S)


@contextmanager
def command(*options: object, env: Mapping[str, str] | None = None) -> Iterator[Command]:
    """Run the command until it serves; it is killed in the end, if it still runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEMWRIGHT_")}
    process = subprocess.Popen(
        [SCRIPT, "endpoint", "--port", "0", *map(str, options)],
        env=kept
        | {"OMP_NUM_THREADS": "1", "TMPDIR": tempfile.gettempdir(), "STEMWRIGHT_ENDPOINT_KEYS": KEY}
        | dict(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    logged: list[dict[str, Any]] = []

    def read_log() -> None:
        assert process.stderr is not None
        logged.extend(json.loads(line) for line in process.stderr if line.startswith("{"))

    reader = threading.Thread(target=read_log, daemon=True)
    reader.start()
    try:
        assert process.stdout is not None
        banner = dict(_pairs(process.stdout))
        where = banner["base URL"].removesuffix("/v1")
        with httpx.Client(base_url=where, timeout=PATIENCE_S) as http:
            until(lambda: _answers(http), "the endpoint to answer")
            yield Command(process, Client(http), banner, logged)
    finally:
        process.kill()
        process.wait()
        reader.join(PATIENCE_S)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def kill(process: subprocess.Popen[str]) -> None:
    """End it as a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def connect(http: httpx.Client) -> socket.socket:
    """A bare connection to the same server."""
    where = http.base_url
    return socket.create_connection((where.host, where.port or 80), timeout=PATIENCE_S)


def _pairs(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.strip().partition("  ")
        yield name, value.strip()
        if name == "keys":
            return


def _answers(http: httpx.Client) -> bool | None:
    try:
        return http.get("/healthz").status_code == 200 or None
    except httpx.TransportError:
        return None
