"""Music.AI on loopback, as music.ai/docs/api/reference has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.errors import (
    KeyRejected,
    ProtocolError,
    ServiceError,
    SettingsError,
    SourceRefused,
    SubmitUnclear,
)
from tests.separation.providers.conftest import Case
from tests.separation.providers.upstream import KEY, LOST, Call, Reply, Upstream, as_json, serving

OPTIONS = {
    "workflow": "my-stems",
    "stem.vocals": "Vocals",
    "stem.drums": "Drums",
    "stem.bass": "Bass",
    "stem.other": "Rest",
}


class MusicAiServer(Upstream):
    """A workflow of four outputs, named as an account might have named them."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs = ["Vocals", "Drums", "Bass", "Rest"]
        self.error: dict[str, str] | None = None

    def has_key(self, call: Call) -> bool:
        return call.headers["authorization"] == KEY

    def no_key(self, call: Call) -> Reply:
        said = {"code": "UNAUTHORIZED", "title": "Unauthorized", "message": "Invalid API key"}
        return as_json(401, said)

    def route(self, call: Call) -> Reply:
        if (call.method, call.path) == ("GET", "/v1/upload"):
            n = len(self.sent("GET /v1/upload"))
            urls = {"uploadUrl": f"{self.storage}/up/{n}?sig=a", "downloadUrl": f"up/{n}"}
            return as_json(200, urls)
        if (call.method, call.path) == ("POST", "/v1/job"):
            job = {"id": f"job-{len(self.jobs)}", **call.json}
            self.jobs[job["id"]] = job
            return as_json(200, {"id": job["id"]})
        if call.path == "/v1/job":
            page, size = int(call.query["page"]), int(call.query["size"])
            mine = [j for j in self.jobs.values() if j["workflow"] == call.query["workflow"]]
            return as_json(200, [self._job(j, "QUEUED") for j in mine[page * size :][:size]])
        return self._one(call)

    def _one(self, call: Call) -> Reply:
        job = self.jobs.get(call.path.removeprefix("/v1/job/"))
        if job is None:
            return as_json(404, {"code": "NOT_FOUND", "title": "Not found", "message": "no job"})
        if call.method == "DELETE":
            del self.jobs[job["id"]]
            return as_json(200, {"id": job["id"]})
        if not self.asked(job):
            return as_json(200, self._job(job, "QUEUED" if job["asks"] == 1 else "STARTED"))
        if self.error:
            return as_json(200, {**self._job(job, "FAILED"), "error": self.error})
        upload = self.uploads["/" + job["params"]["inputUrl"]]
        result = {name: self.keep(upload, name, "flac") for name in self.outputs}
        return as_json(200, {**self._job(job, "SUCCEEDED"), "result": result})

    def _job(self, job: dict[str, Any], status: str) -> dict[str, Any]:
        known = {key: job[key] for key in ("id", "name", "workflow")}
        rest: dict[str, Any] = {"app": "x", "batchName": None, "metadata": {}, "result": None}
        return {**known, **rest, "status": status, "workflowParams": job["params"]}


@pytest.fixture
def server() -> Iterator[MusicAiServer]:
    with serving(MusicAiServer()) as running:
        yield running


@pytest.fixture
def music_ai(case: Case, server: MusicAiServer) -> Case:
    return case.at("music_ai", f"{server.api}/v1").with_options(OPTIONS)


def test_stems_come_home_under_our_names(music_ai: Case, server: MusicAiServer) -> None:
    found = music_ai.separate()
    assert music_ai.shares(found) == dict.fromkeys(("drums", "bass", "other", "vocals"), 0.25)
    assert server.sent("POST /v1/job")[0].json["workflow"] == "my-stems"
    assert found.cost_usd == 0


def test_the_presigned_upload_gets_the_file_and_no_key(
    music_ai: Case, server: MusicAiServer
) -> None:
    music_ai.separate()
    assert list(server.uploads.values()) == [music_ai.mixture.path.read_bytes()]
    assert not server.strays()


def test_a_price_of_ones_own_is_recorded(music_ai: Case) -> None:
    priced = music_ai.with_options({**OPTIONS, "usd_per_minute": "0.6"})
    assert priced.price_usd(90) == pytest.approx(0.9)
    found = priced.separate()
    assert found.cost_usd == pytest.approx(music_ai.mixture.duration_s / 60 * 0.6)


def test_an_answer_lost_to_a_submit_pays_once(music_ai: Case, server: MusicAiServer) -> None:
    for n in range(70):  # older jobs, over a page of them
        old = {"id": f"old-{n}", "name": f"old {n}", "workflow": "my-stems", "params": {}}
        server.jobs[f"old-{n}"] = old
    server.lost = {"POST /v1/job": 1}
    assert len(music_ai.separate().stems) == 4
    assert server.count("POST /v1/job") == 1
    assert len(server.jobs) == 71


def test_a_submit_that_left_no_trace_is_not_repeated(music_ai: Case, server: MusicAiServer) -> None:
    server.instead["POST /v1/job"] = [LOST]
    with pytest.raises(SubmitUnclear):
        music_ai.separate()
    assert server.count("POST /v1/job") == 1


def test_a_submit_of_an_earlier_run_is_gone_on_with(music_ai: Case, server: MusicAiServer) -> None:
    server.instead["GET /v1/job"] = [as_json(200, []), as_json(200, [])]
    server.lost = {"POST /v1/job": 1}
    with pytest.raises(SubmitUnclear):
        music_ai.separate()
    assert len(music_ai.separate().stems) == 4
    assert server.count("POST /v1/job") == len(server.uploads) == 1


def test_an_output_under_another_name_is_paid_once(music_ai: Case, server: MusicAiServer) -> None:
    server.outputs = ["Vocals", "Drums", "Bass", "Everything_else"]
    with pytest.raises(SettingsError, match=r"no output 'Rest', it has Vocals.*stem\.other"):
        music_ai.separate()
    named = music_ai.with_options({**OPTIONS, "stem.other": "Everything_else"})
    assert len(named.separate().stems) == 4
    assert server.count("POST /v1/job") == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [("BAD_INPUT", SourceRefused), ("TIMEOUT", ServiceError), ("INTERNAL_ERROR", ServiceError)],
)
def test_jobs_that_fail(
    music_ai: Case, server: MusicAiServer, code: str, error: type[Exception]
) -> None:
    server.error = {"code": code, "title": "Sorry", "message": "It did not work out"}
    with pytest.raises(error, match="It did not work out"):
        music_ai.separate()


def test_an_unknown_status(music_ai: Case, server: MusicAiServer) -> None:
    odd = {"id": "job-0", "name": "x", "status": "CONTEMPLATING"}
    server.instead["GET /v1/job/job-0"] = [as_json(200, odd)]
    with pytest.raises(ProtocolError, match=r"'CONTEMPLATING'.*begins"):
        music_ai.separate()


def test_a_wrong_key(music_ai: Case, server: MusicAiServer) -> None:
    with pytest.raises(KeyRejected):
        music_ai.with_key("wrong").separate()
    assert server.count(".*") == 1


def test_a_workflow_is_needed(music_ai: Case) -> None:
    with pytest.raises(SettingsError, match="workflow"):
        music_ai.with_options({}).separate()
