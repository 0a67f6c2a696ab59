"""Nothing that a caller sends can fill the memory, the disk or the queue."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deployments.endpoint.folder import DataFolder
from deployments.endpoint.jobs import STATUSES, Job, JobStore
from deployments.endpoint.middleware import _LINGER_BYTES
from deployments.endpoint.pace import Pace, retry_after
from tests.endpoint.conftest import Runner
from tests.endpoint.house import KEY, Client, Endpoint, audio, connect, held_device, until

HALF_SECOND = audio(0.5)
MEGABYTE = 1 << 20
BEGIN = b"--b\r\nContent-Disposition: form-data; name=audio; filename=song.wav\r\n\r\n"
HEAD = (
    "POST /separate HTTP/1.1\r\nHost: localhost\r\n"
    f"Authorization: Bearer {KEY}\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n"
)


def leftovers(data: Path) -> list[Path]:
    return [path for folder in ("uploads", "jobs") for path in (data / folder).iterdir()]


def uploaded(endpoint: Endpoint) -> float:
    registry = endpoint.service.metrics.registry
    return registry.get_sample_value("stemwright_endpoint_upload_bytes_total") or 0.0


def answered(connection: socket.socket) -> tuple[int, str]:
    """The status line's number, and all that was answered."""
    said = b""
    while block := connection.recv(65_536):
        said += block
    return int(said.split(b" ", 2)[1]), said.decode()


