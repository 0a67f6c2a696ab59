"""Replicate on loopback, as its HTTP API and the model's page have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks.errors import (
    BudgetSpent,
    KeyRejected,
    ProtocolError,
    ServiceError,
    SettingsError,
    SourceRefused,
    SubmitUnclear,
)
from tasks.separation.cloud.providers.replicate import Replicate
from tests.separation.providers.conftest import Case
from tests.separation.providers.upstream import KEY, LOST, Call, Reply, Upstream, as_json, serving

STEMS = ("drums", "bass", "other", "vocals")
OTHER_VERSION = "0" * 64


class ReplicateServer(Upstream):
    """Runs cjwbw/demucs: an output object with a URL a stem, null for those it doesn't make."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, Any] = {"status": "succeeded"}
        self.listed_output = False

    def has_key(self, call: Call) -> bool:
        return call.headers["authorization"] == f"Bearer {KEY}"

    def no_key(self, call: Call) -> Reply:
        said = "You did not pass a valid authentication token"
        return as_json(401, {"title": "Unauthenticated", "detail": said, "status": 401})

    def route(self, call: Call) -> Reply:
        path = call.path.removeprefix("/v1")
        if (call.method, path) == ("POST", "/files"):
            name = f"file{len(self.uploads)}"
            self.uploads[name] = call.files["content"]
            return as_json(201, {"id": name, "urls": {"get": f"{self.api}/v1/files/{name}"}})
        if (call.method, path) == ("POST", "/predictions"):
            job = {"id": f"p{len(self.jobs)}", **call.json}
            self.jobs[job["id"]] = job
            return as_json(201, self._prediction(job, "starting"))
        if path == "/predictions":
            found = [self._prediction(job, "starting") for job in self.jobs.values()]
            return as_json(200, {"next": None, "previous": None, "results": found})
        if call.method == "DELETE":
            return 204, {}, b""
        return self._one(path.split("/")[2])

    def _one(self, job_id: str) -> Reply:
        job = self.jobs.get(job_id)
        if job is None:
            said = "The requested resource could not be found."
            return as_json(404, {"detail": said, "status": 404})
        if not self.asked(job):
            return as_json(
                200, self._prediction(job, "starting" if job["asks"] == 1 else "processing")
            )
        if self.ends["status"] != "succeeded":
            return as_json(200, {**self._prediction(job, "failed"), **self.ends})
        made = {**self._prediction(job, "succeeded"), "metrics": {"predict_time": 40.0}}
        return as_json(200, {**made, "output": self._output(job), **self.ends})

    def _output(self, job: dict[str, Any]) -> Any:
        sent = job["input"]
        upload = self.uploads[sent["audio"].rsplit("/", 1)[1]]
        urls = {stem: self.keep(upload, stem, sent["output_format"]) for stem in STEMS}
        if self.listed_output:
            return {"stems": [{"name": name, "audio": url} for name, url in urls.items()]}
        return {**urls, "guitar": None, "piano": None}

    def _prediction(self, job: dict[str, Any], status: str) -> dict[str, Any]:
        known = {key: job[key] for key in ("id", "version", "input")}
        return {**known, "status": status, "output": None, "error": None, "logs": ""}


@pytest.fixture
def server() -> Iterator[ReplicateServer]:
    with serving(ReplicateServer()) as running:
        yield running


@pytest.fixture
def replicate(case: Case, server: ReplicateServer) -> Case:
    return case.at("replicate", f"{server.api}/v1")


@pytest.mark.parametrize("listed", [False, True])
def test_stems_come_home(replicate: Case, server: ReplicateServer, listed: bool) -> None:
    server.listed_output = listed
    found = replicate.separate()
    assert replicate.shares(found) == dict.fromkeys(STEMS, 0.25)
    assert found.cost_usd == pytest.approx(40 * 0.000225)
    assert not server.strays()


def test_what_is_asked_of_the_pinned_version(replicate: Case, server: ReplicateServer) -> None:
    replicate.with_options({"input.shifts": "2"}).separate(format="wav")
    asked = server.sent("POST /v1/predictions")[0].json
    assert asked["version"] == Replicate.defaults["version"]
    audio = asked["input"].pop("audio")
    assert audio.endswith("/v1/files/file0")
    assert asked["input"] == {
        "model_name": "htdemucs",
        "output_format": "wav",
        "clip_mode": "clamp",
        "shifts": 2,
    }


