"""A second run does what is left, and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pandas as pd
import pytest

from tests.flows.studio import (
    Ran,
    finished_in,
    run_catalog,
    run_track,
    tag,
    write_config,
    write_track,
)

pytestmark = pytest.mark.usefixtures("prefect_server")

NOT_AUDIO = "This is no music.\n" * 500


class Shelf:
    """A folder of music, a library, and runs of the one into the other."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.music = folder / "music"
        self.music.mkdir()
        self.library = folder / "library"
        self.config = config

    def add(self, name: str, seed: int) -> Path:
        return write_track(self.music / name, seed)

    def run(self, **control: bool) -> Ran:
        return run_catalog([self.music], self.library, self.config, control=control)

    def rows(self, table: str) -> pd.DataFrame:
        return pd.read_parquet(self.library / "reports" / table)


@pytest.fixture
def shelf(tmp_path: Path, config: Path) -> Shelf:
    return Shelf(tmp_path, config)


def test_a_finished_catalog_starts_no_task_and_says_so(shelf: Shelf) -> None:
    shelf.add("a.flac", 1)
    shelf.add("b.flac", 2)
    first = shelf.run()
    before = finished_in(shelf.library)
    again = shelf.run()
    assert (first.summary.done, again.summary.done, again.summary.already) == (2, 0, 2)
    assert (again.state.name, again.summary.exit_code) == ("NothingNew", 0)
    assert again.summary.headline == "0 separated, 2 already done, 0 failed."
    assert {what for what, _, _ in again.diary.entries} == {"started", "ended"}
    assert again.task_runs(0) == []
    assert {line.status for line in again.summary.tracks} == {"already"}
    assert {line.folder for line in again.summary.tracks} == {
        line.folder for line in first.summary.tracks
    }
    assert finished_in(shelf.library) == before
    assert len(shelf.rows("tracks")) == 2


def test_a_new_track_is_the_only_one_worked_on(shelf: Shelf) -> None:
    shelf.add("a.flac", 1)
    shelf.run()
    shelf.add("b.flac", 2)
    again = shelf.run()
    assert (again.summary.done, again.summary.already) == (1, 1)
    assert again.diary.of("a.flac") == ["started", "ended"]
    assert "separate" in again.diary.of("b.flac")


def test_a_renamed_and_retagged_file_is_known_by_its_audio(shelf: Shelf) -> None:
    source = shelf.add("a.flac", 1)
    shelf.run()
    tag(source, title="Another title")
    source.rename(source.with_name("renamed.flac"))
    again = shelf.run()
    assert (again.summary.done, again.summary.already) == (0, 1)
    assert again.diary.of("renamed.flac") == ["started", "ingest", "normalize", "ended"]
    assert len(finished_in(shelf.library)) == len(shelf.rows("tracks")) == 1
    third = shelf.run()
    assert third.diary.of("renamed.flac") == ["started", "ended"], "the alias is remembered"


def test_a_file_with_other_audio_under_the_same_name_is_another_track(shelf: Shelf) -> None:
    shelf.add("a.flac", 1)
    shelf.run()
    shelf.add("a.flac", 2)
    assert shelf.run().summary.done == 1
    assert len(finished_in(shelf.library)) == 2


def test_a_set_with_the_stems_asked_for_is_done_and_a_smaller_one_is_not(shelf: Shelf) -> None:
    shelf.add("a.flac", 1)

    def asked(*stems: str) -> Ran:
        wanted = {"stems": list(stems)}
        return run_catalog([shelf.music], shelf.library, shelf.config, separation=wanted)

    assert asked("vocals").summary.done == 1
    assert asked("drums", "vocals").summary.done == 1, "vocals alone isn't enough"
    fewer = asked("drums")
    assert (fewer.summary.already, fewer.diary.count("ingest")) == (1, 0)
    assert asked().summary.done == 1, "two of four aren't all"
    for stems in (("bass",), ("bass", "vocals"), ("vocals",)):
        assert asked(*stems).diary.count("ingest") == 0
    assert len(finished_in(shelf.library)) == 3
    renamed = (shelf.music / "a.flac").rename(shelf.music / "b.flac")
    assert asked("bass").diary.of(renamed.name) == ["started", "ingest", "normalize", "ended"]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_same_audio_twice_is_separated_once(
    tmp_path: Path, models_dir: Path, batch_size: int
) -> None:
    """In batches of their own, which run side by side, and within one batch."""
    config = write_config(tmp_path / "c.yaml", models_dir, run={"batch_size": batch_size})
    shelf = Shelf(tmp_path, config)
    shelf.add("a.flac", 1)
    shelf.add("b.flac", 1)
    first = shelf.run()
    assert (first.summary.done, first.summary.duplicates, first.summary.failed) == (1, 1, 0)
    assert first.diary.count("separate") == 1
    assert {line.track_id for line in first.summary.tracks} == {first.summary.tracks[0].track_id}
    assert len({line.folder for line in first.summary.tracks}) == 1
    assert len(finished_in(shelf.library)) == len(shelf.rows("tracks")) == 1
    again = shelf.run()
    assert again.diary.count("ingest") == 0
    assert again.summary.already == 2


