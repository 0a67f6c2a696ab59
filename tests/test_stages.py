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
from flows.runner.progress import NullProgress
from flows.runner.setup import opened, prepare
from tasks.contracts import Run, TrackRef, TrackReport
from tasks.errors import NetworkError, RateLimited
from tasks.events import Stage
from tasks.known_tracks import KnownTracks
from tasks.outcome import Done, Duplicate
from tasks.run_context import RunContext, TrackState
from tasks.stage_tasks import STAGE_TASKS, Batch
from tasks.stages import Ingested, Normalized
from tests.flows.studio import STAGES, finished_in, write_config, write_track
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture
def run(tmp_path: Path, models_dir: Path) -> Iterator[RunContext]:
    """A real run: library, tiny model and all; its tasks run without a server."""
    config = write_config(tmp_path / "c.yaml", models_dir)
    settings = load_settings(config, {"library": str(tmp_path / "library")})
    made_by = Run(run_id="run-1", flow_run_name="a run")
    with (
        disable_run_logger(),
        opened(prepare(settings), made_by, NullProgress()) as context,
    ):
        yield context


def batch_of(run: RunContext, *refs: TrackRef) -> Batch:
    return Batch([TrackState(ref=ref, folder=run.workspace / ref.key) for ref in refs])


def ref_of(path: Path, **known: Any) -> TrackRef:
    return TrackRef(source=str(path), kind="file", **known)


def take(stage: Stage, batch: Batch, run: RunContext) -> State[Any]:
    """One attempt of a stage's task."""
    return STAGE_TASKS[stage].fn(batch, run)


def take_through(batch: Batch, run: RunContext, *stages: str) -> None:
    for stage in stages or STAGES:
        take(stage, batch, run)  # type: ignore[arg-type]


def report_of(batch: Batch) -> TrackReport:
    outcome = batch.tracks[0].outcome
    assert isinstance(outcome, Done)
    return outcome.report


