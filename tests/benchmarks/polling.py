"""What waiting for many jobs costs: `python -m tests.benchmarks.polling`.

`JOBS` tracks of a second are given to a service in another process at once; the service takes
`HOLD` seconds for each. Measured, in a process of its own for each way to wait: the CPU's share and
the requests while all jobs are under way, the memory at its peak, the event loop's longest stall
then and while stems come home, and how long a finished job waits to be noticed. A stall is how much
longer than 5 ms a sleep of 5 ms takes; how much of it was the loop's own work shows in its thread's
CPU time. The peer is the usual script: a thread a job with a blocking client, asking every 10 s.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from tasks.contracts import STEMS, Mixture, SeparationSettings, SourceFormat, TrackRef
from tasks.separation.request import SeparationRequest
from tests.benchmarks.results import write_result

JOBS = 200
HOLD = 67.0
RATE = 44_100
PEER_PAUSE_S = 10.0
_BEAT_S = 0.005


# --- the service ------------------------------------------------------------------------------


@dataclass
class Service:
    """Jobs by number, each done `hold_s` after its submit."""

    hold_s: float
    stem: bytes
    base_url: str = ""
    submitted: list[float] = field(default_factory=list)
    noticed: dict[int, float] = field(default_factory=dict)
    asks: int = 0

    def answer(self, method: str, path: str) -> tuple[str, bytes]:
        if method == "POST":
            self.submitted.append(time.monotonic())
            return "202 Accepted", _json({"job_id": f"j{len(self.submitted)}", "status": "queued"})
        if path.startswith("/v1/stems/"):
            return "200 OK", self.stem
        if path == "/counts":
            return "200 OK", _json(self.counts())
        return "200 OK", _json(self.job(int(path.rsplit("/j", 1)[1])))

    def job(self, number: int) -> dict[str, object]:
        self.asks += 1
        done = self.submitted[number - 1] + self.hold_s
        if time.monotonic() < done:
            return {"job_id": f"j{number}", "status": "processing"}
        self.noticed.setdefault(number, time.monotonic() - done)
        urls = {name: f"{self.base_url}/stems/{number}/{name}.flac" for name in STEMS}
        return {"job_id": f"j{number}", "status": "complete", "stems": urls}

    def counts(self) -> dict[str, float]:
        waits = list(self.noticed.values()) or [0.0]
        return {
            "submits": len(self.submitted),
            "asks": self.asks,
            "noticed_after_s": sum(waits) / len(waits),
            "left_s": min(self.submitted, default=0.0) + self.hold_s - time.monotonic(),
        }


async def serve(hold_s: float) -> None:
    """HTTP/1.1 with as little machinery as can be: the clients are what is measured."""
    service = Service(hold_s, _stem())

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.decode("latin-1").split(" ", 2)
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                status, body = service.answer(method, path)
                writer.write(
                    f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
    service.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    print(service.base_url, flush=True)
    await server.serve_forever()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _stem() -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(7).normal(0, 0.1, (RATE, 2))
    soundfile.write(out, noise, RATE, subtype="PCM_24", format="FLAC")
    return out.getvalue()


# --- the ways to wait -------------------------------------------------------------------------


def through_the_separator(base_url: str, jobs: int, folder: Path, meter: Meter) -> None:
    """`CloudEngine`, as a run uses it, with the waits that are set by default."""
    from tasks.net.retries import RetryPolicy
    from tasks.separation.cloud import CloudEngine, make_provider

    path = folder / "mixture.flac"
    path.write_bytes(_stem())
    source = SourceFormat(
        container="flac", codec="flac", sample_rate_hz=RATE, channels=2, lossy=False
    )
    separator = CloudEngine(
        "htdemucs",
        provider=make_provider("stemwright", base_url=base_url),
        policy=RetryPolicy(max_retries=10_000),
        max_jobs=jobs,
        log_retries=False,
    )

    def work(number: int) -> None:
        mixture = Mixture(
            ref=TrackRef(source=str(path), kind="file", title=str(number)),
            track_id=f"{number:016x}",
            path=path,
            sample_rate_hz=RATE,
            channels=2,
            frames=RATE,
            bit_depth="24",
            peak=1.0,
            silent=False,
            source=source,
        )
        separator.separate(
            SeparationRequest(mixture, folder / str(number), SeparationSettings(model="htdemucs"))
        )

    separator._loop.start(meter.beat())
    in_threads(work, jobs)
    separator.close()


def a_thread_a_job(base_url: str, jobs: int, folder: Path, meter: Meter) -> None:
    """The usual script: a blocking client in each thread, asking every 10 s."""
    audio = _stem()

    def work(number: int) -> None:
        with httpx.Client(timeout=60) as client:
            fields = {"stems": "4", "format": "flac"}
            made = client.post(f"{base_url}/separate", data=fields, files={"audio": audio})
            url = f"{base_url}/jobs/{made.json()['job_id']}"
            while (job := client.get(url).json())["status"] != "complete":
                time.sleep(PEER_PAUSE_S)
            for name, stem in job["stems"].items():
                kept = folder / f"{number}-{name}.flac"
                kept.write_bytes(client.get(stem).content)
                assert len(soundfile.read(kept)[0]) == RATE

    in_threads(work, jobs)


def in_threads(work: Callable[[int], None], jobs: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


WAYS: dict[str, Callable[[str, int, Path, Meter], None]] = {
    "one loop (CloudEngine)": through_the_separator,
    "a thread a job, every 10 s": a_thread_a_job,
}


# --- measuring --------------------------------------------------------------------------------


class Meter:
    """Looks at this process while all jobs are under way, and at its event loop all the time."""

    def __init__(self, base_url: str, jobs: int) -> None:
        self._counts_url = base_url.removesuffix("/v1") + "/counts"
        self._jobs = jobs
        self._stall_s = self._busy_s = 0.0
        self.result: dict[str, Any] = {}

    async def beat(self) -> None:
        while True:
            began, worked = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_BEAT_S)
            self._stall_s = max(self._stall_s, time.perf_counter() - began - _BEAT_S)
            self._busy_s = max(self._busy_s, time.thread_time() - worked)

    async def beat_alone(self) -> float:
        """An idle loop's longest stall until stdin ends: what the machine itself does to one."""
        beating = asyncio.ensure_future(self.beat())
        await asyncio.to_thread(sys.stdin.read)
        beating.cancel()
        return 1000 * self._stall_s

    def watch(self) -> None:
        """From the last submit to just before the first job is done."""
        with httpx.Client() as client:
            while (first := client.get(self._counts_url).json())["submits"] < self._jobs:
                time.sleep(0.2)
            busy, began = time.process_time(), time.monotonic()
            self._stall_s = self._busy_s = 0.0
            time.sleep(max(1.0, first["left_s"] - 1.0))
            spent_s = time.monotonic() - began
            asks = client.get(self._counts_url).json()["asks"] - first["asks"]
            self.result["waiting"] = {
                "cpu": (time.process_time() - busy) / spent_s,
                "asks_a_s": asks / spent_s,
                "stall_ms": 1000 * self._stall_s,
                "busy_ms": 1000 * self._busy_s,
                "seconds": spent_s,
                "threads": threading.active_count(),
            }
            self._stall_s = self._busy_s = 0.0

    def run(self, work: Callable[[], None]) -> dict[str, Any]:
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        began = time.monotonic()
        work()
        watcher.join()
        counts = httpx.get(self._counts_url).json()
        return {
            **self.result,
            "seconds": time.monotonic() - began,
            "cpu_s": time.process_time(),
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "stall_ms": 1000 * self._stall_s,
            "busy_ms": 1000 * self._busy_s,
            "asks": counts["asks"],
            "noticed_after_s": counts["noticed_after_s"],
        }


