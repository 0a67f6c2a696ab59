"""A run has a bounded number of tracks in flight, and the device separates one at a time."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.runner.window import batches
from tasks.contracts import TrackRef, TrackReport
from tasks.run_context import TrackState
from tasks.separation.local import LocalSeparator
from tests.flows.studio import Ran, finished_in, run_catalog, write_config, write_track

TRACKS = 12
WINDOW = 2


@dataclass
class Observed:
    """When each stage was at work on a track, and what lay in scratch or was read meanwhile."""

    intervals: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: {"normalize": [], "separate": [], "score": []}
    )
    scratch: list[int] = field(default_factory=list)
    ahead: list[int] = field(default_factory=list)
    reports: list[int] = field(default_factory=list)
    read: int = 0
    ended: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def overlaps(self, one: str, other: str) -> int:
        """How many pairs of different calls were at work at the same time."""
        pairs = [
            (a, b)
            for i, a in enumerate(self.intervals[one])
            for j, b in enumerate(self.intervals[other])
            if one != other or i < j
        ]
        return sum(a[0] < b[1] and b[0] < a[1] for a, b in pairs)


@pytest.fixture(scope="module")
def watched(
    prefect_server: str, tmp_path_factory: pytest.TempPathFactory, models_dir: Path
) -> tuple[Ran, Observed]:
    """Twelve tracks through a window of two, with each stage's real work timed."""
    import tasks.normalize
    import tasks.quality
    import tasks.sources

    folder = tmp_path_factory.mktemp("window")
    for seed in range(TRACKS):
        write_track(folder / f"music/{seed:02}.flac", seed)
    config = write_config(folder / "c.yaml", models_dir, run={"window": WINDOW})
    seen = Observed()

    def timed(stage: str, work: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            started = time.monotonic()
            if stage == "separate":
                look()
                # Long enough that another track has something to do beside it.
                time.sleep(0.1)
            result = work(*args, **kwargs)
            with seen.lock:
                seen.intervals[stage].append((started, time.monotonic()))
            return result

        return wrapper

    def look() -> None:
        runs = [path for path in (folder / "library/.scratch").iterdir() if path.is_dir()]
        tracks = [path for run in runs for path in run.iterdir() if path.is_dir()]
        seen.scratch.append(len(tracks))
        if len(seen.scratch) in (1, TRACKS):
            gc.collect()
            seen.reports.append(sum(type(thing) is TrackReport for thing in gc.get_objects()))

    def read(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for ref in real_catalog(*args, **kwargs):
            with seen.lock:
                seen.read += 1
            seen.ahead.append(seen.read - len(finished_in(folder / "library")))
            yield ref

    real_catalog = tasks.sources.read_catalog
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.normalize, "normalize", timed("normalize", tasks.normalize.normalize))
        patch.setattr(LocalSeparator, "separate", timed("separate", LocalSeparator.separate))
        patch.setattr(tasks.quality, "score_measures", timed("score", tasks.quality.score_measures))
        patch.setattr("flows.separate_catalog.read_catalog", read)
        patch.setattr("flows.separate_catalog.cheap_tracks", lambda sources, limit: None)
        ran = run_catalog([folder / "music"], folder / "library", config)
    return ran, seen


def test_all_of_them_are_done(watched: tuple[Ran, Observed]) -> None:
    ran, seen = watched
    assert (ran.summary.done, ran.summary.failed) == (TRACKS, 0)
    assert {stage: len(calls) for stage, calls in seen.intervals.items()} == {
        "normalize": TRACKS,
        "separate": TRACKS,
        "score": TRACKS,
    }


def test_scratch_holds_no_more_tracks_than_the_window(watched: tuple[Ran, Observed]) -> None:
    _, seen = watched
    assert len(seen.scratch) == TRACKS
    assert min(seen.scratch) >= 1
    assert max(seen.scratch) <= WINDOW


def test_the_catalog_is_read_no_further_ahead_than_the_window(
    watched: tuple[Ran, Observed],
) -> None:
    _, seen = watched
    assert max(seen.ahead) <= WINDOW


def test_reports_of_ended_tracks_are_let_go(watched: tuple[Ran, Observed]) -> None:
    """Memory that grew by a report a track would not hold a hundred thousand of them."""
    _, seen = watched
    at_first, at_last = seen.reports
    assert at_last - at_first <= WINDOW + 1


def test_stages_of_different_tracks_overlap(watched: tuple[Ran, Observed]) -> None:
    _, seen = watched
    beside = seen.overlaps("separate", "normalize") + seen.overlaps("separate", "score")
    assert beside > 0


def test_separation_has_the_device_alone(watched: tuple[Ran, Observed]) -> None:
    _, seen = watched
    assert seen.overlaps("separate", "separate") == 0


def test_batches_of_several_give_an_outcome_each(
    prefect_server: str, tmp_path: Path, models_dir: Path
) -> None:
    for seed in range(5):
        write_track(tmp_path / f"music/{seed}.flac", seed)
    (tmp_path / "music/3.flac").write_text("This is no music.\n" * 500)
    config = write_config(tmp_path / "c.yaml", models_dir, run={"batch_size": 2})
    ran = run_catalog([tmp_path / "music"], tmp_path / "library", config)
    assert (ran.summary.done, ran.summary.failed, ran.summary.found) == (4, 1, 5)
    assert ran.failure_of("3.flac").error_type == "NotAudio"
    assert len(finished_in(tmp_path / "library")) == 4
    names = {run.name for run in ran.task_runs(18) if run.name.startswith("ingest")}
    assert len(names) == 3
    assert sum("and 1 more" in name for name in names) == 2


def tracks(count: int) -> Iterator[TrackState]:
    for number in range(count):
        ref = TrackRef(source=f"/{number}.flac", kind="file")
        yield TrackState(ref=ref, folder=Path(ref.key))


def test_the_first_300_tracks_have_tasks_of_their_own_and_the_rest_share() -> None:
    sizes = [len(batch.tracks) for batch in batches(tracks(400))]
    assert sizes == [1] * 300 + [25] * 4
    assert [len(batch.tracks) for batch in batches(tracks(310))] == [1] * 300 + [10]
    assert [len(batch.tracks) for batch in batches(tracks(7), 3)] == [3, 3, 1]
    assert list(batches(tracks(0))) == []


def test_batches_take_no_more_tracks_than_they_need() -> None:
    source = tracks(400)
    next(batches(source))
    assert sum(1 for _ in source) == 399
