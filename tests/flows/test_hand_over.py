"""Runs over a real service on loopback that dies, runs out, leaves stems out: nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.contracts import STEMS
from tasks.errors import DiskFull
from tasks.recording import Library
from tasks.separation import breaker
from tests.flows.studio import Ran, finished_in, run_catalog, write_config, write_track
from tests.separation.loopback import KEY, Answer, LoopbackService, Misdeed, as_json, serve

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def _own_breakers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_breakers", {})


@pytest.fixture
def service() -> Iterator[LoopbackService]:
    with serve() as service:
        yield service


def music(folder: Path, count: int) -> list[Path]:
    return [write_track(folder / f"music/{seed}.flac", seed) for seed in range(count)]


STORM = [as_json(503, {"detail": "busy"})] * 99


def settings(
    folder: Path,
    models_dir: Path,
    service: LoopbackService,
    retries: int = 0,
    **engine: Any,
) -> Path:
    ours = {
        "provider": "cloud",
        "api_key": KEY,
        "base_url": service.base_url,
        "max_retries": 3,
        "max_backoff_seconds": 0.05,
        "fallback_to_local": True,
    }
    run = {"window": 1, "separate_retries": retries, "retry_delay_seconds": 0.01}
    return write_config(folder / "c.yaml", models_dir, engine=ours | engine, run=run)


def makers(ran: Ran) -> dict[str, str | None]:
    return {Path(line.source).name: line.provider for line in ran.summary.tracks}


def test_a_service_that_dies_mid_catalog_leaves_the_rest_to_this_machine(
    tmp_path: Path, models_dir: Path
) -> None:
    sources = music(tmp_path, 6)
    with serve() as service:
        config = settings(tmp_path, models_dir, service)
        # It takes two tracks, and from then on nothing but fails.
        answer = service.answer

        def dying(request: Any) -> Answer:
            if len(service.jobs) < 2 or request.method != "POST":
                return answer(request)
            service.requests.append(request)
            return as_json(503, {"detail": "out of service"})

        service.answer = dying  # type: ignore[method-assign]
        ran = run_catalog(sources, tmp_path / "library", config)

        assert makers(ran) == {
            f"{seed}.flac": "stemwright" if seed < 2 else "local" for seed in range(6)
        }
        asked = service.count("POST separate")

    assert (ran.state.name, ran.summary.done, ran.summary.failed) == ("Completed", 6, 0)
    assert ran.summary.headline == "6 separated (2 by stemwright, 4 by this machine), 0 failed."
    third, last = ran.report("2.flac"), ran.report("5.flac")
    assert "the service failed (503: out of service)" in third.stem_set.route[0]
    assert third.stem_set.route[1:] == ("local_cpu",)
    # After three tracks it was left alone.
    assert last.stem_set.route == ("stemwright (left alone after repeated faults)", "local_cpu")
    assert asked <= 2 + 3 * 4
    assert third.separation_id != ran.report("0.flac").separation_id
    assert third.stem_set.separation_id == third.separation_id
    tracks = pd.read_parquet(ran.library / "reports/tracks")
    assert dict(tracks["engine"].value_counts()) == {"local_cpu": 4, "cloud": 2}

    again = run_catalog(sources, tmp_path / "library", config)
    assert (again.summary.already, again.diary.count("ingest")) == (6, 0)
    assert len(finished_in(tmp_path / "library")) == 6


def test_beyond_the_limit_this_machine_takes_over(
    tmp_path: Path, models_dir: Path, service: LoopbackService
) -> None:
    limit = {"limit_minutes": 2.5 / 60, "usd_per_minute": 0.6}
    config = settings(tmp_path, models_dir, service, **limit)
    ran = run_catalog(music(tmp_path, 4), tmp_path / "library", config)
    assert list(makers(ran).values()) == ["stemwright", "stemwright", "local", "local"]
    assert len(service.jobs) == 2
    assert ran.summary.cost_usd == pytest.approx(0.02)
    assert ran.report("0.flac").stem_set.cost_usd == pytest.approx(0.01)
    assert "its limit is reached" in ran.report("3.flac").stem_set.route[0]

    # The limit is remembered: a later run asks the service for nothing.
    later = [write_track(tmp_path / "later.flac", 99)]
    ran = run_catalog(later, tmp_path / "library", config)
    assert makers(ran) == {"later.flac": "local"}
    assert len(service.jobs) == 2


def test_a_stem_that_the_service_leaves_out_comes_from_this_machine(
    tmp_path: Path, models_dir: Path, service: LoopbackService
) -> None:
    service.leave_out = {"bass"}
    config = settings(tmp_path, models_dir, service)
    ran = run_catalog(music(tmp_path, 1), tmp_path / "library", config)
    report = ran.report("0.flac")
    assert report.completeness.complete
    assert report.stem_set.stem_origins == dict.fromkeys(STEMS, "stemwright") | {
        "bass": "local_cpu"
    }
    assert report.stem_set.route == ("stemwright (left out bass)", "local_cpu")
    assert report.stem_set.provider == "stemwright"
    assert [request.fields["stems"] for request in service.jobs.values()] == [b"4", b"bass"]
    stems = pd.read_parquet(ran.library / "reports/stems").set_index("stem")
    assert stems.loc["bass", "origin"] == "local_cpu"


def test_a_second_service_takes_over_from_the_first(
    tmp_path: Path, models_dir: Path, service: LoopbackService
) -> None:
    with serve() as first:
        first.planned = {"POST separate": [as_json(500, {"detail": "broken"})] * 50}
        spare = {"name": "spare", "api_key": KEY, "base_url": service.base_url}
        config = settings(
            tmp_path, models_dir, first, alternatives=[spare], fallback_to_local=False
        )
        ran = run_catalog(music(tmp_path, 1), tmp_path / "library", config)
    assert makers(ran) == {"0.flac": "spare"}
    assert ran.report("0.flac").stem_set.route[1:] == ("spare",)


def test_with_the_key_rejected_everywhere_the_run_ends_early(
    tmp_path: Path, models_dir: Path, service: LoopbackService
) -> None:
    config = settings(
        tmp_path, models_dir, service, api_key="sk-wrong-key", fallback_to_local=False
    )
    ran = run_catalog(music(tmp_path, 12), tmp_path / "library", config)
    assert ran.state.type.value == "FAILED"
    assert ran.summary.failed < 4
    assert ran.summary.exit_code == 1
    assert "The run ended early: the service rejected the API key" in ran.summary.headline
    assert "sk-wrong-key" not in json.dumps(ran.summary.model_dump(mode="json"))
    assert service.count("POST separate") == 1


def test_the_source_s_own_bytes_when_they_are_not_to_be_normalized(
    tmp_path: Path, models_dir: Path, service: LoopbackService
) -> None:
    config = settings(tmp_path, models_dir, service)
    config.write_text(config.read_text() + "audio: {normalize_before_submit: false}\n")
    (source,) = music(tmp_path, 1)
    run_catalog([source], tmp_path / "library", config)
    (job,) = service.jobs.values()
    assert job.fields["audio"] == source.read_bytes()


@pytest.mark.parametrize(("format", "magic"), [("wav", b"RIFF"), ("flac", b"fLaC")])
def test_the_upload_has_the_format_that_was_set(
    tmp_path: Path, models_dir: Path, service: LoopbackService, format: str, magic: bytes
) -> None:
    config = settings(tmp_path, models_dir, service)
    config.write_text(config.read_text() + f"audio: {{input_format: {format}}}\n")
    run_catalog(music(tmp_path, 1), tmp_path / "library", config)
    (job,) = service.jobs.values()
    assert job.fields["audio"].startswith(magic)


def test_what_the_library_has_is_forgotten_at_the_service(
    tmp_path: Path, models_dir: Path, service: LoopbackService
) -> None:
    config = settings(tmp_path, models_dir, service)
    run_catalog(music(tmp_path, 2), tmp_path / "library", config)
    assert sorted(service.forgotten) == sorted(service.jobs)


def test_with_the_limit_reached_and_nobody_else_the_run_ends_early(
    tmp_path: Path, models_dir: Path, service: LoopbackService
) -> None:
    few = {"limit_minutes": 1.5 / 60, "fallback_to_local": False}
    config = settings(tmp_path, models_dir, service, **few)
    ran = run_catalog(music(tmp_path, 10), tmp_path / "library", config)
    assert ran.summary.done == 1
    assert 3 <= ran.summary.failed <= 4
    assert "The run ended early: its limit is reached" in ran.summary.headline


def test_a_full_disk_ends_the_run_and_one_track_too_many_does_not(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Library.commit
    left = [True, False, True, False]

    def full(library: Library, folder: Path, report: Any, **named: Any) -> Any:
        if left and left.pop(0):
            return commit(library, folder, report, **named)
        raise DiskFull("the disk is full.")

    monkeypatch.setattr(Library, "commit", full)
    sources = music(tmp_path, 12)
    ran = run_catalog(sources, tmp_path / "library", config, control={"jobs": 1})
    assert ran.summary.done == 2
    assert 1 + 3 <= ran.summary.failed <= 1 + 4
    assert "The run ended early: the disk is full." in ran.summary.headline
    monkeypatch.undo()
    again = run_catalog(sources, tmp_path / "library", config)
    assert (again.summary.done, again.summary.already) == (10, 2)


@pytest.mark.parametrize(
    ("planned", "submits", "asks", "jobs_in_all"),
    [
        ({"POST separate": STORM}, 3, 0, 1),
        ({"GET jobs": STORM}, 1, 3, 1),
        # A failed job is no use to the next run, which orders anew.
        ({"GET jobs": [as_json(200, {"job_id": "x", "status": "failed"})] * 9}, 1, 1, 2),
    ],
    ids=["a storm at the submit", "a storm at the asks", "a job that failed"],
)
def test_the_stage_s_retries_do_not_multiply_the_service_s(
    tmp_path: Path,
    models_dir: Path,
    service: LoopbackService,
    planned: dict[str, list[Answer | Misdeed]],
    submits: int,
    asks: int,
    jobs_in_all: int,
) -> None:
    config = settings(tmp_path, models_dir, service, retries=2, fallback_to_local=False)
    service.planned = {kind: list(answers) for kind, answers in planned.items()}
    ran = run_catalog(music(tmp_path, 1), tmp_path / "library", config)
    assert (ran.summary.done, ran.summary.failed) == (0, 1)
    assert (service.count("POST separate"), service.count("GET jobs")) == (submits, asks)
    # The next run may try again, and does.
    service.planned = {}
    again = run_catalog(music(tmp_path, 1), tmp_path / "library", config)
    assert (again.summary.done, again.summary.failed) == (1, 0)
    assert len(service.jobs) == jobs_in_all


def test_stems_that_do_not_come_are_fetched_again_by_the_stage(
    tmp_path: Path, models_dir: Path, service: LoopbackService
) -> None:
    config = settings(tmp_path, models_dir, service, retries=2, fallback_to_local=False)
    service.planned = {"GET stems": STORM[:12]}
    ran = run_catalog(music(tmp_path, 1), tmp_path / "library", config)
    assert (ran.summary.done, ran.summary.failed) == (1, 0)
    assert (service.count("POST separate"), len(service.jobs)) == (1, 1)
