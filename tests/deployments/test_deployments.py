"""What a site that follows `deployments/README.md` gets: a real server, worker and schedule."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile as sf
import yaml

import tasks.sources
from tests.deployments.house import ROOT, House, running_house, until
from tests.flows.wrong_parameters import wrong_bodies

# The waits in here are bounded one by one; together they may pass the suite's limit for a test.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

BUNDLED = Path(tasks.sources.__file__).parent / "bundled"

# With no score good enough, every track gets its page.
SETTINGS = """
separation: {model: embedded}
library: ./library
quality: {thresholds: {review: 1.0, fail: 1.0}}
"""

Run = dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_house(tmp_path_factory.mktemp("house"), SETTINGS) as house:
        for piece in ("iron_harbour", "costa_lenta"):
            _excerpt(BUNDLED / piece / "mixture.flac", house.site / "catalog" / f"{piece}.flac")
        yield house


def _excerpt(source: Path, target: Path, seconds: int = 5) -> None:
    samples, rate = sf.read(source, frames=seconds * sf.info(source).samplerate, always_2d=True)
    sf.write(target, samples, rate)


@pytest.fixture(scope="module")
def started(house: House) -> dict[str, str]:
    """One run of the track deployment and two of the catalog's, all started at once."""
    track = {
        "track": {"source": "./catalog/iron_harbour.flac", "artist": "Studio", "title": "Harbour"},
        "separation": {"library": "./single", "stems": ["vocals", "drums"]},
    }
    wanted = {
        "track": ("separate-track", track),
        "first night": ("separate-catalog", {}),
        "second night": ("separate-catalog", {}),
    }
    return {
        which: house.start_run(deployment, parameters).raise_for_status().json()["id"]
        for which, (deployment, parameters) in wanted.items()
    }


def test_a_track_started_from_the_form_is_separated(house: House, started: dict[str, str]) -> None:
    run = house.ended_run(started["track"])

    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert run["name"] == "separate · Studio – Harbour"
    table = pd.read_parquet(house.site / "single" / "reports" / "tracks")
    assert list(table.title) == ["Harbour"]
    assert list(table.run_id) == [started["track"]]
    folder = house.site / "single" / "tracks" / table.track_id[0] / table.separation_id[0]
    names = {"mixture.flac", "vocals.flac", "drums.flac", "report.json"}
    assert {path.name for path in folder.iterdir()} == names


def test_a_run_shows_its_progress_its_results_and_a_page_for_a_flagged_track(
    house: House, started: dict[str, str]
) -> None:
    house.ended_run(started["track"])
    artifacts = house.artifacts(started["track"])

    progress = artifacts["separation-progress"]
    assert (progress["type"], progress["data"]) == ("progress", 100.0)
    results = artifacts["separation-results"]
    assert results["type"] == "table"
    (row,) = json.loads(results["data"])
    assert (row["track"], row["status"], row["quality"]) == ("Studio – Harbour", "done", "poor")
    (flagged,) = (row for key, row in artifacts.items() if key.startswith("flagged-"))
    assert flagged["type"] == "markdown"
    assert "# Studio – Harbour" in flagged["data"]
    assert "| vocals |" in flagged["data"]


def test_a_night_separates_what_is_in_the_watched_folder(
    house: House, started: dict[str, str]
) -> None:
    run = house.ended_run(started["first night"])

    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert run["state"]["message"] == "2 separated, 0 failed."
    of_run = pd.read_parquet(house.site / "library" / "reports" / "tracks")
    assert set(of_run.run_id) == {started["first night"]}
    assert {Path(source).name for source in of_run.source} == {
        "iron_harbour.flac",
        "costa_lenta.flac",
    }


def test_the_next_night_waits_for_the_first_and_finds_nothing_new(
    house: House, started: dict[str, str]
) -> None:
    first, second = (house.ended_run(started[which]) for which in ("first night", "second night"))

    assert second["start_time"] >= first["end_time"]
    assert second["state_name"] == "NothingNew"
    assert second["state"]["message"] == "0 separated, 2 already done, 0 failed."
    rows = pd.read_parquet(house.site / "library" / "reports" / "tracks")
    assert len(rows) == 2


