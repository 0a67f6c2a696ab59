"""What can pass by itself is tried again, what can't is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.errors import OutOfMemory, RateLimited, StemwrightError
from tasks.separation.local import LocalSeparator
from tasks.separation.request import SeparationRequest
from tests.flows.studio import STAGES, Ran, run_catalog, run_track, write_config, write_track
from tests.sources.server import Site, file, serving, status

pytestmark = pytest.mark.usefixtures("prefect_server")

Faults = Callable[..., "_Faulty"]


class _Faulty:
    """The real engine, which fails for some tracks as often as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.faults: dict[str, list[StemwrightError]] = {}
        self.calls: list[str] = []
        self.times: list[float] = []
        self._real = LocalSeparator.separate
        self._lock = threading.Lock()
        monkeypatch.setattr(LocalSeparator, "separate", self._wrapper())

    def _wrapper(self) -> Any:
        outer = self

        def separate(self: LocalSeparator, request: SeparationRequest) -> Any:
            name = Path(request.mixture.ref.source).name
            with outer._lock:
                outer.calls.append(name)
                outer.times.append(time.monotonic())
                due = outer.faults.get(name)
                error = due.pop(0) if due else None
            if error:
                raise error
            return outer._real(self, request)

        return separate


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> _Faulty:
    return _Faulty(monkeypatch)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as served:
        yield served


def out_of_memory() -> OutOfMemory:
    return OutOfMemory("cpu ran out of memory while separating.")


def run_counts(ran: Ran, expected: int) -> dict[str, int]:
    """How often each stage's task ran, for a run of one batch."""
    return {run.name.split(" · ")[0]: run.run_count for run in ran.task_runs(expected)}


def test_a_passing_error_is_retried_and_the_attempts_are_recorded(
    tmp_path: Path, config: Path, engine: _Faulty
) -> None:
    source = write_track(tmp_path / "a.flac", 1)
    engine.faults["a.flac"] = [out_of_memory()]
    ran = run_track(source, tmp_path / "library", config)
    assert (ran.summary.done, ran.state.name) == (1, "Completed")
    assert ran.report("a.flac").attempts == 2
    assert pd.read_parquet(tmp_path / "library/reports/tracks")["attempts"].tolist() == [2]
    expected = dict.fromkeys(STAGES, 1) | {"separate": 2}
    assert run_counts(ran, len(STAGES)) == expected


def test_in_a_batch_only_the_undone_is_repeated(
    tmp_path: Path, models_dir: Path, engine: _Faulty
) -> None:
    config = write_config(tmp_path / "c.yaml", models_dir, run={"batch_size": 3})
    for seed, name in enumerate("abc"):
        write_track(tmp_path / f"music/{name}.flac", seed)
    engine.faults["b.flac"] = [out_of_memory()]
    ran = run_catalog([tmp_path / "music"], tmp_path / "library", config)
    assert ran.summary.done == 3
    assert engine.calls == ["a.flac", "b.flac", "c.flac", "b.flac"]
    assert [ran.report(f"{name}.flac").attempts for name in "abc"] == [1, 2, 1]
    assert run_counts(ran, len(STAGES))["separate"] == 2


def test_a_batch_of_which_one_failed_is_partial(
    tmp_path: Path, models_dir: Path, engine: _Faulty
) -> None:
    config = write_config(tmp_path / "c.yaml", models_dir, run={"batch_size": 3})
    for seed, name in enumerate("abc"):
        write_track(tmp_path / f"music/{name}.flac", seed)
    (tmp_path / "music/b.flac").write_text("This is no music.\n" * 500)
    ran = run_catalog([tmp_path / "music"], tmp_path / "library", config)
    assert (ran.summary.done, ran.summary.failed, ran.state.name) == (2, 1, "Partial")
    states = {run.name.split(" · ")[0]: run.state_name for run in ran.task_runs(len(STAGES))}
    assert states == dict.fromkeys(STAGES, "Completed") | {"normalize": "Partial"}
    assert len(pd.read_parquet(tmp_path / "library/reports/tracks")) == 2


def test_a_corrupt_file_is_not_retried(tmp_path: Path, config: Path) -> None:
    source = write_track(tmp_path / "a.flac", 1)
    source.write_bytes(source.read_bytes()[:20_000])
    ran = run_track(source, tmp_path / "library", config)
    failure = ran.failure_of("a.flac")
    assert (failure.error_type, failure.stage) == ("CorruptAudio", "normalize")
    assert (failure.attempt, failure.retryable) == (1, False)
    assert ran.diary.count("normalize") == 1
    assert run_counts(ran, 2) == {"ingest": 1, "normalize": 1}


