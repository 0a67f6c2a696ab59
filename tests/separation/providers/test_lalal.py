"""LALAL.AI on loopback, as its OpenAPI document (1.1.0) has it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.errors import (
    BudgetSpent,
    Interrupted,
    KeyRejected,
    ProtocolError,
    ServiceError,
    SettingsError,
    SourceRefused,
    SubmitUnclear,
)
from tasks.separation.cloud.jobs import ProviderJob
from tasks.separation.cloud.providers import make_provider
from tasks.separation.cloud.transport import Transport
from tests.separation.providers.conftest import Case
from tests.separation.providers.upstream import KEY, Call, Reply, Upstream, as_json, serving

OFTEN = {"checks_per_minute": "60000"}
_DETECT = {"vocals": "Unable to detect voice/vocals in the uploaded files"}


class LalalServer(Upstream):
    """Charges minutes times stems for tasks that come through; fails inside HTTP 200."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, bytes] = {}
        self.keys: dict[str, str] = {}
        self.charged = 0.0

    def has_key(self, call: Call) -> bool:
        return call.headers["x-license-key"] == KEY

    def no_key(self, call: Call) -> Reply:
        return as_json(403, {"detail": "Provide license key in 'X-License-Key' header"})

    def route(self, call: Call) -> Reply:
        if call.path == "/api/v1/upload/":
            return self._upload(call)
        if call.path == "/api/v1/split/multistem/":
            return self._split(call.json)
        if call.path == "/api/v1/check/":
            return as_json(200, {"result": {i: self._state(i) for i in call.json["task_ids"]}})
        if call.path == "/api/v1/delete/":
            self.sources.pop(call.json["source_id"], None)
            return as_json(200, {"status": "success"})
        return as_json(404, {"detail": "Not Found"})

    def _upload(self, call: Call) -> Reply:
        if not (call.headers["content-disposition"] or "").startswith("attachment; filename="):
            return as_json(422, {"detail": [{"loc": ["header"], "msg": "Field required"}]})
        source = str(uuid.uuid4())
        self.sources[source] = call.body
        found = {"id": source, "name": "x", "size": len(call.body), "duration": 1, "expires": 1}
        return as_json(200, found)

    def _split(self, asked: dict[str, Any]) -> Reply:
        key = asked["idempotency_key"]
        if uuid.UUID(key).version != 4 or asked["source_id"] not in self.sources:
            return as_json(422, {"detail": [{"loc": ["body"], "msg": "not a uuid4"}]})
        task = self.keys.setdefault(key, str(uuid.uuid4()))
        if self.jobs.get(task, {}).get("asks"):
            used = {"detail": "Idempotency key has already been used."}
            return as_json(400, {**used, "code": "idempotency_key_used"})
        self.jobs.setdefault(task, {**asked["presets"], "source_id": asked["source_id"]})
        return as_json(200, {"task_id": task})

    def _state(self, task: str) -> dict[str, Any]:
        job = self.jobs.get(task)
        if job is None:
            return {"status": "server_error", "error": "Failed to extract information about task"}
        if job.get("odd"):
            return {"status": ["odd"]}
        base = {"source_id": job["source_id"], "presets": {"task_type": "split"}}
        if not self.asked(job):
            return {**base, "status": "progress", "progress": 0 if job["asks"] == 1 else 42}
        for stem in job["stem_list"]:
            if said := self.not_made.get(stem):
                error = {"detail": said, "code": "inference_error", "id": "e1"}
                return {**base, "status": "error", "error": error}
        self.charged += 0 if job.get("paid") else len(job["stem_list"])
        job["paid"] = True
        return {**base, "status": "success", "result": self._tracks(job)}

    def _tracks(self, job: dict[str, Any]) -> dict[str, Any]:
        upload, kind = self.sources[job["source_id"]], job["encoder_format"]
        tracks = [
            {"type": "stem", "label": stem, "url": self.keep(upload, stem, kind), "size": None}
            for stem in job["stem_list"]
        ]
        rest = self.keep(upload, "no_multistem", kind, 1 - 0.25 * len(tracks))
        tracks.append({"type": "back", "label": "no_multistem", "url": rest})
        return {"tracks": tracks, "duration": 30}


@pytest.fixture
def server() -> Iterator[LalalServer]:
    with serving(LalalServer()) as running:
        yield running