def test_only_what_is_new_is_separated(house: House, started: dict[str, str]) -> None:
    house.ended_run(started["second night"])
    _excerpt(BUNDLED / "paper_lanterns" / "mixture.flac", house.site / "catalog" / "new.flac", 2)
    run = house.start_run("separate-catalog", {}).raise_for_status().json()

    assert house.ended_run(run["id"])["state"]["message"] == (
        "1 separated, 2 already done, 0 failed."
    )


def test_every_night_at_two_the_catalog_is_due(house: House) -> None:
    deployment = house.deployment("separate-catalog")

    (schedule,) = deployment["schedules"]
    assert schedule["slug"] == "nightly"
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    due = {
        "flow_runs": {
            "deployment_id": {"any_": [deployment["id"]]},
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "expected_start_time": {"after_": "2000-01-01T00:00:00Z"},
        }
    }
    nights = until(
        lambda: [run for run in house.found("flow_runs", due) if run["auto_scheduled"]] or None,
        "the scheduler to plan the coming nights",
    )
    assert all("T02:00:00" in night["expected_start_time"] for night in nights)
    assert nights[0]["parameters"] == {"tracks": {"sources": ["./catalog"]}}


def test_every_monday_a_review_is_due_and_it_ends_with_its_page(
    house: House, started: dict[str, str]
) -> None:
    (schedule,) = house.deployment("review-catalog")["schedules"]
    assert (schedule["slug"], schedule["active"]) == ("weekly", True)
    assert schedule["schedule"]["cron"] == "0 7 * * 1"
    house.ended_run(started["first night"])

    run = house.start_run("review-catalog", {}).raise_for_status().json()

    ended = house.ended_run(run["id"])
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
    artifacts = house.artifacts(run["id"])
    assert artifacts["catalog-review"]["type"] == "markdown"
    flagged = json.loads(artifacts["newly-flagged"]["data"])
    assert {row["quality"] for row in flagged} == {"poor"}
    assert f"{len(flagged)} flagged" in artifacts["catalog-review"]["description"]
    assert (house.site / "library" / "reports" / "calibration.json").is_file()


def test_runs_are_kept_where_the_worker_was_started(house: House) -> None:
    """A process worker's own temporary folder would take the library with it."""
    for name in ("separate-track", "separate-catalog", "review-catalog"):
        assert house.deployment(name)["job_variables"] == {"working_dir": "."}
        assert house.deployment(name)["pull_steps"] == []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"trak": {"source": "song.wav"}},
        {"track": {"source": "song.wav"}, "sepration": {"model": "embedded"}},
        {"track": {"source": ""}},
        {"track": {"source": "song.wav", "titel": "Harbour"}},
        {"track": {"source": "song.wav"}, "separation": {"modell": "embedded"}},
        {"track": {"source": "song.wav"}, "separation": {"provider": "gpu"}},
        {"track": {"source": "song.wav"}, "separation": {"deadline_s": -1}},
        {"track": {"source": "song.wav"}, "control": {"fail_under": 2}},
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused_before_a_run_exists(
    house: House, parameters: dict[str, Any]
) -> None:
    answer = house.start_run("separate-track", parameters)

    assert answer.status_code == 409
    assert "Validation failed" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("separate-track", {"track": {"source": "song.wav"}}),
        ("separate-catalog", {"tracks": {"sources": ["./catalog"]}}),
        ("review-catalog", {}),
    ],
)
def test_nothing_that_breaks_the_worker_s_polls_is_stored(
    house: House, name: str, good: dict[str, Any]
) -> None:
    deployment = house.deployment(name)
    of_it = {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}}}
    before = _count(house, of_it)
    bodies = list(wrong_bodies(deployment["parameter_openapi_schema"], good))
    for wrong in random.Random(7).sample(bodies, 120):
        answer = house.start_run(name, wrong.body)
        # Beyond half a megabyte Prefect itself refuses them, whatever they are.
        if len(json.dumps(wrong.body)) > 500_000:
            assert answer.status_code == 422, str(wrong)
        else:
            assert answer.status_code == 409, (str(wrong), answer.text)
            assert wrong.where[0] in answer.json()["detail"]
    assert _count(house, of_it) == before

    # The worker finds a run that was made after all of them.
    run = house.start_run("review-catalog", {"library": {"library": "./none"}})
    assert house.ended_run(run.raise_for_status().json()["id"])["state_type"] == "COMPLETED"