def failing(error: BaseException, times: int = 1) -> Callable[..., Any]:
    left = [error] * times

    def work(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()

    return work


def test_a_damaged_source_is_separated_and_asks_for_a_review(
    tmp_path: Path, run: RunContext
) -> None:
    path = write_track(tmp_path / "a.flac", 0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    batch = batch_of(run, ref_of(path))
    take_through(batch, run)
    report = report_of(batch)
    assert report.mixture.source_damages == 1
    assert report.mixture.source_damaged_s > 0
    assert report.quality.verdict != "pass"
    assert report.quality.reasons[0] == "source_damaged"


@pytest.mark.parametrize("offset", [0.2, 0.0])
def test_a_quiet_source_and_one_with_an_offset_are_separated(
    tmp_path: Path, run: RunContext, offset: float
) -> None:
    samples, rate = soundfile.read(write_track(tmp_path / "a.flac", 0), always_2d=True)
    soundfile.write(tmp_path / "a.flac", samples / 1000 + offset, rate, subtype="PCM_24")
    batch = batch_of(run, ref_of(tmp_path / "a.flac"))
    take_through(batch, run)
    report = report_of(batch)
    assert report.completeness.complete
    assert "mixture_silent" not in report.quality.reasons


def test_a_batch_through_all_stages(tmp_path: Path, run: RunContext) -> None:
    sources = [write_track(tmp_path / f"{name}.flac", name) for name in range(2)]
    batch = batch_of(run, *map(ref_of, sources))
    states = {stage: take(stage, batch, run) for stage in STAGE_TASKS}
    assert {state.name for state in states.values()} == {"Completed"}
    assert states["score"].message == "score: 2 done"
    assert [track.outcome and track.outcome.status for track in batch.tracks] == ["done", "done"]
    assert list(states) == list(STAGES)
    assert len(finished_in(tmp_path / "library")) == len(run.library.tracks()) == 2
    assert list(run.workspace.iterdir()) == []


def test_the_catalog_s_words_win_over_the_tags(tmp_path: Path, run: RunContext) -> None:
    source = write_track(tmp_path / "a.flac", 1, title="Tag", artist="Tag", album="Tag")
    ref = ref_of(source, title="Catalog", genre="Catalog", extra={"mood": "calm"})
    batch = batch_of(run, ref)
    assert batch.label == "Catalog"
    take_through(batch, run)
    report = report_of(batch)
    assert (report.title, report.artist, report.album) == ("Catalog", "Tag", "Tag")
    assert (report.genre, report.extra["mood"]) == ("Catalog", "calm")
    assert batch.label == "Tag – Catalog"


def test_a_permanent_error_ends_its_track_at_once(tmp_path: Path, run: RunContext) -> None:
    good = write_track(tmp_path / "a.flac", 1)
    batch = batch_of(run, ref_of(tmp_path / "missing.flac"), ref_of(good))
    state = take("ingest", batch, run)
    assert (state.type.value, state.name) == ("COMPLETED", "Partial")
    assert "missing.flac: there is no file" in str(state.message)
    missing, present = batch.tracks
    assert missing.failure is not None
    assert (missing.failure.error_type, missing.failure.attempt) == ("SourceMissing", 1)
    assert missing.failure.run_id == "run-1"
    assert not missing.folder.exists()
    assert batch.open() == [present]


def test_a_task_all_of_whose_tracks_failed_has_failed_for_good(
    tmp_path: Path, run: RunContext
) -> None:
    state = take("ingest", batch_of(run, ref_of(tmp_path / "missing.flac")), run)
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
    run: RunContext,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    error_type: str,
    words: str,
) -> None:
    monkeypatch.setattr("tasks.sources.ingest", failing(raised))
    batch = batch_of(run, ref_of(write_track(tmp_path / "a.flac", 1)))
    assert take("ingest", batch, run).data == {"retry": False}
    failure = batch.tracks[0].failure
    assert failure is not None
    assert (failure.error_type, failure.stage) == (error_type, "ingest")
    assert words in failure.message
    assert failure.remedy


@pytest.mark.parametrize("raised", [NetworkError("the connection broke."), MemoryError()])
def test_a_passing_error_asks_for_another_attempt_until_none_is_left(
    tmp_path: Path, run: RunContext, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    monkeypatch.setattr("tasks.sources.ingest", failing(raised, times=99))
    batch = batch_of(run, ref_of(write_track(tmp_path / "a.flac", 1)))
    states = [take("ingest", batch, run) for _ in range(1 + run.retries("ingest"))]
    assert [state.data for state in states] == [{"retry": True}, {"retry": True}, {"retry": False}]
    failure = batch.tracks[0].failure
    assert failure is not None
    assert failure.retryable
    assert failure.remedy
    assert failure.attempt == batch.tracks[0].attempts == 3


def test_an_endless_wait_that_a_service_asks_for_ends_with_the_run(
    tmp_path: Path, run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = RateLimited("too many requests.", retry_after_s=1e9)
    monkeypatch.setattr("tasks.sources.ingest", failing(asked, times=99))
    batch = batch_of(run, ref_of(write_track(tmp_path / "a.flac", 1)))
    threading.Timer(0.3, run.stop.set).start()
    assert take("ingest", batch, run).data == {"retry": True}
    assert take("ingest", batch, run).data == {"retry": False}
    assert batch.tracks[0].failure is not None
    assert batch.tracks[0].failure.error_type == "Interrupted"


def test_a_run_that_is_asked_to_stop_begins_nothing_more(tmp_path: Path, run: RunContext) -> None:
    batch = batch_of(run, ref_of(write_track(tmp_path / "a.flac", 1)))
    take_through(batch, run, "ingest", "normalize")
    run.stop.set()
    take("separate", batch, run)
    (track,) = batch.tracks
    assert track.failure is not None
    assert track.failure.error_type == "Interrupted"
    assert not track.folder.exists()


def test_the_same_audio_in_a_batch_has_one_owner(tmp_path: Path, run: RunContext) -> None:
    first, second = (write_track(tmp_path / f"{name}.flac", 7) for name in "ab")
    batch = batch_of(run, ref_of(first), ref_of(second))
    take_through(batch, run)
    owner, follower = batch.tracks
    assert isinstance(owner.outcome, Done)
    assert follower.outcome == Duplicate(owner.claim.label if owner.claim else "")
    assert owner.claim is follower.claim is not None
    assert follower.place == owner.place == owner.outcome.place
    claim = vars(type(owner.claim))
    assert "report" not in claim, "claims last as long as the run, reports don't"


def test_a_download_is_kept_until_its_track_is_known(
    run: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that doesn't answer at that moment costs another decoding, not another download."""
    source = write_track(tmp_path / "a.flac", 1)
    with fsspec.open("memory://stages/a.flac", "wb") as file:
        file.write(source.read_bytes())
    batch = batch_of(run, TrackRef(source="memory://stages/a.flac", kind="fsspec"))
    take("ingest", batch, run)
    (track,) = batch.tracks
    assert isinstance(track.value, Ingested)
    assert track.value.audio.in_scratch
    with monkeypatch.context() as patch:
        patch.setattr(KnownTracks, "finished", failing(NetworkError("the store didn't answer.")))
        assert take("normalize", batch, run).data == {"retry": True}
    assert track.value.audio.path.exists()
    assert take("normalize", batch, run).name == "Completed"
    assert not track.value.audio.path.exists()
    assert isinstance(track.value, Normalized)
    assert track.value.mixture.path.exists()


def test_rows_that_can_t_be_written_don_t_cost_the_track(
    tmp_path: Path, run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar is the truth; the rows come with the next run or a rebuild."""
    batch = batch_of(run, ref_of(write_track(tmp_path / "a.flac", 1)))
    with monkeypatch.context() as patch:
        patch.setattr(run.library, "write_rows", failing(NetworkError("no answer.")))
        take_through(batch, run)
    (track,) = batch.tracks
    assert isinstance(track.outcome, Done)
    assert len(run.library.tracks()) == 0
    assert track.place is not None
    assert run.library.ensure_rows([track.place]) == 1
