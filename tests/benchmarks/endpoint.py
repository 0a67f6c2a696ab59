"""What separation costs the endpoint's callers: `python -m tests.benchmarks.endpoint`.

Starts `stemwright endpoint` with the embedded model, asks for its health and for a job at a steady
rate, first idle and then while it separates, and prints how long the answers took. Then uploads a
large file that isn't audio, and prints the speed and how much memory it cost.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import soundfile

from tests.benchmarks.results import write_result
from tests.endpoint.house import Client, Command, command

ASKS_PER_S = 50
SECONDS = 20.0
UPLOAD_MEGABYTES = 256
MEGABYTE = 1 << 20


def track(seconds: float, seed: int) -> bytes:
    """Seeded noise: each upload another one."""
    draw = np.random.default_rng(seed)
    file = io.BytesIO()
    soundfile.write(file, draw.normal(0, 0.1, (round(seconds * 44_100), 2)), 44_100, format="FLAC")
    return file.getvalue()


def asked(client: Client, path: str, seconds: float) -> list[float]:
    """Milliseconds of each answer, asked for at a steady rate."""
    took = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        client.ask("GET", path).raise_for_status()
        took.append(1000 * (time.perf_counter() - began))
        time.sleep(max(0.0, 1 / ASKS_PER_S - took[-1] / 1000))
    return took


def row(what: str, took: list[float]) -> str:
    middle, late = np.percentile(took, [50, 99])
    return f"| {what} | {len(took)} | {middle:.1f} | {late:.1f} | {max(took):.1f} |"


def memory_bytes(process_id: int, field: str) -> int:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def measure_answers(running: Command, seconds: float) -> list[str]:
    client = running.client
    first = client.submit(track(2.0, 0)).json()["job_id"]
    client.ended(first)
    rows = [
        row("health, idle", asked(client, "/healthz", seconds / 2)),
        row("a job, idle", asked(client, f"/v1/jobs/{first}", seconds / 2)),
    ]
    # Enough work for the whole time, whatever the machine.
    jobs = [client.submit(track(180.0, seed)).json()["job_id"] for seed in range(1, 4)]
    client.wait_for(jobs[0], "processing")
    rows.append(row("health, separating", asked(client, "/healthz", seconds)))
    rows.append(row("a job, separating", asked(client, f"/v1/jobs/{jobs[0]}", seconds)))
    if client.job(jobs[-1])["status"] != "queued":
        rows.append("| (the queue ran dry: a shorter time measures better) | | | | |")
    for job_id in jobs:
        client.ask("DELETE", f"/v1/jobs/{job_id}")
    return rows


def measure_upload(running: Command, megabytes: int) -> str:
    process_id = running.process.pid
    before = memory_bytes(process_id, "VmHWM")
    began = time.perf_counter()
    answer = running.client.submit(b"RIFF" + bytes(megabytes * MEGABYTE))
    took = time.perf_counter() - began
    assert answer.status_code == httpx.codes.UNSUPPORTED_MEDIA_TYPE
    grown = (memory_bytes(process_id, "VmHWM") - before) / MEGABYTE
    return (
        f"An upload of {megabytes} MiB took {took:.1f} s ({megabytes / took:.0f} MiB/s) and raised "
        f"the process's peak memory by {grown:.1f} MiB."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--megabytes", type=int, default=UPLOAD_MEGABYTES)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as data,
        command("--model", "embedded", "--data", data, "--offline") as running,
    ):
        upload = measure_upload(running, arguments.megabytes)
        rows = measure_answers(running, arguments.seconds)
    head = ["| answers | asked | median, ms | 99th percentile, ms | longest, ms |"]
    head.append("| --- | --- | --- | --- | --- |")
    write_result("endpoint", "\n".join([*head, *rows, "", upload]))


if __name__ == "__main__":
    main()
