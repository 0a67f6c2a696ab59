"""A cloud service is one class: here it stands in a test, and a whole run goes through it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import soundfile

from blocks import CloudSeparationApi, load_settings
from tasks.contracts import STEMS
from tasks.separation.cloud.jobs import ProviderJob, ProviderRequest
from tasks.separation.cloud.providers.base import CloudProvider, Reply
from tasks.separation.cloud.transport import Transport
from tests.flows.studio import run_catalog, write_config, write_track

KEY = "sk-attic-secret"


class _Upload(Reply):
    ticket: str


class _Ticket(Reply):
    state: str
    files: dict[str, str] | None = None


class Attic(CloudProvider):
    """A service that takes a track in one request and hands out its stems by a ticket."""

    name = "attic"
    defaults: ClassVar[Mapping[str, str]] = {"usd_per_track": "0.25"}
    stems: ClassVar[Mapping[str, str]] = {stem: stem.upper() for stem in STEMS}

    def auth(self) -> dict[str, str]:
        return {"x-attic-key": self._key.get_secret_value()}

    async def submit(self, transport: Transport, request: ProviderRequest) -> ProviderJob:
        answer = await transport.send(
            "POST", "/tracks", asked_for="the upload", repeat="unsent", content=request.path
        )
        return ProviderJob(job_id=answer.parsed(_Upload).ticket, status="queued")

    async def ask(
        self, transport: Transport, job: ProviderJob, request: ProviderRequest
    ) -> ProviderJob:
        answer = await transport.send(
            "GET", f"/tracks/{job.job_id}", asked_for="the ticket", repeat="never"
        )
        found = answer.parsed(_Ticket)
        if found.files is None:
            return job.model_copy(update={"status": "processing"})
        stems = {stem: found.files[self.stem_names[stem]] for stem in request.stems}
        return job.model_copy(update={"status": "complete", "stems": stems})

    async def forget(self, transport: Transport, job: ProviderJob) -> None:
        await transport.send(
            "DELETE", f"/tracks/{job.job_id}", asked_for="the ticket", repeat="safe"
        )

    def price_usd(self, request: ProviderRequest) -> float:
        return self.number("usd_per_track")


class AtticServer(BaseHTTPRequestHandler):
    """The other side: done at the second look, each stem a quarter of the track."""

    seen: ClassVar[list[str]]
    tracks: ClassVar[dict[str, bytes]]

    def do_POST(self) -> None:
        ticket = f"t{len(self.tracks)}"
        self.tracks[ticket] = self.rfile.read(int(self.headers["content-length"]))
        self._json({"ticket": ticket})

    def do_GET(self) -> None:
        _, _, ticket, *stem = self.path.split("/")
        if stem:
            self._send(_quarter(self.tracks[ticket]), "audio/flac")
        elif f"GET {self.path}" not in self.seen:
            self._json({"state": "at it"})
        else:
            host = self.headers["host"]
            files = {
                name: f"http://{host}/tracks/{ticket}/{name}" for name in map(str.upper, STEMS)
            }
            self._json({"state": "done", "files": files})

    def do_DELETE(self) -> None:
        self._json({})

    def _json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        self.seen.append(f"{self.command} {self.path}")
        self.send_response(200 if self.headers["x-attic-key"] == KEY else 401)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None: ...


def _quarter(track: bytes) -> bytes:
    samples, rate = soundfile.read(io.BytesIO(track), dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples / 4, rate, format="FLAC", subtype="PCM_24")
    return file.getvalue()


@contextmanager
def attic() -> Iterator[tuple[str, list[str]]]:
    """The server at its address, and what it was asked for."""
    seen: list[str] = []
    handler = type("Handler", (AtticServer,), {"seen": seen, "tracks": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.usefixtures("prefect_server")
def test_a_run_goes_through_it(tmp_path: Path) -> None:
    with attic() as (address, seen):
        engine = {
            "provider": "cloud",
            "service": "attic",
            "api_key": KEY,
            "base_url": address,
            "max_backoff_seconds": 0.05,
        }
        config = write_config(tmp_path / "c.yaml", tmp_path / "no-models", engine=engine)
        source = write_track(tmp_path / "song.flac")
        ran = run_catalog([source], tmp_path / "library", config)
    assert (ran.summary.done, ran.summary.failed) == (1, 0)
    made = ran.report("song.flac").stem_set
    assert (made.engine, made.provider, made.route) == ("cloud", "attic", ("attic",))
    assert made.stem_origins == dict.fromkeys(STEMS, "attic")
    assert made.cost_usd == 0.25
    assert seen[:3] == ["POST /tracks", "GET /tracks/t0", "GET /tracks/t0"]
    assert sorted(seen[3:7]) == sorted(f"GET /tracks/t0/{stem.upper()}" for stem in STEMS)
    # The library has it, so the service needn't.
    assert seen[7:] == ["DELETE /tracks/t0"]


def test_settings_and_blocks_know_it() -> None:
    service = {"service": "attic", "api_key": KEY, "base_url": "https://attic.test"}
    settings = load_settings(overrides={"engine": {"alternatives": [service]}}, environ={})
    assert [one.label for one in settings.services] == ["attic"]
    assert settings.cloud_configured
    assert CloudSeparationApi.model_validate(service).service == "attic"
