"""Many writers at once: no row lost, none doubled, none corrupt."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds

from tasks.contracts import Failure
from tasks.recording import Library
from tests.recording.factory import SEPARATION_ID, make_report, track_id_of, write_folder

PROCESSES, BATCHES, BATCH = 8, 5, 10


def in_processes(work: Callable[..., None], *args: Any) -> None:
    # Not plain fork: this process has the threads of whatever was tested before.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "tasks.recording.library", "pyarrow.parquet"])
    workers = [context.Process(target=work, args=(n, *args)) for n in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES


def write_own_rows(worker: int, root: Path) -> None:
    library = Library(root)
    for batch in range(BATCHES):
        names = [f"{worker}-{batch}-{number}" for number in range(BATCH)]
        library.write_rows([make_report(name, run_id=f"w{worker}") for name in names])
        library.record_failures(
            [
                Failure(source=name, stage="ingest", error_type="X", message="m", retryable=False)
                for name in names
            ]
        )


def test_no_row_of_many_writers_is_lost_or_corrupt(tmp_path: Path) -> None:
    in_processes(write_own_rows, tmp_path)
    expected = PROCESSES * BATCHES * BATCH
    tracks = pd.read_parquet(tmp_path / "reports" / "tracks")
    assert len(tracks) == tracks["track_id"].nunique() == expected
    assert len(pd.read_parquet(tmp_path / "reports" / "stems")) == 4 * expected
    assert ds.dataset(tmp_path / "reports" / "failures").count_rows() == expected
    assert not (tmp_path / ".scratch").exists()


def commit_the_same(worker: int, root: Path) -> None:
    library, run = Library(root), f"w{worker}"
    with library.workspace(run) as scratch:
        for number in range(10):
            report = make_report(number, run_id=run)
            recorded = library.commit(write_folder(scratch / str(number), report), report)
            assert library.is_finished(report.track_id, SEPARATION_ID)
            library.write_rows([recorded])


def force_the_same(worker: int, root: Path) -> None:
    library, run = Library(root), f"w{worker}"
    with library.workspace(run) as scratch:
        for number in range(3):
            report = make_report(number, run_id=run)
            library.commit(write_folder(scratch / str(number), report), report, replace=True)
            assert library.is_finished(report.track_id, SEPARATION_ID)
            library.write_rows([report])


def assert_rows_are_the_folders(root: Path, count: int) -> None:
    library = Library(root)
    tracks = pd.read_parquet(root / "reports" / "tracks").set_index("track_id")
    assert sorted(tracks.index) == sorted(track_id_of(number) for number in range(count))
    for track_id, row in tracks.iterrows():
        assert row["run_id"] == library.report(str(track_id), SEPARATION_ID).run.run_id
        hashes = library.stems().query("track_id == @track_id").set_index("stem")["sha256"]
        checks = library.report(str(track_id), SEPARATION_ID).completeness.stems
        assert hashes.to_dict() == {name: check.sha256 for name, check in checks.items()}
    assert {path.name for path in root.iterdir()} == {"tracks", "reports"}


def test_workers_that_race_for_the_same_tracks_leave_each_once(tmp_path: Path) -> None:
    in_processes(commit_the_same, tmp_path)
    assert_rows_are_the_folders(tmp_path, 10)


def test_workers_that_race_to_replace_the_same_tracks_leave_each_once(tmp_path: Path) -> None:
    commit_the_same(99, tmp_path)
    in_processes(force_the_same, tmp_path)
    assert_rows_are_the_folders(tmp_path, 10)


def test_a_reader_and_a_rebuilder_beside_writers(tmp_path: Path) -> None:
    library = Library(tmp_path)
    commit_the_same(0, tmp_path)
    stop, seen = threading.Event(), []

    def rebuild() -> None:
        while not stop.wait(0.05):
            seen.append(Library(tmp_path).rebuild())

    rebuilder = threading.Thread(target=rebuild)
    rebuilder.start()
    try:
        for batch in range(10):
            report = make_report(f"more{batch}")
            with library.workspace("more") as scratch:
                library.commit(write_folder(scratch / "x", report), report)
                library.write_rows([report])
            assert len(library.tracks()) >= 10
    finally:
        stop.set()
        rebuilder.join()
    assert seen
    tracks = pd.read_parquet(tmp_path / "reports" / "tracks")
    assert len(tracks) == tracks["track_id"].nunique() == 20


def test_threads_share_a_library(tmp_path: Path) -> None:
    library = Library(tmp_path)

    def write(worker: int) -> None:
        for number in range(10):
            library.write_rows([make_report(f"{worker}-{number}"), make_report("shared")])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracks = pd.read_parquet(tmp_path / "reports" / "tracks")
    assert len(tracks) == tracks["track_id"].nunique() == 41


def test_reading_and_starting_a_run_dont_wait_for_a_long_rebuild(tmp_path: Path) -> None:
    library, report = Library(tmp_path), make_report()
    with library.workspace("run") as scratch:
        library.commit(write_folder(scratch / "x", report), report)
    library.write_rows([report])
    (damaged := tmp_path / "tracks" / track_id_of(2) / SEPARATION_ID).mkdir(parents=True)
    (damaged / "report.json").write_text("{")
    seen: list[int] = []

    def meanwhile(*_: object) -> None:
        seen.append(len(Library(tmp_path).tracks()))
        with Library(tmp_path).workspace("other"):
            seen.append(len(Library(tmp_path).index()))

    assert library.rebuild(meanwhile) == 1
    assert seen == [1, 1]
