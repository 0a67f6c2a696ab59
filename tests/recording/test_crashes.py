"""Killed, or out of space, at any step: what was finished stays, and the retry succeeds.

Each test runs a piece of work again and again, each time cut short one step later, until it runs
to its end.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from tasks.contracts import SourceAudio, TrackRef, TrackReport
from tasks.errors import DiskFull, StemwrightError
from tasks.recording import Alias, Library, TrackRow, superseded
from tests.recording.crashes import DONE, run_and_kill, run_with_full_disk
from tests.recording.factory import (
    SEPARATION_ID,
    content_of,
    make_report,
    track_id_of,
    write_folder,
)


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process loses nothing that it wrote: flushing matters to power cuts alone."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


Runner = Callable[[Callable[[], None], int], str]


STEMS = ("vocals", "drums")


def track(number: int = 1, *, run: str) -> TrackReport:
    return make_report(number, run_id=run, stems=STEMS)


def record(root: Path, report: TrackReport, *, replace: bool = False) -> None:
    library = Library(root)
    with library.workspace(report.run.run_id) as scratch:
        recorded = library.commit(write_folder(scratch / "x", report), report, replace=replace)
        library.write_rows([recorded])


def each_step(
    runner: Runner,
    tmp_path: Path,
    prepare: Callable[[Path], None],
    work: Callable[[Path], None],
    every: int = 1,
) -> Iterator[Path]:
    """A library for each step, or every few, at which `work` was cut short."""
    prepare(tmp_path / "prepared")
    for step in range(1, 400, every):
        root = tmp_path / str(step)
        shutil.copytree(tmp_path / "prepared", root)
        if runner(lambda root=root: work(root), step) == DONE:  # type: ignore[misc]
            assert step > 10, "the work altered next to nothing: nothing was tested"
            return
        yield root
    raise AssertionError("the work never came to its end")


def run_of(root: Path, number: int = 1) -> str | None:
    """Which run's separation is finished there; it must be whole."""
    folder = root / "tracks" / track_id_of(number) / SEPARATION_ID
    if not (folder / "report.json").exists():
        return None
    report = Library(root).report(track_id_of(number), SEPARATION_ID)
    for name in ["mixture", *report.stem_set.stems]:
        assert (folder / f"{name}.flac").read_bytes() == content_of(name, report.run.run_id)
    assert len(list(folder.iterdir())) == len(report.stem_set.stems) + 2
    return report.run.run_id


def assert_settled(root: Path, runs: dict[int, str]) -> None:
    """Whole folders, one row each that says what the folder says, and nothing left over."""
    expected = {track_id_of(number): run for number, run in runs.items()}
    columns = ["track_id", "run_id"]
    tracks = pd.read_parquet(root / "reports" / "tracks", columns=columns)
    assert sorted(tracks["track_id"]) == sorted(expected)
    assert dict(zip(tracks["track_id"], tracks["run_id"], strict=True)) == expected
    stems = pd.read_parquet(root / "reports" / "stems", columns=columns)
    assert len(stems) == len(STEMS) * len(runs)
    assert dict(zip(stems["track_id"], stems["run_id"], strict=True)) == expected
    assert {path.name for path in root.iterdir()} == {"tracks", "reports"}


def survive(work: Callable[[], None]) -> Callable[[], None]:
    """The work, which may end in one of two errors: any other fails the test."""

    def surviving() -> None:
        # What isn't of the family is of `write_folder`: a stage's own files.
        with suppress(DiskFull, OSError):
            work()

    return surviving


def run_out_of_space(work: Callable[[], None], step: int) -> str:
    return run_with_full_disk(survive(work), step)


def nothing(root: Path) -> None:
    root.mkdir()


@pytest.mark.parametrize("runner", [run_and_kill, run_out_of_space])
def test_a_first_commit_cut_short_anywhere(tmp_path: Path, runner: Runner) -> None:
    for root in each_step(runner, tmp_path, nothing, lambda r: record(r, track(run="a"))):
        before = run_of(root)
        record(root, track(run="b"))
        assert run_of(root) == (before or "b")
        assert_settled(root, {1: before or "b"})