def _count(house: House, of: dict[str, Any]) -> int:
    count: int = house.post("/flow_runs/count", of).raise_for_status().json()
    return count


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("separate-track", ["track", "separation", "control", "blocks"]),
        ("separate-catalog", ["tracks", "separation", "control", "blocks"]),
        ("review-catalog", ["library", "period"]),
    ],
)
def test_the_form_is_plain(house: House, name: str, groups: list[str]) -> None:
    schema = house.deployment(name)["parameter_openapi_schema"]

    assert {key: schema["properties"][key]["position"] for key in groups} == {
        key: position for position, key in enumerate(groups)
    }
    assert set(schema["properties"]) == set(groups)
    # The form sends every group's default back, and the server takes no null for a block.
    assert "null" not in json.dumps(
        [group.get("default") for group in schema["properties"].values() if "default" in group]
    )
    pickers = schema["definitions"].get("SavedBlocks", {"properties": {}})["properties"]
    picked = {field["$ref"].rsplit("/", 1)[1] for field in pickers.values()}
    assert all("block_type_slug" in schema["definitions"][kind] for kind in picked)
    for name, group in schema["definitions"].items():
        # The fields of a block are filled in where it is made, not in this form.
        if name in picked | {"SavedBlocks", "QualityThresholds", "ThresholdOverride"}:
            continue
        fields = group["properties"].values()
        assert group["description"]
        assert group["additionalProperties"] is False
        assert [field["position"] for field in fields] == list(range(len(fields)))
        assert all(field["title"] for field in fields)
        # A union is tabs or a "T / None" toggle in the form; each field has one plain type.
        assert all(isinstance(field["type"], str) for field in fields)


@pytest.mark.parametrize("name", ["separate-track", "separate-catalog"])
def test_choices_are_dropdowns(house: House, name: str) -> None:
    schema = house.deployment(name)["parameter_openapi_schema"]
    separation = schema["definitions"]["Separation"]["properties"]
    dropdowns = {key for key, field in separation.items() if "enum" in field}
    assert dropdowns == {"provider", "workload", "format", "bit_depth"}
    assert all(separation[key]["enum"][0] == "as configured" for key in dropdowns)


def test_the_server_takes_the_automation_for_lost_runs(house: House) -> None:
    (automation,) = _automations()

    answer = house.post("/automations/", automation)

    assert answer.status_code == 201, answer.text
    assert answer.json()["trigger"]["posture"] == "Proactive"


def test_no_run_that_has_ended_is_taken_for_lost() -> None:
    """The automation waits for events that are named after states, our own names included."""
    from flows.runner.run import final_state
    from flows.runner.summary import RunSummary

    def ended(**counts: int) -> str | None:
        summary = RunSummary(
            library="",
            run_id="",
            separation_id="",
            model="",
            engine="",
            device="",
            reasons=[],
            **counts,
        )
        return final_state(summary).name

    names = {
        ended(done=1),
        ended(already=1),
        ended(done=1, failed=1),
        ended(failed=1),
        ended(done=1, under_gate=1),
    }
    (automation,) = _automations()
    expected = set(automation["trigger"]["expect"])
    assert len(names) == 5
    names |= _names_of_reviews()
    assert len(names) == 6
    assert {f"prefect.flow-run.{name}" for name in names} <= expected


def _names_of_reviews() -> set[str | None]:
    from flows.review_catalog import review_state
    from flows.reviewing import Drift, ReviewSummary
    from tasks.quality.drift import shift_between

    fell = shift_between([0.8, 0.81] * 20, [0.5, 0.51] * 20)
    drift = Drift(model="m", stem="", measure="score", plain=fell, within_genre=fell)

    def ended(**found: Any) -> str | None:
        now = datetime.now(UTC)
        summary = ReviewSummary(library="", since=now, confidence=0.95, tolerance=0.02, **found)
        return review_state(summary).name

    return {ended(), ended(new_reports=1), ended(new_reports=1, drifts=[drift])}


def _automations() -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "deployments" / "automations.yaml").read_text())
    automations: list[dict[str, Any]] = document["automations"]
    return automations