def test_another_version_has_to_say_its_fields(replicate: Case, server: ReplicateServer) -> None:
    with pytest.raises(SettingsError, match=r"isn't known.*field\.audio"):
        replicate.with_options({"version": OTHER_VERSION}).separate()
    fields = {"field.audio": "audio", "field.model": "net", "field.format": "output_format"}
    replicate.with_options({"version": OTHER_VERSION, **fields}).separate()
    assert server.sent("POST /v1/predictions")[0].json["input"]["net"] == "htdemucs"
    with pytest.raises(SettingsError, match="64 hex digits"):
        replicate.with_options({"version": "latest"}).check(30)


def test_an_answer_lost_to_a_submit_pays_once(replicate: Case, server: ReplicateServer) -> None:
    server.lost = {"POST /v1/predictions": 1}
    assert len(replicate.separate().stems) == 4
    assert len(server.jobs) == 1


def test_a_submit_that_left_no_trace_is_not_repeated(
    replicate: Case, server: ReplicateServer
) -> None:
    server.instead["POST /v1/predictions"] = [LOST]
    with pytest.raises(SubmitUnclear):
        replicate.separate()
    assert server.count("POST /v1/predictions") == 1


@pytest.mark.parametrize(
    ("ends", "error", "words"),
    [
        ({"status": "failed", "error": "CUDA out of memory"}, ServiceError, "CUDA"),
        ({"status": "canceled"}, ServiceError, "canceled"),
        ({"status": "aborted"}, ServiceError, "aborted"),
        ({"status": "succeeded", "output": None, "data_removed": True}, ServiceError, "an hour"),
        ({"status": "succeeded", "output": "https://x/all.zip"}, ProtocolError, "no stems"),
        ({"status": "succeeded", "output": {"stems": [{"n": 1}]}}, ProtocolError, "no stems"),
        ({"status": "dreaming"}, ProtocolError, "'dreaming'.*begins"),
    ],
)
def test_how_predictions_end(
    replicate: Case,
    server: ReplicateServer,
    ends: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    server.ends = ends
    with pytest.raises(error, match=words):
        replicate.separate()


def test_throttled_in_words(replicate: Case, server: ReplicateServer) -> None:
    said = {"detail": "Request was throttled. Your rate limit resets in ~0s."}
    server.instead["POST /v1/predictions"] = [as_json(429, said)] * 2
    assert len(replicate.separate().stems) == 4
    assert len(server.jobs) == 1


def test_out_of_credit(replicate: Case, server: ReplicateServer) -> None:
    said = "You have insufficient credit to run this model."
    refused = {"title": "Insufficient credit", "detail": said, "status": 402}
    server.instead["POST /v1/predictions"] = [as_json(402, refused)]
    with pytest.raises(BudgetSpent, match="insufficient credit"):
        replicate.separate()
    assert not server.jobs


def test_an_input_that_the_version_refuses(replicate: Case, server: ReplicateServer) -> None:
    said = {"title": "Input validation failed", "detail": "- input: shifts must be positive"}
    server.instead["POST /v1/predictions"] = [as_json(422, said)]
    with pytest.raises(SettingsError, match=r"shifts must be positive.*service_options"):
        replicate.with_options({"input.shifts": "0"}).separate()


def test_a_wrong_key(replicate: Case, server: ReplicateServer) -> None:
    with pytest.raises(KeyRejected):
        replicate.with_key("wrong").separate()
    assert server.count(".*") == 1


def test_a_model_that_demucs_has_not(replicate: Case) -> None:
    with pytest.raises(SettingsError, match="mdx_net is asked for"):
        replicate.check(30, model="mdx_net")


def test_an_upload_too_large(replicate: Case, server: ReplicateServer) -> None:
    with replicate.mixture.path.open("r+b") as file:
        file.truncate(100 * 1024**2 + 1)
    with pytest.raises(SourceRefused, match="over 100 MiB"):
        replicate.separate()
    assert not server.calls


def test_what_it_costs_before(replicate: Case) -> None:
    assert replicate.price_usd(240) == pytest.approx(240 * 0.35 * 0.000225)
