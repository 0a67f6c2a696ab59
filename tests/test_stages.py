"""The stage tasks over a batch: what ends a track, what has it tried again, what others notice."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import soundfile
from prefect.client.schemas.objects import State
from prefect.logging import disable_run_logger

from blocks.settings import load_settings
from flows.assemble import assemble
from flows.watch import Nobody
from tasks.contracts import TrackRef
from tasks.crew import Batch, Crew, Journey, Stage
from tasks.errors import NetworkError, RateLimited
from tasks.stages import STAGE_TASKS
from tests.flows.studio import STAGES, finished_in, write_config, write_track
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def crew(tmp_path: Path, models_dir: Path) -> Iterator[Crew]:
    """A real crew: library, tiny model and all; its tasks run without a server."""
    config = write_config(tmp_path / "c.yaml", models_dir)
    settings = load_settings(config, {"library": str(tmp_path / "library")})
    with (
        disable_run_logger(),
        assemble(settings, run_id="run-1", flow_run_name="a run", watcher=Nobody()) as (crew, _),
    ):
        yield crew


def batch_of(crew: Crew, *refs: TrackRef) -> Batch:
    return Batch([Journey(ref=ref, folder=crew.workspace / ref.key) for ref in refs])


def ref_of(path: Path, **known: Any) -> TrackRef:
    return TrackRef(source=str(path), kind="file", **known)


def take(stage: Stage, batch: Batch, crew: Crew) -> State[Any]:
    """One attempt of a stage's task."""
    return STAGE_TASKS[stage].fn(batch, crew)


def take_through(batch: Batch, crew: Crew, *stages: str) -> None:
    for stage in stages or STAGES:
        take(stage, batch, crew)  # type: ignore[arg-type]