def test_the_same_audio_as_a_failing_track_s_fails_too(tmp_path: Path, models_dir: Path) -> None:
    # Nothing sums to within -200 dB: every separation ends as incomplete.
    config = write_config(tmp_path / "c.yaml", models_dir, completeness={"max_residual_db": -200.0})
    shelf = Shelf(tmp_path, config)
    shelf.add("a.flac", 1)
    shelf.add("b.flac", 1)
    ran = shelf.run()
    assert (ran.summary.failed, ran.summary.found) == (2, 2)
    assert ran.diary.count("separate") == 1
    first, second = sorted(ran.summary.failures, key=lambda failure: len(failure.message))
    assert first.error_type == second.error_type == "IncompleteSeparation"
    assert second.message == f"the same audio as {first.source}, which failed: {first.message}"
    assert set(shelf.rows("failures")["source"]) == {first.source, second.source}
    assert finished_in(shelf.library) == {}


def test_force_makes_it_again_and_leaves_one_row(shelf: Shelf) -> None:
    shelf.add("a.flac", 1)
    first = shelf.run()
    inode = finished_in(shelf.library)
    again = shelf.run(force=True)
    assert (again.summary.done, again.summary.already) == (1, 0)
    assert finished_in(shelf.library).keys() == inode.keys()
    assert finished_in(shelf.library) != inode
    tracks = shelf.rows("tracks")
    assert list(tracks["run_id"]) == [again.summary.run_id] != [first.summary.run_id]
    assert len(shelf.rows("stems")) == 4


def test_force_separates_the_same_audio_once(shelf: Shelf) -> None:
    shelf.add("a.flac", 1)
    shelf.add("b.flac", 1)
    shelf.run()
    again = shelf.run(force=True)
    assert (again.summary.done, again.summary.duplicates) == (1, 1)
    assert again.diary.count("separate") == 1


def test_other_settings_give_another_separation_beside_the_first(
    shelf: Shelf, tmp_path: Path, models_dir: Path
) -> None:
    shelf.add("a.flac", 1)
    shelf.run()
    before = finished_in(shelf.library)
    shelf.config = write_config(tmp_path / "c.yaml", models_dir, separation={"overlap": 0.1})
    assert shelf.run().summary.done == 1
    after = finished_in(shelf.library)
    assert len({Path(place).parent for place in after}) == 1
    assert len(after) == len(shelf.rows("tracks")) == 2
    assert before.items() <= after.items()


def test_what_the_bytes_are_isn_t_found_out_twice(shelf: Shelf) -> None:
    (shelf.music / "words.mp3").write_text(NOT_AUDIO)
    first = shelf.run()
    again = shelf.run()
    assert again.diary.count("ingest") == 0
    assert (again.summary.failed, again.summary.exit_code) == (1, 1)
    failure = again.failure_of("words.mp3")
    assert failure.message == first.failure_of("words.mp3").message
    assert "--retry-failed" in failure.remedy
    assert len(shelf.rows("failures")) == 1, "nothing new was learnt"


def test_retry_failed_finds_out_again(shelf: Shelf) -> None:
    (shelf.music / "words.mp3").write_text(NOT_AUDIO)
    shelf.run()
    again = shelf.run(retry_failed=True)
    assert again.diary.of("words.mp3") == ["started", "ingest", "normalize", "ended"]
    assert len(shelf.rows("failures")) == 2


def test_a_file_that_was_put_right_is_tried_by_itself(shelf: Shelf) -> None:
    (shelf.music / "a.flac").write_text(NOT_AUDIO)
    assert shelf.run().summary.failed == 1
    shelf.add("a.flac", 1)
    again = shelf.run()
    assert (again.summary.done, again.summary.failed) == (1, 0)


