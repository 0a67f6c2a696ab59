"""Jobs and stems outlive the process, however it ends."""

from __future__ import annotations

import signal
from pathlib import Path

from deployments.endpoint.jobs import JobStore
from tests.endpoint.conftest import Runner
from tests.endpoint.house import audio, command, held_device, kill, until

HALF_SECOND = audio(0.5)
MEGABYTE = 1 << 20


def peak_bytes(process_id: int) -> int:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def test_killed_and_started_again_then_told_to_end(models_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    options = ("--model", "tiny", "--models-dir", models_dir, "--data", data, "--offline")
    with command(*options) as first:
        client = first.client
        assert first.banner["model"] == "tiny"
        assert first.banner["data"] == str(data)
        assert first.banner["keys"] == "1 key"
        done = client.ended(client.submit(HALF_SECOND).json()["job_id"])

        # An upload goes to the disk as it comes: memory doesn't grow with it.
        before = peak_bytes(first.process.pid)
        large = b"RIFF" + bytes(96 * MEGABYTE)
        assert client.submit(large).status_code == 415
        assert peak_bytes(first.process.pid) - before < 24 * MEGABYTE

        with held_device():
            in_hand = client.submit(HALF_SECOND, idempotency_key="in hand").json()["job_id"]
            client.wait_for(in_hand, "processing")
            waiting = client.submit(HALF_SECOND, stems="vocals").json()["job_id"]
            kill(first.process)
    (data / "uploads" / "half").write_bytes(b"never finished")
    (data / "jobs" / "orphan").mkdir()

    with command(*options, "--grace-seconds", "60") as second:
        client = second.client
        assert client.ended(in_hand)["status"] == "complete"
        assert list(client.ended(waiting)["stems"]) == ["vocals"]
        again = client.submit(HALF_SECOND, idempotency_key="in hand")
        assert again.json()["job_id"] == in_hand
        at = f"/v1/jobs/{done['job_id']}/stems/bass.wav"
        assert client.ask("GET", at).status_code == 200
        assert not list((data / "uploads").iterdir())
        assert not (data / "jobs" / "orphan").exists()

        with held_device():
            last = client.submit(HALF_SECOND).json()["job_id"]
            client.wait_for(last, "processing")
            never_begun = client.submit(HALF_SECOND).json()["job_id"]
            second.process.send_signal(signal.SIGTERM)

            def refused() -> dict[str, str] | None:
                answer = client.submit(HALF_SECOND)
                return dict(answer.headers) if answer.status_code == 503 else None

            # No new work, but answers as before.
            assert int(until(refused, "submits to be refused")["retry-after"]) > 0
            assert client.http.get("/healthz").json()["status"] == "stopping"
            assert client.job(last)["status"] == "processing"
        assert second.process.wait(60) == 0
    assert all("key-of" not in str(line) for line in (*first.logged, *second.logged))
    assert any(line["message"] == "taken up again" for line in second.logged)

    store = JobStore(data / "jobs.sqlite3")
    jobs = {job_id: store.get(job_id) for job_id in (last, never_begun)}
    store.close()
    statuses = {job_id: job.status for job_id, job in jobs.items() if job}
    assert statuses == {last: "complete", never_begun: "queued"}


def test_out_of_grace_the_job_in_hand_is_put_back(start: Runner, tmp_path: Path) -> None:
    with start() as endpoint:
        client = endpoint.client
        job_id = client.submit(audio(60.0)).json()["job_id"]

        def begun() -> bool | None:
            return client.job(job_id)["progress"] > 0 or None

        until(begun, "the separation to begin")
        endpoint.service.wind_down(0.0)
        assert client.job(job_id)["status"] == "queued"
        job = endpoint.service.store.get(job_id)
        assert job is not None
        # Being put back is not a failed attempt.
        assert job.attempts == 0
        assert endpoint.service.folder.upload(job_id).is_file()
    with start() as endpoint:
        assert endpoint.client.wait_for(job_id, "processing", "complete")
        assert endpoint.client.ask("DELETE", f"/v1/jobs/{job_id}").status_code == 204


def test_a_second_signal_does_not_wait_for_the_job_in_hand(start: Runner) -> None:
    with start(grace_s=600.0) as endpoint, held_device():
        job_id = endpoint.client.submit(HALF_SECOND).json()["job_id"]
        endpoint.client.wait_for(job_id, "processing")
        endpoint.server.handle_exit(signal.SIGTERM, None)
        until(lambda: endpoint.service.stopping.is_set() or None, "the end to begin")
        assert endpoint.client.job(job_id)["status"] == "processing"
        endpoint.server.handle_exit(signal.SIGTERM, None)
        until(lambda: endpoint.server.should_exit or None, "the server to end")
        found = endpoint.service.store.get(job_id)
        assert found is not None
        assert found.status == "queued"