def failing(error: BaseException, times: int = 1) -> Callable[..., Any]:
    left = [error] * times

    def work(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()

    return work


def test_a_damaged_source_is_separated_and_asks_for_a_review(tmp_path: Path, crew: Crew) -> None:
    path = write_track(tmp_path / "a.flac", 0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    batch = batch_of(crew, ref_of(path))
    take_through(batch, crew)
    report = batch.journeys[0].report
    assert report is not None
    assert report.mixture.source_damages == 1
    assert report.mixture.source_damaged_s > 0
    assert report.quality.verdict != "pass"
    assert report.quality.reasons[0] == "source_damaged"


@pytest.mark.parametrize("offset", [0.2, 0.0])
def test_a_quiet_source_and_one_with_an_offset_are_separated(
    tmp_path: Path, crew: Crew, offset: float
) -> None:
    samples, rate = soundfile.read(write_track(tmp_path / "a.flac", 0), always_2d=True)
    soundfile.write(tmp_path / "a.flac", samples / 1000 + offset, rate, subtype="PCM_24")
    batch = batch_of(crew, ref_of(tmp_path / "a.flac"))
    take_through(batch, crew)
    report = batch.journeys[0].report
    assert report is not None
    assert report.completeness.complete
    assert "mixture_silent" not in report.quality.reasons


def test_a_batch_through_all_stages(tmp_path: Path, crew: Crew) -> None:
    sources = [write_track(tmp_path / f"{name}.flac", name) for name in range(2)]
    batch = batch_of(crew, *map(ref_of, sources))
    states = {stage: take(stage, batch, crew) for stage in STAGE_TASKS}
    assert {state.name for state in states.values()} == {"Completed"}
    assert states["score"].message == "score: 2 done"
    assert [journey.status for journey in batch.journeys] == ["done", "done"]
    assert all(journey.stages_done >= set(STAGES) for journey in batch.journeys)
    assert len(finished_in(tmp_path / "library")) == len(crew.library.tracks()) == 2
    assert list(crew.workspace.iterdir()) == []


def test_the_catalog_s_words_win_over_the_tags(tmp_path: Path, crew: Crew) -> None:
    source = write_track(tmp_path / "a.flac", 1, title="Tag", artist="Tag", album="Tag")
    ref = ref_of(source, title="Catalog", genre="Catalog", extra={"mood": "calm"})
    batch = batch_of(crew, ref)
    assert batch.label == "Catalog"
    take_through(batch, crew)
    report = batch.journeys[0].report
    assert report is not None
    assert (report.title, report.artist, report.album) == ("Catalog", "Tag", "Tag")
    assert (report.genre, report.extra["mood"]) == ("Catalog", "calm")
    assert batch.label == "Tag – Catalog"


def test_a_permanent_error_ends_its_track_at_once(tmp_path: Path, crew: Crew) -> None:
    good = write_track(tmp_path / "a.flac", 1)
    batch = batch_of(crew, ref_of(tmp_path / "missing.flac"), ref_of(good))
    state = take("ingest", batch, crew)
    assert (state.type.value, state.name) == ("COMPLETED", "Partial")
    assert "missing.flac: there is no file" in str(state.message)
    missing, present = batch.journeys
    assert missing.failure is not None
    assert (missing.failure.error_type, missing.failure.attempt) == ("SourceMissing", 1)
    assert missing.failure.run_id == "run-1"
    assert not missing.folder.exists()
    assert batch.open() == [present]


def test_a_task_all_of_whose_tracks_failed_has_failed_for_good(tmp_path: Path, crew: Crew) -> None:
    state = take("ingest", batch_of(crew, ref_of(tmp_path / "missing.flac")), crew)
    assert state.is_failed()
    assert state.data == {"retry": False}


@pytest.mark.parametrize(
    ("raised", "error_type", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "DiskFull", "disk is full"),
        (PermissionError(13, "denied", "/x"), "SourceUnreadable", "/x may not be read"),
        (KeyError("stem"), "StemwrightError", "unexpected KeyError: 'stem'"),
        (AssertionError(), "StemwrightError", "unexpected AssertionError"),
    ],
)
def test_whatever_a_stage_raises_becomes_that_track_s_failure(
    tmp_path: Path,
    crew: Crew,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    error_type: str,
    words: str,
) -> None:
    monkeypatch.setattr("tasks.sources.ingest", failing(raised))
    batch = batch_of(crew, ref_of(write_track(tmp_path / "a.flac", 1)))
    assert take("ingest", batch, crew).data == {"retry": False}
    failure = batch.journeys[0].failure
    assert failure is not None
    assert (failure.error_type, failure.stage) == (error_type, "ingest")
    assert words in failure.message
    assert failure.remedy


@pytest.mark.parametrize("raised", [NetworkError("the connection broke."), MemoryError()])
def test_a_passing_error_asks_for_another_attempt_until_none_is_left(
    tmp_path: Path, crew: Crew, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    monkeypatch.setattr("tasks.sources.ingest", failing(raised, times=99))
    batch = batch_of(crew, ref_of(write_track(tmp_path / "a.flac", 1)))
    states = [take("ingest", batch, crew) for _ in range(1 + crew.retries("ingest"))]
    assert [state.data for state in states] == [{"retry": True}, {"retry": True}, {"retry": False}]
    failure = batch.journeys[0].failure
    assert failure is not None
    assert failure.retryable
    assert failure.remedy
    assert failure.attempt == batch.journeys[0].attempts == 3


def test_an_endless_wait_that_a_service_asks_for_ends_with_the_run(
    tmp_path: Path, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = RateLimited("too many requests.", retry_after_s=1e9)
    monkeypatch.setattr("tasks.sources.ingest", failing(asked, times=99))
    batch = batch_of(crew, ref_of(write_track(tmp_path / "a.flac", 1)))
    threading.Timer(0.3, crew.stop).start()
    assert take("ingest", batch, crew).data == {"retry": True}
    assert take("ingest", batch, crew).data == {"retry": False}
    assert batch.journeys[0].failure is not None
    assert batch.journeys[0].failure.error_type == "Interrupted"


def test_a_run_that_is_asked_to_stop_begins_nothing_more(tmp_path: Path, crew: Crew) -> None:
    batch = batch_of(crew, ref_of(write_track(tmp_path / "a.flac", 1)))
    take_through(batch, crew, "ingest", "normalize")
    crew.stop()
    take("separate", batch, crew)
    (journey,) = batch.journeys
    assert journey.failure is not None
    assert journey.failure.error_type == "Interrupted"
    assert not journey.folder.exists()


def test_the_same_audio_in_a_batch_has_one_owner(tmp_path: Path, crew: Crew) -> None:
    first, second = (write_track(tmp_path / f"{name}.flac", 7) for name in "ab")
    batch = batch_of(crew, ref_of(first), ref_of(second))
    take_through(batch, crew)
    owner, follower = batch.journeys
    assert follower.follows is owner
    assert (owner.status, follower.status) == ("done", "duplicate")
    assert follower.place == owner.place is not None
    owner.lighten()
    assert owner.report is None
    assert follower.place == owner.place is not None, "what a later one asks is still there"


def test_a_download_is_kept_until_its_track_is_known(
    crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that doesn't answer at that moment costs another decoding, not another download."""
    source = write_track(tmp_path / "a.flac", 1)
    with fsspec.open("memory://stages/a.flac", "wb") as file:
        file.write(source.read_bytes())
    batch = batch_of(crew, TrackRef(source="memory://stages/a.flac", kind="fsspec"))
    take("ingest", batch, crew)
    (journey,) = batch.journeys
    assert journey.audio is not None
    assert journey.audio.in_scratch
    with monkeypatch.context() as patch:
        patch.setattr(crew, "finished", failing(NetworkError("the store didn't answer.")))
        assert take("normalize", batch, crew).data == {"retry": True}
    assert journey.audio.path.exists()
    assert take("normalize", batch, crew).name == "Completed"
    assert not journey.audio.path.exists()
    assert journey.mixture is not None
    assert journey.mixture.path.exists()


def test_rows_that_can_t_be_written_don_t_cost_the_track(
    tmp_path: Path, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar is the truth; the rows come with the next run or a rebuild."""
    batch = batch_of(crew, ref_of(write_track(tmp_path / "a.flac", 1)))
    with monkeypatch.context() as patch:
        patch.setattr(crew.library, "write_rows", failing(NetworkError("no answer.")))
        take_through(batch, crew)
    (journey,) = batch.journeys
    assert journey.status == "done"
    assert len(crew.library.tracks()) == 0
    assert journey.place is not None
    assert crew.library.ensure_rows([journey.place]) == 1