@pytest.fixture
def lalal(case: Case, server: LalalServer) -> Case:
    return case.at("lalal", f"{server.api}/api/v1").with_options(OFTEN)


def test_stems_come_home_and_the_back_track_is_other(lalal: Case, server: LalalServer) -> None:
    found = lalal.separate()
    assert lalal.shares(found) == {"drums": 0.25, "bass": 0.25, "other": 0.25, "vocals": 0.25}
    asked = server.sent("POST /api/v1/split/multistem/")[0].json["presets"]
    assert asked["stem_list"] == ["drum", "bass", "vocals"]
    assert asked["encoder_format"] == "flac"
    assert found.cost_usd == pytest.approx(0.5 * 3 * 0.06)
    assert set(found.stem_origins.values()) == {"lalal"}
    assert not server.strays()


def test_the_upload_is_the_mixture_itself(lalal: Case, server: LalalServer) -> None:
    lalal.separate()
    assert server.sent("POST /api/v1/upload/")[0].body == lalal.mixture.path.read_bytes()


def test_other_alone_is_what_is_left_of_all(lalal: Case, server: LalalServer) -> None:
    found = lalal.separate(only=frozenset({"other"}))
    assert lalal.shares(found) == {"other": 0.25}
    assert server.sent("POST /api/v1/split/multistem/")[0].json["presets"]["stem_list"] == [
        "drum",
        "bass",
        "vocals",
    ]


def test_a_stem_that_it_does_not_detect_is_silence(lalal: Case, server: LalalServer) -> None:
    server.not_made = _DETECT
    found = lalal.separate()
    assert lalal.shares(found) == {"drums": 0.25, "bass": 0.25, "other": 0.5, "vocals": 0.0}
    assert server.charged == 2
    assert found.cost_usd == pytest.approx(0.5 * 2 * 0.06)
    assert server.count("POST /api/v1/upload/") == 1


def test_several_stems_that_it_does_not_detect(lalal: Case, server: LalalServer) -> None:
    server.patience = 0
    server.not_made = {**_DETECT, "drum": "Unable to detect drums in the uploaded files"}
    found = lalal.separate()
    assert lalal.shares(found) == {"drums": 0.0, "bass": 0.25, "other": 0.75, "vocals": 0.0}
    assert server.charged == 1


def test_nothing_detected_leaves_other_to_others(lalal: Case, server: LalalServer) -> None:
    server.patience = 0
    server.not_made = {s: f"Unable to detect {s}" for s in ("vocals", "drum", "bass")}
    found = lalal.separate()
    assert lalal.shares(found) == dict.fromkeys(("drums", "bass", "vocals"), 0.0)
    assert server.charged == found.cost_usd == 0


def test_a_run_killed_after_the_rest_was_ordered_anew_pays_once(
    lalal: Case, server: LalalServer
) -> None:
    server.not_made = _DETECT
    server.patience = 10**6

    def killed() -> bool:
        server.patience = 1 if len(server.jobs) == 1 else 10**6
        return len(server.jobs) == 2 and all(job.get("asks") for job in server.jobs.values())

    with pytest.raises(Interrupted):
        lalal.separate(stop=killed)
    server.patience = 1
    assert lalal.shares(lalal.separate())["vocals"] == 0
    assert len(server.jobs) == 2
    assert server.charged == 2


def test_an_answer_lost_to_a_submit_pays_once(lalal: Case, server: LalalServer) -> None:
    server.lost = {"POST /api/v1/split/multistem/": 2}
    lalal.separate()
    assert len(server.jobs) == 1
    assert server.charged == 3
    assert server.count("POST /api/v1/split/multistem/") == 3


def test_a_key_that_was_used_up_is_never_replaced(lalal: Case, server: LalalServer) -> None:
    said = {"detail": "Idempotency key has already been used.", "code": "idempotency_key_used"}
    server.instead["POST /api/v1/split/multistem/"] = [as_json(400, said)]
    with pytest.raises(SubmitUnclear, match=r"has started.*service_options\.salt"):
        lalal.separate()
    assert not server.jobs
    lalal.separate()
    sent = server.sent("POST /api/v1/split/multistem/")
    assert len({call.json["idempotency_key"] for call in sent}) == 1