def measure(way: str, jobs: int, hold_s: float) -> dict[str, Any]:
    """Run one way to wait in a process of its own against a service in another."""
    module = [sys.executable, "-m", "tests.benchmarks.polling"]
    options = ["--jobs", str(jobs), "--hold", str(hold_s)]
    with subprocess.Popen(
        [*module, "--serve", *options], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout
            base_url = server.stdout.readline().strip()
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
            with subprocess.Popen([*module, "--idle"], stdin=subprocess.PIPE, **pipes) as idle:
                asked = [*module, "--way", way, "--at", base_url, *options]
                done = subprocess.run(asked, check=True, **pipes)
                idle_ms = float(idle.communicate()[0])
        finally:
            server.terminate()
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | {"idle_ms": idle_ms}


def table(results: dict[str, dict[str, Any]], jobs: int, hold_s: float) -> str:
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("CPU while all are waited for, share of a core", lambda r: f"{r['waiting']['cpu']:.1%}"),
        ("requests a second, then", lambda r: f"{r['waiting']['asks_a_s']:.1f}"),
        ("event loop's longest stall, then", lambda r: _ms(r["waiting"]["stall_ms"])),
        (
            "of that at most the loop's own work, in CPU time",
            lambda r: _ms(r["waiting"]["busy_ms"]),
        ),
        ("event loop's longest stall, stems coming home", lambda r: _ms(r["stall_ms"])),
        ("of that at most the loop's own work, again", lambda r: _ms(r["busy_ms"])),
        ("an idle loop's longest stall, in another process", lambda r: _ms(r["idle_ms"])),
        ("threads, the callers' among them", lambda r: f"{r['waiting']['threads']}"),
        ("peak RSS", lambda r: f"{r['rss_mib']:.0f} MiB"),
        ("CPU of the whole run", lambda r: f"{r['cpu_s']:.1f} s"),
        ("asks in all", lambda r: f"{r['asks']}"),
        ("a finished job is noticed after, on average", lambda r: f"{r['noticed_after_s']:.1f} s"),
    ]
    lines = [
        f"{jobs} jobs at once at a service in another process, done {hold_s:.0f} s after each "
        "submit. Each way in a process of its own.",
        "",
        f"| | {' | '.join(results)} |",
        f"| --- | {' | '.join('---:' for _ in results)} |",
        *(f"| {name} | {' | '.join(show(r) for r in results.values())} |" for name, show in rows),
        "",
        f"Load average of the machine: {os.getloadavg()[0]:.1f}. Made by "
        "`python -m tests.benchmarks.polling`.",
    ]
    return "\n".join(lines)


def _ms(stall_ms: float) -> str:
    return f"{stall_ms:.0f} ms" if stall_ms else "no loop"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--hold", type=float, default=HOLD)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--at", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.hold))
    elif arguments.idle:
        print(asyncio.run(Meter("", 0).beat_alone()))
    elif arguments.way:
        meter = Meter(arguments.at, arguments.jobs)
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["STEMWRIGHT_STATE"] = f"{scratch}/state"
            way = WAYS[arguments.way]
            work = lambda: way(arguments.at, arguments.jobs, Path(scratch), meter)  # noqa: E731
            print(json.dumps(meter.run(work)))
    else:
        results = {way: measure(way, arguments.jobs, arguments.hold) for way in WAYS}
        write_result("polling", table(results, arguments.jobs, arguments.hold))


if __name__ == "__main__":
    main()