@pytest.mark.parametrize("runner", [run_and_kill, run_out_of_space])
def test_a_replacement_cut_short_anywhere(tmp_path: Path, runner: Runner) -> None:
    def prepare(root: Path) -> None:
        record(root, track(1, run="old"))
        record(root, track(2, run="neighbour"))

    def work(root: Path) -> None:
        record(root, track(1, run="new"), replace=True)

    for root in each_step(runner, tmp_path, prepare, work):
        library = Library(root)
        assert library.is_finished(track_id_of(1), SEPARATION_ID), "the old or the new, complete"
        found = run_of(root)
        assert found in ("old", "new")
        with library.workspace("next"):
            pass
        assert_settled(root, {1: found, 2: "neighbour"})
        record(root, track(1, run="newer"), replace=True)
        assert run_of(root) == "newer"


def test_over_an_unfinished_folder_cut_short_anywhere(tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        folder = write_folder(root / "tracks" / track_id_of(1) / SEPARATION_ID, track(run="left"))
        (folder / "stranger.flac").write_bytes(b"x")

    def work(root: Path) -> None:
        record(root, track(run="a"))

    for root in each_step(run_and_kill, tmp_path, prepare, work):
        before = run_of(root)
        record(root, track(run="b"))
        assert_settled(root, {1: before or "b"})


@pytest.mark.parametrize("runner", [run_and_kill, run_out_of_space])
def test_a_rebuild_cut_short_anywhere(
    tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.recording.recorder.ROWS_PER_FILE", 2)
    runs = {number: f"r{number}" for number in range(3)}

    def prepare(root: Path) -> None:
        for number, run in runs.items():
            record(root, track(number, run=run))

    def work(root: Path) -> None:
        Library(root).rebuild()

    for root in each_step(runner, tmp_path, prepare, work):
        assert len(Library(root).tracks()) == 3, "reading settles what was left half-done"
        with Library(root).workspace("next"):
            pass
        assert_settled(root, runs)
        assert Library(root).rebuild() == 3


def test_a_report_given_to_another_source_cut_short_anywhere(tmp_path: Path) -> None:
    ref = TrackRef(source="/first.mp3", kind="file", title="First", isrc="GB001")
    audio = SourceAudio(ref=ref, path=Path("/first.mp3"), in_scratch=False, bytes=1)

    def work(root: Path) -> None:
        Library(root).credit(track_id_of(1), SEPARATION_ID, audio)

    def prepare(root: Path) -> None:
        record(root, track(1, run="a"))
        record(root, track(2, run="neighbour"))

    for root in each_step(run_and_kill, tmp_path, prepare, work):
        library = Library(root)
        rows = library.tracks().set_index("track_id")
        with library.workspace("next"):
            pass
        report = library.report(track_id_of(1), SEPARATION_ID)
        assert report.title in ("Title", "First")
        assert rows.loc[track_id_of(1), "title"] == report.title, "reading heals the row"
        assert_settled(root, {1: "a", 2: "neighbour"})
        work(root)
        assert library.report(track_id_of(1), SEPARATION_ID).isrc == "GB001"
        run_of(root)


OTHER_ID = "htdemucs-89abcdef"


def two_of_a_track(root: Path) -> None:
    """Two separations of a track, a neighbour in the same files, an alias and a failure."""
    library = Library(root)
    both = [track(1, run="old"), make_report(1, OTHER_ID, run_id="new", stems=STEMS)]
    for report in [*both, track(2, run="neighbour")]:
        with library.workspace("w") as scratch:
            library.commit(write_folder(scratch / "x", report), report)
    library.write_rows([*both, track(2, run="neighbour")])
    library.record_aliases(
        [
            Alias(track_id=track_id_of(n), separation_id=SEPARATION_ID, source=f"/again/{n}.mp3")
            for n in (1, 2)
        ]
    )


def test_forgetting_a_track_cut_short_anywhere(tmp_path: Path) -> None:
    """All of it is there, or none of it; nothing of its neighbours is touched."""

    def work(root: Path) -> None:
        Library(root).forget([track_id_of(1)])

    for root in each_step(run_and_kill, tmp_path, two_of_a_track, work):
        tracks = Library(root).tracks()
        left = list((root / "tracks" / track_id_of(1)).glob("*/report.json"))
        assert len(left) in (0, 2), "reading goes on with what was begun"
        assert sum(tracks["track_id"] == track_id_of(1)) == len(left)
        work(root)
        assert_settled(root, {2: "neighbour"})
        assert list(Library(root).aliases()["source"]) == ["/again/2.mp3"]
        assert [path.name for path in (root / "tracks").iterdir()] == [track_id_of(2)]
        assert run_of(root, 2) == "neighbour"


def test_pruning_cut_short_anywhere(tmp_path: Path) -> None:
    def work(root: Path) -> None:
        library = Library(root)
        rows = [TrackRow.read(row) for row in library.tracks().to_dict("records")]
        library.remove(superseded(rows))

    # Its steps are those of forgetting.
    for root in each_step(run_and_kill, tmp_path, two_of_a_track, work, every=4):
        library = Library(root)
        tracks = library.tracks()
        left = {path.parent.name for path in root.glob(f"tracks/{track_id_of(1)}/*/report.json")}
        assert left in ({OTHER_ID}, {OTHER_ID, SEPARATION_ID})
        mine = tracks["track_id"] == track_id_of(1)
        assert set(tracks.loc[mine, "separation_id"]) == left
        work(root)
        assert_settled(root, {1: "new", 2: "neighbour"})
        names = library.aliases().set_index("source")["separation_id"]
        assert names["/again/1.mp3"] == OTHER_ID, "an alias names what is there"
        assert names["/again/2.mp3"] == SEPARATION_ID


def test_a_row_after_a_crash_between_commit_and_row(tmp_path: Path) -> None:
    def work() -> None:
        library, report = Library(tmp_path), track(run="a")
        with library.workspace("a") as scratch:
            library.commit(write_folder(scratch / "x", report), report)
            signal.raise_signal(signal.SIGKILL)

    run_and_kill(work, 10_000)
    library = Library(tmp_path)
    assert run_of(tmp_path) == "a"
    with library.workspace("b"):
        assert library.ensure_rows([(track_id_of(1), SEPARATION_ID)]) == 1
    assert_settled(tmp_path, {1: "a"})


def test_a_live_runs_scratch_is_left_alone_and_a_dead_ones_is_removed(tmp_path: Path) -> None:
    def die() -> None:
        with Library(tmp_path).workspace("dead") as scratch:
            (scratch / "large.wav").write_bytes(b"x" * 1000)
            signal.raise_signal(signal.SIGKILL)

    run_and_kill(die, 10_000)
    assert list((tmp_path / ".scratch").glob("dead-*/large.wav"))
    with Library(tmp_path).workspace("live") as live:
        assert not list((tmp_path / ".scratch").glob("dead-*"))
        with Library(tmp_path).workspace("live") as other:
            assert live.exists()
            assert other != live
    assert not (tmp_path / ".scratch").exists()


def test_scratch_of_an_object_stores_dead_run_is_removed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    library = Library("memory://scratch")

    def die() -> None:
        with library.workspace("dead"):
            signal.raise_signal(signal.SIGKILL)

    run_and_kill(die, 10_000)
    assert list(tmp_path.rglob("dead-*"))
    with library.workspace("next") as scratch:
        assert tmp_path in scratch.parents
        assert not list(tmp_path.rglob("dead-*"))
    assert [path.name for path in tmp_path.rglob("*")] == [f"stemwright-{os.getuid()}"]


def test_an_error_in_the_run_passes_through_and_the_scratch_goes(tmp_path: Path) -> None:
    def run() -> None:
        with Library(tmp_path).workspace("run") as scratch:
            (scratch / "x").mkdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert not list(tmp_path.iterdir())


def test_a_file_too_large_for_the_disk_is_a_full_disk(tmp_path: Path) -> None:
    """The kernel's own refusal, in the middle of a Parquet file and of a sidecar."""
    report = make_report(title="t" * 20_000, stems=STEMS)

    def limited(work: Callable[[], None]) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))
        with pytest.raises(StemwrightError) as caught:
            work()
        assert isinstance(caught.value, DiskFull), caught.value

    def rows() -> None:
        limited(lambda: Library(tmp_path).write_rows([report]))

    def folder() -> None:
        limited(lambda: record(tmp_path, report))

    assert run_and_kill(rows, 10_000) == DONE
    assert run_and_kill(folder, 10_000) == DONE
    assert not list(tmp_path.rglob("*.parquet"))
    assert not (tmp_path / ".scratch").exists()
    record(tmp_path, report)
    assert_settled(tmp_path, {1: "run-1"})