def test_a_salt_orders_anew(lalal: Case, server: LalalServer) -> None:
    said = {"detail": "Idempotency key has already been used.", "code": "idempotency_key_used"}
    server.instead["POST /api/v1/split/multistem/"] = [as_json(400, said)]
    with pytest.raises(SubmitUnclear):
        lalal.separate()
    lalal.with_options({**OFTEN, "salt": "again"}).separate()
    sent = server.sent("POST /api/v1/split/multistem/")
    assert len({call.json["idempotency_key"] for call in sent}) == 2


def test_too_often_without_retry_after(lalal: Case, server: LalalServer) -> None:
    server.instead["POST /api/v1/check/"] = [as_json(429, {"detail": "Too Many Requests"})] * 2
    assert len(lalal.separate().stems) == 4


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("exceeded_duration", BudgetSpent),
        ("exceeded_size", SourceRefused),
        ("max_duration", SourceRefused),
        ("batch_not_avaliable", SettingsError),
    ],
)
def test_licence_codes(lalal: Case, server: LalalServer, code: str, error: type[Exception]) -> None:
    refused = as_json(400, {"detail": "Not with this license.", "code": code})
    server.instead["POST /api/v1/split/multistem/"] = [refused] * 9
    with pytest.raises(error, match="Not with this license"):
        lalal.separate()
    assert server.count("POST /api/v1/split/multistem/") == 1


def test_a_missing_key_is_a_403(lalal: Case, server: LalalServer) -> None:
    with pytest.raises(KeyRejected, match="403"):
        lalal.with_key("wrong").separate()
    assert server.count("POST .*") == 1


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ({"status": "cancelled"}, ServiceError, "cancelled"),
        ({"status": "server_error", "error": "Permission denied"}, ServiceError, "Permission"),
        ({"status": "error", "error": {"detail": "no idea"}}, ServiceError, "no idea"),
        ({"status": "pondering"}, ProtocolError, "status 'pondering'.*begins"),
        ({"status": 7}, ProtocolError, "status"),
    ],
)
def test_failures_inside_http_200(
    lalal: Case, server: LalalServer, state: dict[str, Any], error: type[Exception], words: str
) -> None:
    class Failing(LalalServer):
        def _state(self, task: str) -> dict[str, Any]:
            return {"source_id": "s", "presets": {}, **state}

    with serving(Failing()) as failing, pytest.raises(error, match=words):
        lalal.at("lalal", f"{failing.api}/api/v1").separate()


def test_six_stems_it_has_not(lalal: Case) -> None:
    with pytest.raises(SettingsError, match="no stem guitar"):
        lalal.separate(model="htdemucs_6s")
    renamed = lalal.with_options({**OFTEN, "stem.guitar": "electric_guitar"})
    assert len(renamed.separate(model="htdemucs_6s").stems) == 6


def test_what_it_costs_before(lalal: Case) -> None:
    assert lalal.price_usd(120) == pytest.approx(2 * 3 * 0.06)
    dearer = lalal.with_options({**OFTEN, "usd_per_minute": "0.1"})
    assert dearer.price_usd(120) == pytest.approx(2 * 3 * 0.1)


@pytest.mark.parametrize("option", ["usd_per_minute", "checks_per_minute"])
def test_a_price_or_pace_that_is_none_is_refused_before_anything_starts(option: str) -> None:
    key = SecretStr("k")
    with pytest.raises(SettingsError, match=f"{option} is 'cheap'"):
        make_provider("lalal", base_url="", api_key=key, options={option: "cheap"})


def test_options_are_known(lalal: Case) -> None:
    with pytest.raises(SettingsError, match="no option 'spliter'; near is splitter"):
        lalal.with_options({**OFTEN, "spliter": "orion"}).separate()


def test_many_jobs_are_asked_for_in_one_request(lalal: Case, server: LalalServer) -> None:
    async def main() -> list[ProviderJob | BaseException]:
        provider, request = lalal.provider, lalal.request(0.25)
        async with Transport.to(provider) as transport:
            jobs = [
                await provider.submit(
                    transport, request.model_copy(update={"idempotency_key": str(n)})
                )
                for n in range(12)
            ]
            server.jobs[jobs[3].job_id]["odd"] = True
            asks = (provider.ask(transport, job, request) for job in jobs)
            return await asyncio.gather(*asks, return_exceptions=True)

    told = asyncio.run(main())
    assert server.count("POST /api/v1/check/") == 1
    assert isinstance(told[3], ProtocolError)
    assert [job.status for job in told if isinstance(job, ProviderJob)] == ["queued"] * 11
