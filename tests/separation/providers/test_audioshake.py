"""AudioShake on loopback, as developer.audioshake.ai has its Tasks API."""

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
from tests.separation.providers.conftest import Case
from tests.separation.providers.upstream import KEY, LOST, Call, Reply, Upstream, as_json, serving


class AudioShakeServer(Upstream):
    """A status a target; links of its storage, fresh ones with each ask."""

    def has_key(self, call: Call) -> bool:
        return call.headers["x-api-key"] == KEY

    def route(self, call: Call) -> Reply:
        if (call.method, call.path) == ("POST", "/assets"):
            asset = f"asset{len(self.uploads)}"
            self.uploads[asset] = call.files["file"]
            answer = {"id": asset, "format": "flac", "link": "https://cdn/x", "name": "x.flac"}
            return as_json(200, answer)
        if (call.method, call.path) == ("POST", "/tasks"):
            asked = call.json
            job = {"id": f"task{len(self.jobs)}", **asked}
            self.jobs[job["id"]] = job
            return as_json(200, self._task(job, done=False))
        if call.path == "/tasks":
            skip, take = int(call.query["skip"]), int(call.query["take"])
            newest = list(reversed(self.jobs.values()))
            return as_json(200, [self._task(j, done=False) for j in newest[skip : skip + take]])
        found = self.jobs.get(call.path.removeprefix("/tasks/"))
        if found is None:
            return as_json(404, {"message": "Task not found"})
        return as_json(200, self._task(found, done=self.asked(found)))

    def _task(self, job: dict[str, Any], *, done: bool) -> dict[str, Any]:
        targets = [self._target(job, target, done=done) for target in job["targets"]]
        cost = sum(target["cost"] for target in targets)
        known = {key: job[key] for key in ("id", "assetId", "metadata")}
        return {**known, "createdAt": "2026-11-24T12:00:00Z", "cost": cost, "targets": targets}

    def _target(self, job: dict[str, Any], asked: dict[str, Any], *, done: bool) -> dict[str, Any]:
        model, (kind,) = asked["model"], asked["formats"]
        base = {"id": "t", "model": model, "formats": [kind], "cost": 0}
        if not done:
            return {**base, "status": "processing", "output": []}
        if said := self.not_made.get(model):
            return {**base, "status": "error", "error": {"code": 500, "message": said}}
        link = self.keep(self.uploads[job["assetId"]], model, kind)
        output = [{"name": model, "format": kind, "link": link}]
        return {**base, "status": "completed", "output": output, "cost": 1, "duration": 0.5}


@pytest.fixture
def server() -> Iterator[AudioShakeServer]:
    with serving(AudioShakeServer()) as running:
        yield running


@pytest.fixture
def audioshake(case: Case, server: AudioShakeServer) -> Case:
    return case.at("audioshake", server.api)


def test_stems_come_home(audioshake: Case, server: AudioShakeServer) -> None:
    found = audioshake.with_options({"usd_per_credit": "0.2"}).separate()
    assert audioshake.shares(found) == dict.fromkeys(("drums", "bass", "other", "vocals"), 0.25)
    assert found.cost_usd == pytest.approx(4 * 0.2)
    asked = server.sent("POST /tasks")[0].json
    assert asked["targets"][0] == {"model": "drums", "formats": ["flac"]}
    assert next(iter(server.uploads.values())) == audioshake.mixture.path.read_bytes()
    assert not server.strays()


def test_wav_is_to_be_had_too(audioshake: Case) -> None:
    assert audioshake.shares(audioshake.separate(format="wav"))["vocals"] == 0.25


def test_one_target_fails_and_the_others_count(audioshake: Case, server: AudioShakeServer) -> None:
    server.not_made = {"bass": "model crashed"}
    found = audioshake.separate()
    assert set(found.stems) == {"drums", "other", "vocals"}


def test_no_target_comes_through(audioshake: Case, server: AudioShakeServer) -> None:
    server.not_made = dict.fromkeys(("drums", "bass", "other", "vocals"), "out of memory")
    with pytest.raises(ServiceError, match="bass: out of memory"):
        audioshake.separate()


def test_links_that_expired_are_asked_for_again(audioshake: Case, server: AudioShakeServer) -> None:
    server.short_lived = True
    assert len(audioshake.separate().stems) == 4
    assert server.expired
    assert len(server.jobs) == 1


def test_an_answer_lost_to_a_submit_pays_once(audioshake: Case, server: AudioShakeServer) -> None:
    server.lost = {"POST /tasks": 1}
    assert len(audioshake.separate().stems) == 4
    assert len(server.jobs) == 1


def test_a_submit_that_left_no_trace_is_not_repeated(
    audioshake: Case, server: AudioShakeServer
) -> None:
    server.instead["POST /tasks"] = [LOST]
    with pytest.raises(SubmitUnclear):
        audioshake.separate()
    assert server.count("POST /tasks") == 1


def test_a_submit_of_an_earlier_run_is_gone_on_with(
    audioshake: Case, server: AudioShakeServer
) -> None:
    server.instead["GET /tasks"] = [as_json(200, []), as_json(200, [])]
    server.lost = {"POST /tasks": 1}
    with pytest.raises(SubmitUnclear):
        audioshake.separate()
    assert len(audioshake.separate().stems) == 4
    assert server.count("POST /tasks") == server.count("POST /assets") == 1


def test_refused_before_it_had_an_effect_is_asked_again(
    audioshake: Case, server: AudioShakeServer
) -> None:
    server.instead["POST /tasks"] = [as_json(429, {"message": "Too Many Requests"})] * 2
    assert len(audioshake.separate().stems) == 4
    assert len(server.jobs) == 1


def test_a_wrong_key(audioshake: Case, server: AudioShakeServer) -> None:
    with pytest.raises(KeyRejected):
        audioshake.with_key("wrong").separate()
    assert server.count(".*") == 1


@pytest.mark.parametrize("status", [402, 403])
def test_an_account_without_credits(
    audioshake: Case, server: AudioShakeServer, status: int
) -> None:
    server.instead["POST /assets"] = [as_json(status, {"message": "Insufficient credits"})]
    with pytest.raises(BudgetSpent, match="Insufficient credits"):
        audioshake.separate()
    assert server.count("POST .*") == 1


def test_an_unknown_status(audioshake: Case, server: AudioShakeServer) -> None:
    target = {"model": "bass", "status": "simmering"}
    server.instead["GET /tasks/task0"] = [as_json(200, {"id": "task0", "targets": [target]})]
    with pytest.raises(ProtocolError, match=r"'simmering'.*begins"):
        audioshake.separate()


def test_other_is_not_other_beside_a_guitar(audioshake: Case) -> None:
    with pytest.raises(SettingsError, match="would not sum"):
        audioshake.separate(model="htdemucs_6s")
    own = audioshake.with_options({"stem.other": "other-x-guitar"})
    assert len(own.separate(model="htdemucs_6s").stems) == 6


def test_minutes_are_begun_minutes(audioshake: Case) -> None:
    priced = audioshake.with_options({"usd_per_credit": "0.2"})
    assert priced.price_usd(61) == pytest.approx(2 * 4 * 0.2)
    with pytest.raises(SourceRefused, match="3 h"):
        priced.check(3.1 * 3600)