def test_exhausted_retries_end_in_a_failure_that_may_be_tried_again(
    tmp_path: Path, models_dir: Path, engine: _Faulty
) -> None:
    config = write_config(tmp_path / "c.yaml", models_dir, run={"separate_retries": 1})
    source = write_track(tmp_path / "a.flac", 1)
    engine.faults["a.flac"] = [out_of_memory() for _ in range(2)]
    ran = run_track(source, tmp_path / "library", config)
    failure = ran.failure_of("a.flac")
    assert (failure.error_type, failure.stage) == ("OutOfMemory", "separate")
    assert (failure.attempt, failure.retryable) == (2, True)
    row = pd.read_parquet(tmp_path / "library/reports/failures").iloc[0]
    assert (row["retryable"], row["attempt"]) == (True, 2)
    assert not (tmp_path / "library/.scratch").exists()
    again = run_track(source, tmp_path / "library", config)
    assert again.summary.done == 1, "no --retry-failed is needed for what can pass"


def test_no_retries_means_none(tmp_path: Path, models_dir: Path, engine: _Faulty) -> None:
    config = write_config(tmp_path / "c.yaml", models_dir, run={"separate_retries": 0})
    source = write_track(tmp_path / "a.flac", 1)
    engine.faults["a.flac"] = [out_of_memory()]
    ran = run_track(source, tmp_path / "library", config)
    assert engine.calls == ["a.flac"]
    assert ran.failure_of("a.flac").attempt == 1


def test_a_service_that_names_a_wait_is_given_it(
    tmp_path: Path, config: Path, engine: _Faulty
) -> None:
    source = write_track(tmp_path / "a.flac", 1)
    engine.faults["a.flac"] = [RateLimited("too many requests.", retry_after_s=1.0)]
    ran = run_track(source, tmp_path / "library", config)
    assert ran.summary.done == 1
    assert engine.times[1] - engine.times[0] >= 1.0


def test_a_server_s_passing_fault_costs_a_retry_of_the_fetching_alone(
    tmp_path: Path, config: Path, site: Site
) -> None:
    body = write_track(tmp_path / "a.flac", 1).read_bytes()
    site.on("/a.flac", status(500), status(500), file(body))
    ran = run_track(f"{site.url}/a.flac", tmp_path / "library", config)
    assert ran.summary.failures == []
    assert ran.summary.done == 1
    assert run_counts(ran, len(STAGES)) == dict.fromkeys(STAGES, 1) | {"ingest": 3}
    assert ran.report("a.flac").attempts == 3


def test_a_page_that_isn_t_there_is_not_asked_for_again(
    tmp_path: Path, config: Path, site: Site
) -> None:
    site.on("/a.flac", status(404))
    ran = run_track(f"{site.url}/a.flac", tmp_path / "library", config)
    failure = ran.failure_of("a.flac")
    assert (failure.error_type, failure.stage) == ("SourceMissing", "ingest")
    assert ran.diary.count("ingest") == 1


def test_a_fault_of_ours_costs_its_track_alone(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tasks.quality

    real = tasks.quality.score_measures

    def score(measured: Any, *args: Any, **kwargs: Any) -> Any:
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError("division by zero")
        return real(measured, *args, **kwargs)

    broken = threading.Event()
    monkeypatch.setattr(tasks.quality, "score_measures", score)
    for seed, name in enumerate("ab"):
        write_track(tmp_path / f"music/{name}.flac", seed)
    ran = run_catalog([tmp_path / "music"], tmp_path / "library", config)
    assert (ran.summary.done, ran.summary.failed) == (1, 1)
    (failure,) = ran.summary.failures
    assert (failure.stage, failure.error_type) == ("score", "StemwrightError")
    assert "ZeroDivisionError" in failure.message
    assert "report it" in failure.remedy
    assert not (tmp_path / "library/.scratch").exists()


def test_a_full_disk_is_no_matter_of_retries(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the operating system says where the track is written becomes our own error."""
    import errno
    import os

    import tasks.normalize

    def normalize(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tasks.normalize, "normalize", normalize)
    ran = run_track(write_track(tmp_path / "a.flac", 1), tmp_path / "library", config)
    failure = ran.failure_of("a.flac")
    assert (failure.error_type, failure.attempt) == ("DiskFull", 1)
    assert "same command" in failure.remedy