def test_a_file_that_was_missing_and_is_there_now_is_tried_by_itself(
    shelf: Shelf, config: Path
) -> None:
    source = shelf.music / "late.flac"
    first = run_track(source, shelf.library, config)
    assert first.failure_of("late.flac").error_type == "SourceMissing"
    write_track(source, 1)
    again = run_track(source, shelf.library, config)
    assert (again.summary.done, again.summary.failed) == (1, 0)


def test_a_limit_that_was_raised_is_tried_by_itself(
    shelf: Shelf, tmp_path: Path, models_dir: Path
) -> None:
    shelf.add("a.flac", 1)
    usual = shelf.config
    shelf.config = write_config(tmp_path / "c.yaml", models_dir, ingest={"max_duration_s": 0.5})
    assert shelf.run().failure_of("a.flac").error_type == "SourceRefused"
    shelf.config = usual
    assert shelf.run().summary.done == 1


def test_rows_that_a_killed_run_owes_are_written_by_the_next(shelf: Shelf) -> None:
    """The folder was committed, and the process died before its row was: the table is empty."""
    shelf.add("a.flac", 1)
    shelf.run()
    for table in ("tracks", "stems"):
        for file in (shelf.library / "reports" / table).iterdir():
            file.unlink()
    again = shelf.run()
    assert (again.summary.done, again.summary.already) == (0, 1)
    assert again.diary.count("separate") == 0
    assert (len(shelf.rows("tracks")), len(shelf.rows("stems"))) == (1, 4)
    assert shelf.run().diary.count("ingest") == 0


def test_a_folder_without_a_report_is_no_finished_one(shelf: Shelf) -> None:
    shelf.add("a.flac", 1)
    shelf.run()
    (place,) = finished_in(shelf.library)
    (shelf.library / place / "report.json").unlink()
    again = shelf.run()
    assert (again.summary.done, again.summary.already) == (1, 0)
    assert list(finished_in(shelf.library)) == [place]
    assert len(shelf.rows("tracks")) == 1


def test_the_limit_counts_tracks(shelf: Shelf) -> None:
    for seed in range(3):
        shelf.add(f"{seed}.flac", seed)
    ran = run_catalog([shelf.music], shelf.library, shelf.config, limit=2)
    assert ran.summary.done == ran.diary.total == 2


def test_two_runs_at_once_share_a_library(shelf: Shelf) -> None:
    """Whoever commits first wins; both end well, and each track has one folder and one row."""
    shelf.add("a.flac", 1)
    shelf.add("b.flac", 2)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(copy_context().run, shelf.run) for _ in range(2)]
        summaries = [future.result().summary for future in both]
    for summary in summaries:
        assert (summary.done + summary.already, summary.failed) == (2, 0)
    assert len(finished_in(shelf.library)) == len(shelf.rows("tracks")) == 2
    assert not (shelf.library / ".scratch").exists()


@pytest.mark.parametrize("damage", ["gone", "empty", "no report", "interrupted copy"])
def test_a_track_that_lost_a_file_is_made_again_alone_and_said(
    shelf: Shelf, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.add("a.flac", 1)
    shelf.add("b.flac", 2)
    first = shelf.run()
    folder = Path(str(next(t.folder for t in first.summary.tracks if t.source.endswith("a.flac"))))
    stems = sorted(set(folder.glob("*.flac")) - {folder / "mixture.flac"})
    match damage:
        case "gone":
            stems[0].unlink()
        case "empty":
            stems[0].write_bytes(b"")
        case "no report":
            (folder / "report.json").unlink()
        case _:
            stems[0].unlink()
            stems[1].write_bytes(stems[1].read_bytes()[:100])
    again = shelf.run()
    assert (again.summary.done, again.summary.already, again.summary.exit_code) == (1, 1, 0)
    assert again.diary.of("b.flac") == ["started", "ended"]
    assert "separate" in again.diary.of("a.flac")
    assert all(stem.stat().st_size > 100 for stem in stems)
    said = [r.getMessage() for r in caplog.records if "has lost" in r.getMessage()]
    assert len(said) == (damage != "no report")
    assert all(str(folder) in line and stems[0].name in line for line in said)
    assert len(shelf.rows("tracks")) == 2
    assert shelf.run().summary.already == 2
