"""What the endpoint tells those who run it, and what it keeps to itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.endpoint.logs import JsonLines
from deployments.endpoint.service import Service
from tests.endpoint.conftest import Runner
from tests.endpoint.house import KEY, OTHER_KEY, Client, audio, held_device, until

HALF_SECOND = audio(0.5)
PREFIX = "stemwright_endpoint_"


class Lines(logging.Handler):
    """What would have been written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def saying(self, message: str) -> list[dict[str, object]]:
        parsed = [json.loads(line) for line in self.lines]
        return [line for line in parsed if line["message"] == message]


@pytest.fixture
def written() -> Iterator[Lines]:
    logger = logging.getLogger("deployments.endpoint")
    handler, level = Lines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def measured(client: Client) -> dict[str, float]:
    """Each sample by its name and labels."""
    answer = client.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name.removeprefix(PREFIX)
        + "".join(f" {v}" for v in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_tell_of_requests_jobs_and_speed(start: Runner) -> None:
    with start(queue=1) as endpoint:
        client = endpoint.client
        before = measured(client)
        assert before["queue_length"] == 0
        assert "realtime_factor" not in before
        client.ended(client.submit(HALF_SECOND).json()["job_id"])
        client.ended(client.submit(HALF_SECOND[:20_000]).json()["job_id"])
        with held_device():
            job_id = client.submit(HALF_SECOND).json()["job_id"]
            client.wait_for(job_id, "processing")
            client.submit(HALF_SECOND)
            assert client.submit(HALF_SECOND).status_code == 429
            client.http.get("/jobs/unknown/path/entirely")
            found = measured(client)
        assert found["queue_length"] == found["jobs queued"] == 1
        assert found["jobs processing"] == found["jobs complete"] == found["jobs failed"] == 1
        assert found["jobs_ended_total complete"] == found["jobs_ended_total failed"] == 1
        assert found["requests_total POST /separate 202"] == 4
        assert found["requests_total POST /separate 429"] == 1
        assert found["requests_total GET other 404"] == 1
        assert found["separation_seconds_count"] == 1
        assert found["audio_seconds_total"] == 0.5
        assert found["realtime_factor"] > 0
        assert found["upload_bytes_total"] > 3 * len(HALF_SECOND)


def test_lines_are_json_with_ids_and_no_secrets(start: Runner, written: Lines) -> None:
    with start() as endpoint:
        client = endpoint.client
        client.submit(HALF_SECOND, filename="unreleased single.flac")
        secret = {"x-request-id": "trace-17"}
        made = client.submit(HALF_SECOND, filename="unreleased single.flac", stems="vocals").json()
        client.ask("GET", f"/jobs/{made['job_id']}?key={KEY}", headers=secret)
        Client(client.http, "wrong-but-secret").ask("GET", f"/jobs/{made['job_id']}")
        client.ended(made["job_id"])
        answer = client.ask("GET", "/jobs/x", headers={"x-request-id": "no id\x7f"})
        assert answer.headers["x-request-id"] != "no id\x7f"
    requests = written.saying("request")
    asked = next(line for line in requests if line["request_id"] == "trace-17")
    assert asked["route"] == "/jobs/{job_id}"
    assert asked["job_id"] == made["job_id"]
    assert asked["status"] == 200
    assert isinstance(asked["duration_ms"], float)
    took = [line for line in requests if line["route"] == "/separate"]
    assert took[-1]["job_id"] == made["job_id"]
    ended = [line for line in written.saying("job ended") if line["job_id"] == made["job_id"]]
    assert ended[0]["status"] == "complete"
    everything = "\n".join(written.lines)
    for hidden in (KEY, OTHER_KEY, "wrong-but-secret", "unreleased", "Bearer"):
        assert hidden not in everything


def test_a_fault_of_ours_is_500_with_an_id_and_no_more(
    start: Runner, written: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("/secret/path")

    with start() as endpoint:
        monkeypatch.setattr(Service, "standing", broken)
        job = endpoint.client.submit(HALF_SECOND)
        assert job.status_code == 500
        said = job.json()["detail"]
        assert job.headers["x-request-id"] in said
        assert "/secret/path" not in said
        assert endpoint.client.http.get("/healthz").status_code == 200
        monkeypatch.undo()
    assert any("ZeroDivisionError" in line for line in written.lines)


def test_a_failure_inside_a_job_names_no_folder(
    start: Runner, written: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start() as endpoint:
        client = endpoint.client
        with held_device():
            first = client.submit(HALF_SECOND).json()["job_id"]
            client.wait_for(first, "processing")
            job_id = client.submit(HALF_SECOND).json()["job_id"]
            endpoint.service.folder.upload(job_id).unlink()
        job = client.ended(job_id)
        assert job["status"] == "failed"
        assert job["error_message"] == (
            f"The service failed at this job. Its log says why, under the job {job_id}."
        )
        # The next one is none the worse for it.
        assert client.ended(first)["status"] == "complete"
    assert any(job_id in line and "SourceMissing" in line for line in written.lines)


def test_health_says_when_nothing_separates_any_more(start: Runner) -> None:
    with start() as endpoint:
        endpoint.service.worker.stop()
        until(lambda: not endpoint.service.worker.alive or None, "the worker to end")
        answer = endpoint.client.http.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (503, "broken")
