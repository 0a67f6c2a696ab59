"""fal.ai's queue on loopback, as fal.ai/docs and the model's page have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.errors import (
    BudgetSpent,
    KeyRejected,
    NotAudio,
    ProtocolError,
    ServiceError,
    SettingsError,
    SourceRefused,
    SubmitUnclear,
)
from tests.separation.providers.conftest import Case
from tests.separation.providers.upstream import KEY, Call, Reply, Upstream, as_json, serving


class FalServer(Upstream):
    """The queue, and the storage's front under `/rest`. Its URLs are not to be guessed."""

    def __init__(self) -> None:
        super().__init__()
        self.result: Reply | None = None

    def has_key(self, call: Call) -> bool:
        return call.headers["authorization"] == f"Key {KEY}"

    def route(self, call: Call) -> Reply:
        if call.path == "/rest/storage/upload/initiate":
            name = f"/up/{len(self.sent('POST .*initiate'))}"
            urls = {"upload_url": f"{self.storage}{name}", "file_url": f"https://v3.fal{name}"}
            return as_json(200, urls)
        if (call.method, call.path) == ("POST", "/fal-ai/demucs"):
            job = {"id": f"r{len(self.jobs)}", **call.json}
            self.jobs[job["id"]] = job
            mine = f"{self.api}/x7/{job['id']}"
            urls = {f"{kind}_url": f"{mine}/{kind}" for kind in ("status", "response", "cancel")}
            return as_json(200, {"request_id": job["id"], **urls})
        if call.path.endswith("/cancel"):
            return as_json(400, {"status": "ALREADY_COMPLETED"})
        job = self.jobs[call.path.split("/")[2]]
        return self._result(job) if call.path.endswith("/response") else self._status(job)

    def _status(self, job: dict[str, Any]) -> Reply:
        if not self.asked(job):
            waits = {"status": "IN_QUEUE", "queue_position": 3}
            return as_json(202, waits if job["asks"] == 1 else {"status": "IN_PROGRESS"})
        return as_json(200, {"status": "COMPLETED", "metrics": {"inference_time": 2.5}})

    def _result(self, job: dict[str, Any]) -> Reply:
        if self.result:
            return self.result
        upload = self.uploads[job["audio_url"].removeprefix("https://v3.fal")]
        kind = job["output_format"]
        made = {stem: {"url": self.keep(upload, stem, kind)} for stem in job["stems"]}
        return as_json(200, {"guitar": None, "piano": None, **made})


@pytest.fixture
def server() -> Iterator[FalServer]:
    with serving(FalServer()) as running:
        yield running


@pytest.fixture
def fal(case: Case, server: FalServer) -> Case:
    rest = {"storage_url": f"{server.api}/rest"}
    return case.at("fal", server.api).with_options(rest)


def test_stems_come_home(fal: Case, server: FalServer) -> None:
    found = fal.separate()
    assert fal.shares(found) == dict.fromkeys(("drums", "bass", "other", "vocals"), 0.25)
    assert found.cost_usd == pytest.approx(fal.mixture.duration_s * 0.0007)
    assert list(server.uploads.values()) == [fal.mixture.path.read_bytes()]
    assert not server.strays()


def test_the_model_is_always_said(fal: Case, server: FalServer) -> None:
    fal.separate()
    asked = server.sent("POST /fal-ai/demucs")[0].json
    assert (asked["model"], asked["output_format"]) == ("htdemucs", "wav")
    assert asked["stems"] == ["drums", "bass", "other", "vocals"]


def test_what_fal_keeps_is_said_to_expire(fal: Case, server: FalServer) -> None:
    fal.with_options({**fal.options, "expires_seconds": "3600"}).separate()
    for call in (*server.sent("POST .*initiate"), *server.sent("POST /fal-ai/demucs")):
        lifecycle = call.headers["x-fal-object-lifecycle-preference"]
        assert lifecycle == '{"expiration_duration_seconds": 3600}'


def test_an_answer_lost_to_a_submit_is_never_paid_twice(fal: Case, server: FalServer) -> None:
    server.lost = {"POST /fal-ai/demucs": 1}
    with pytest.raises(SubmitUnclear):
        fal.separate()
    assert len(server.jobs) == 1
    assert server.count("POST /fal-ai/demucs") == 1


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        (
            as_json(500, {"detail": "boom", "error_type": "runner_server_error"}),
            ServiceError,
            "boom",
        ),
        (
            as_json(504, {"detail": "slow"}, x_fal_error_type="request_timeout"),
            ServiceError,
            "slow",
        ),
        (
            as_json(422, {"detail": [{"loc": [], "msg": "too long", "type": "file_too_large"}]}),
            SourceRefused,
            "too long",
        ),
        (
            as_json(422, {"detail": [{"msg": "?", "type": "unsupported_audio_format"}]}),
            NotAudio,
            "no audio",
        ),
        (as_json(200, ["x"]), ProtocolError, "begins"),
    ],
)
def test_a_request_that_failed_is_completed_too(
    fal: Case, server: FalServer, result: Reply, error: type[Exception], words: str
) -> None:
    server.result = result
    with pytest.raises(error, match=words):
        fal.separate()
    assert server.count("GET .*/response") == 1


def test_a_gateway_that_falters_is_no_failed_request(fal: Case, server: FalServer) -> None:
    server.instead["GET /x7/r0/response"] = [(502, {}, b"<html>Bad gateway</html>")]
    assert len(fal.separate().stems) == 4
    assert len(server.jobs) == 1


def test_a_stem_that_is_null_is_missing(fal: Case, server: FalServer) -> None:
    made = dict.fromkeys(("drums", "bass", "other", "vocals"))
    server.uploads["/x"] = fal.mixture.path.read_bytes()
    vocals = {"url": server.keep(server.uploads["/x"], "vocals", "wav")}
    server.result = as_json(200, {**made, "vocals": vocals})
    assert set(fal.separate().stems) == {"vocals"}


@pytest.mark.parametrize("status", [402, 403])
def test_a_balance_that_is_exhausted(fal: Case, server: FalServer, status: int) -> None:
    said = "User is locked. Reason: Exhausted balance. Top up your balance."
    server.instead["POST /rest/storage/upload/initiate"] = [as_json(status, {"detail": said})]
    with pytest.raises(BudgetSpent, match="Exhausted balance"):
        fal.separate()
    assert server.count(".*") == 1


def test_a_wrong_key(fal: Case, server: FalServer) -> None:
    with pytest.raises(KeyRejected):
        fal.with_key("wrong").separate()
    assert server.count(".*") == 1


def test_an_unknown_status(fal: Case, server: FalServer) -> None:
    server.instead["GET /x7/r0/status"] = [as_json(200, {"status": "MAYBE"})]
    with pytest.raises(ProtocolError, match=r"'MAYBE'.*begins"):
        fal.separate()


def test_urls_of_a_stranger_get_no_key(fal: Case, server: FalServer) -> None:
    urls = {f"{kind}_url": f"{server.storage}/{kind}" for kind in ("status", "response", "cancel")}
    server.instead["POST /fal-ai/demucs"] = [as_json(200, {"request_id": "r9", **urls})]
    with pytest.raises((KeyRejected, ProtocolError)):
        fal.separate()
    assert not server.strays()


def test_what_fal_has_not(fal: Case) -> None:
    with pytest.raises(SettingsError, match="mdx_net is asked for"):
        fal.check(30, model="mdx_net")
    with pytest.raises(SettingsError, match="storage_url"):
        fal.with_options({"storage_url": "ftp://somewhere"}).separate()
