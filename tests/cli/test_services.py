"""What `plan` and `doctor` say of services: order, reasons, budget, cost, and no money spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.separation.budget import Budget, Limit
from tests.cli.conftest import BUNDLED, Invoke, document
from tests.separation.loopback import KEY, LoopbackService, as_json, serve


def configure(folder: Path, **engine: Any) -> None:
    (folder / "stemwright.yaml").write_text(json.dumps({"engine": engine}))


def plan(stemwright: Invoke, *args: str) -> Any:
    return document(stemwright("plan", BUNDLED, "--model", "embedded", "--json", *args))


LALAL = {"service": "lalal", "api_key": KEY}


def test_plan_shows_the_order_with_reasons_and_the_cost(stemwright: Invoke, tmp_path: Path) -> None:
    configure(tmp_path, **LALAL, usd_per_minute=0.3, limit_usd=2, alternatives=[{"service": "fal"}])
    planned = plan(stemwright, "--workload", "batch")
    assert (planned["engine"], planned["provider"]) == ("cloud", "lalal")
    engines = {one["name"]: (one["part"], one["why"]) for one in planned["engines"]}
    assert engines["lalal"] == ("first", "$2.00 of $2 left this month")
    assert engines["fal"] == ("blocked", "its api_key is not set")
    assert engines["local_cpu"][0] == "next"
    assert planned["estimated_cost_usd"] == pytest.approx(planned["audio_s"] / 60 * 0.3)
    shown = stemwright("plan", BUNDLED, "--model", "embedded", "--workload", "batch").stdout
    assert "first            lalal ($2.00 of $2 left this month)" in shown
    assert "not              fal (its api_key is not set)" in shown
    assert KEY not in shown


def test_plan_goes_by_the_published_price_where_none_is_set(
    stemwright: Invoke, tmp_path: Path
) -> None:
    configure(tmp_path, **LALAL, service_options={"usd_per_minute": 0.05})
    planned = plan(stemwright, "--provider", "cloud")
    assert planned["estimated_cost_usd"] == pytest.approx(
        planned["audio_s"] / 60 * 3 * 0.05
    )  # `other` is its residual, for nothing


def test_plan_knows_that_a_budget_is_spent(stemwright: Invoke, tmp_path: Path) -> None:
    limit = Limit(minutes=5)
    Budget("lalal", limit).reserve("a-track", "a-separation", minutes=5, usd=0)
    configure(tmp_path, **LALAL, limit_minutes=5)
    planned = plan(stemwright, "--workload", "budget")
    assert planned["engine"] == "local_cpu"
    assert planned["engines"][0]["part"] == "paused"
    assert "its limit is reached until" in planned["engines"][0]["why"]


def test_a_stem_that_a_service_has_not_is_the_next_one_s(
    stemwright: Invoke, tmp_path: Path
) -> None:
    music = {"service": "music_ai", "api_key": KEY}  # without the workflow that it needs
    configure(tmp_path, **music, alternatives=[LALAL], fallback_to_local=True)
    planned = plan(stemwright, "--provider", "cloud")
    parts = {one["name"]: one["part"] for one in planned["engines"]}
    assert (parts["music_ai"], parts["lalal"], parts["local_cpu"]) == ("blocked", "first", "next")
    configure(tmp_path, **music)
    alone = stemwright("plan", BUNDLED, "--provider", "cloud", "--json")
    assert alone.exit_code == 2
    assert "workflow" in document(alone)["error"]["message"]


def findings(stemwright: Invoke) -> dict[str, dict[str, str]]:
    result = stemwright("doctor", "--model", "embedded", "--json")
    assert KEY not in result.output
    return {found["check"]: found for found in document(result)["findings"]}


@pytest.fixture
def service() -> Any:
    with serve() as service:
        service.planned = {"GET healthz": [as_json(200, {})] * 9}
        yield service


def test_doctor_asks_each_service_and_makes_no_job(
    stemwright: Invoke, tmp_path: Path, service: LoopbackService
) -> None:
    second = {"name": "spare", "api_key": "sk-wrong", "base_url": service.base_url}
    configure(
        tmp_path, api_key=KEY, base_url=service.base_url, limit_minutes=60, alternatives=[second]
    )
    found = findings(stemwright)
    assert found["cloud API"]["state"] == "ok"
    assert "it takes the key; 60.0 of 60 min left this month" in found["cloud API"]["text"]
    assert found["cloud API 2"]["state"] == "problem"
    assert "spare: " in found["cloud API 2"]["text"]
    assert "rejects the API key (401)" in found["cloud API 2"]["text"]
    assert service.jobs == {}
    assert {request.method for request in service.requests} == {"GET"}


def test_doctor_warns_of_a_spent_budget_and_of_a_service_without_a_key(
    stemwright: Invoke, tmp_path: Path, service: LoopbackService
) -> None:
    Budget("stemwright", Limit(minutes=5)).reserve("t", "s", minutes=5, usd=0)
    configure(
        tmp_path,
        api_key=KEY,
        base_url=service.base_url,
        limit_minutes=5,
        alternatives=[{"service": "fal"}],
    )
    found = findings(stemwright)
    assert found["cloud API"]["state"] == "warning"
    assert "its limit is reached until" in found["cloud API"]["text"]
    assert found["cloud API 2"]["state"] == "problem"
    assert found["cloud API 2"]["text"] == "fal: its api_key is not set"