def test_a_declared_length_over_the_limit_is_refused_before_the_body(start: Runner) -> None:
    with start(max_upload_bytes=MEGABYTE) as endpoint, connect(endpoint.client.http) as bare:
        bare.sendall(
            f"{HEAD}Content-Length: {5 * MEGABYTE}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        status, said = answered(bare)
        assert status == 413
        assert "100 Continue" not in said
        assert '{"detail":"The audio is larger than 1048576 bytes.' in said


def test_reading_stops_at_the_limit(start: Runner, tmp_path: Path) -> None:
    with start(max_upload_bytes=MEGABYTE) as endpoint, connect(endpoint.client.http) as bare:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        bare.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        block = b"%x\r\n%s\r\n" % (65_536, bytes(65_536))
        sent = 0
        bare.sendall(b"%x\r\n%s\r\n" % (len(BEGIN), BEGIN))
        # It would go on for ever: the server has to end it.
        with suppress(ConnectionError):
            while sent < 512 * MEGABYTE:
                bare.sendall(block)
                sent += len(block)
        read = uploaded(endpoint)
        # Beyond the limit only what one read of the socket had already brought.
        assert MEGABYTE <= read <= MEGABYTE + 2 * 262_144
        # Beyond that: what it lingers for, and what the kernel's buffers hold.
        assert sent <= MEGABYTE + _LINGER_BYTES + 8 * MEGABYTE
        assert leftovers(tmp_path / "data") == []


def test_nothing_after_the_form_is_read_for_ever(start: Runner) -> None:
    def endless() -> Iterator[bytes]:
        yield BEGIN + HALF_SECOND + b"\r\n--b--\r\n"
        while True:
            yield bytes(65_536)

    with start(max_upload_bytes=MEGABYTE) as endpoint:
        kind = {"content-type": "multipart/form-data; boundary=b"}
        answer = endpoint.client.ask("POST", "/separate", content=endless(), headers=kind)
        assert answer.status_code == 413
        assert uploaded(endpoint) < 2 * MEGABYTE


def test_a_sender_that_is_refused_in_mid_upload_sees_why(start: Runner) -> None:
    def endless() -> Iterator[bytes]:
        yield BEGIN
        while True:
            yield bytes(65_536)

    with start(max_upload_bytes=MEGABYTE) as endpoint:
        kind = {"content-type": "multipart/form-data; boundary=b"}
        answer = endpoint.client.ask("POST", "/separate", content=endless(), headers=kind)
        assert answer.status_code == 413
        assert answer.headers["connection"] == "close"
        no_key = endpoint.client.http.post("/separate", content=endless(), headers=kind)
        assert no_key.status_code == 401


def test_an_upload_at_the_limit_is_taken(start: Runner) -> None:
    with start(max_upload_bytes=len(HALF_SECOND)) as endpoint:
        assert endpoint.client.submit(HALF_SECOND).status_code == 202
        assert endpoint.client.submit(HALF_SECOND + b"\0").status_code == 413


def test_an_upload_that_stalls_or_breaks_off_leaves_nothing(start: Runner, tmp_path: Path) -> None:
    with start(stall_timeout_s=0.3, queue=1) as endpoint:
        with connect(endpoint.client.http) as stalled:
            stalled.sendall(
                f"{HEAD}Content-Length: {MEGABYTE}\r\n\r\n".encode() + BEGIN + bytes(70_000)
            )
            assert answered(stalled)[0] == 408
        with connect(endpoint.client.http) as gone:
            gone.sendall(
                f"{HEAD}Content-Length: {MEGABYTE}\r\n\r\n".encode() + BEGIN + bytes(70_000)
            )
            until(lambda: leftovers(tmp_path / "data") or None, "the upload to arrive")
        until(lambda: not leftovers(tmp_path / "data") or None, "what arrived to be removed")
        # Its place in the queue is free again.
        assert endpoint.client.submit(HALF_SECOND).status_code == 202


def test_a_track_that_is_too_long_is_413(start: Runner) -> None:
    with start(max_duration_s=0.4) as endpoint:
        answer = endpoint.client.submit(HALF_SECOND)
        assert answer.status_code == 413
        assert "the limit is" in answer.json()["detail"]


def test_a_full_disk_is_507_and_leaves_nothing(start: Runner, tmp_path: Path) -> None:
    with start() as endpoint:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MEGABYTE, hard))
        try:
            answer = endpoint.client.submit(audio(20.0, format="WAV"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert answer.status_code == 507
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["detail"] == "The service's disk is full. Try again later."
        assert leftovers(tmp_path / "data") == []
        assert endpoint.client.submit(HALF_SECOND).status_code == 202


def test_an_upload_that_would_not_fit_is_refused_unread(
    start: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataFolder, "free_bytes", lambda _: 100 * MEGABYTE)
    with start() as endpoint:
        assert endpoint.client.submit(HALF_SECOND).status_code == 507
        assert uploaded(endpoint) == 0


def test_a_full_queue_is_429_and_says_when(start: Runner) -> None:
    with start(queue=2) as endpoint:
        client = endpoint.client
        with held_device():
            in_hand = client.submit(audio(3.0)).json()["job_id"]
            client.wait_for(in_hand, "processing")
            waiting = [client.submit(HALF_SECOND, idempotency_key=f"k{i}") for i in range(2)]
            assert [answer.status_code for answer in waiting] == [202, 202]
            places = [client.job(answer.json()["job_id"])["queue_position"] for answer in waiting]
            assert places == [0, 1]
            # Nothing measured yet: as long as the audio in hand.
            refused = client.submit(HALF_SECOND)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
            # This machine is known to take ten times as long as the music.
            endpoint.service.pace.add(10.0, 100.0)
            assert client.submit(HALF_SECOND).headers["retry-after"] == "30"
            # A repeat of what waits already takes no place.
            again = client.submit(HALF_SECOND, idempotency_key="k1")
            assert again.json()["job_id"] == waiting[1].json()["job_id"]
        for answer in waiting:
            assert client.ended(answer.json()["job_id"])["status"] == "complete"
        assert client.submit(HALF_SECOND).status_code == 202


def test_uploads_that_arrive_count_as_waiting(start: Runner) -> None:
    with start(queue=1) as endpoint, connect(endpoint.client.http) as slow:
        slow.sendall(f"{HEAD}Content-Length: {MEGABYTE}\r\n\r\n".encode() + BEGIN)
        until(lambda: uploaded(endpoint) or None, "the upload to begin")
        assert endpoint.client.submit(HALF_SECOND).status_code == 429
        assert endpoint.service.store.counts() == dict.fromkeys(STATUSES, 0)


def test_the_pace_is_that_of_the_last_jobs() -> None:
    pace = Pace()
    assert pace.factor is None
    assert pace.seconds_for(30.0) == 30.0
    pace.add(60.0, 30.0)
    assert pace.seconds_for(30.0) == 15.0
    for _ in range(20):
        pace.add(10.0, 40.0)
    assert pace.factor == 0.25
    assert [retry_after(wait) for wait in (0.0, 0.2, 61.2, 1e9)] == ["1", "1", "62", "3600"]


def test_finished_jobs_expire_with_their_files(start: Runner, tmp_path: Path) -> None:
    with start(keep_s=1.0) as endpoint:
        client = endpoint.client
        job = client.ended(client.submit(HALF_SECOND, idempotency_key="k").json()["job_id"])
        at = f"/v1/jobs/{job['job_id']}"
        assert job["expires_at"] > job["created_at"]
        until(lambda: client.ask("GET", at).status_code == 404 or None, "the job to expire")
        assert client.ask("GET", job["stems"]["bass"]).status_code == 404
        until(lambda: not leftovers(tmp_path / "data") or None, "its files to be removed")
        # The key is free again with it.
        assert client.submit(HALF_SECOND, idempotency_key="k").json()["job_id"] != job["job_id"]


def test_a_job_out_of_time_fails_in_words(start: Runner) -> None:
    with start(deadline_s=0.000_001) as endpoint:
        client = endpoint.client
        job = client.ended(client.submit(HALF_SECOND).json()["job_id"])
        assert job["status"] == "failed"
        assert "ran out" in job["error_message"]
        assert "Send it in shorter parts" in job["error_message"]


def test_a_job_that_brings_the_service_down_is_given_up(start: Runner, tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    store = JobStore(data.database)
    job = Job(
        job_id="a" * 32,
        owner="nobody",
        fingerprint="",
        filename="song.flac",
        upload_bytes=1,
        model="tiny",
        stems=("bass",),
        format="wav",
        bit_depth="24",
        created_at=time.time(),
        status="processing",
        attempts=3,
    )
    store.add(job)
    store.close()
    data.close()
    with start() as endpoint:

        def failed() -> Job | None:
            found = endpoint.service.store.get(job.job_id)
            return found if found and found.status == "failed" else None

        message = until(failed, "the job to fail").error_message
        assert message is not None
        assert message.startswith("The service ended 3 times while it separated this.")


def test_answers_come_while_it_separates(start: Runner) -> None:
    """Held up by the work, the server couldn't tell of a share between none and all of it."""
    with start() as endpoint:
        client = endpoint.client
        job_id = client.submit(audio(10.0)).json()["job_id"]
        shares: set[float] = set()
        healthy = 0
        while (job := client.job(job_id))["status"] != "complete":
            if 0 < job["progress"] < 1:
                shares.add(job["progress"])
                healthy += client.http.get("/healthz").status_code == 200
        assert len(shares) >= 5
        assert healthy >= 5


def test_the_client_of_a_forgotten_job_may_submit_again(client: Client) -> None:
    first = client.submit(HALF_SECOND, idempotency_key="again").json()["job_id"]
    assert client.ask("DELETE", f"/v1/jobs/{first}").status_code == 204
    assert client.submit(HALF_SECOND, idempotency_key="again").json()["job_id"] != first
