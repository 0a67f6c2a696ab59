"""`stemwright forget` and `stemwright prune`: they say what goes, ask, and take nothing else."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tasks.contracts import Failure
from tasks.recording import Alias, Library
from tests.cli.conftest import Invoke, document
from tests.cli.test_reports import put
from tests.recording.crashes import run_and_kill
from tests.recording.factory import SEPARATION_ID, track_id_of


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Song 1 by two models, by one of them twice; song 2 with another source; and a failure."""
    place = Library(tmp_path / "library")
    put(place, 1, 0.5, "review", day=1)
    put(place, 1, 0.6, "pass", day=2, separation_id="htdemucs-89abcdef")
    put(place, 2, 0.7, "pass", day=2, artist="Miles")
    place.record_aliases(
        [Alias(track_id=track_id_of(2), separation_id=SEPARATION_ID, source="/again.mp3")]
    )
    failure = Failure(source="/x.mp3", stage="i", error_type="X", message="x", retryable=False)
    place.record_failures([failure])
    return place


def left(library: Library) -> list[tuple[str, str]]:
    frame = library.tracks()
    return sorted(zip(frame["title"], frame["separation_id"], strict=True))


@pytest.mark.parametrize("query", [track_id_of(2), "/music/2.mp3", "/again.mp3", "song MILES"])
def test_forget_finds_by_id_by_source_and_by_words(
    stemwright: Invoke, library: Library, query: str
) -> None:
    result = stemwright("forget", query, "--library", library.url, "--yes", "--json")
    assert result.exit_code == 0
    said = document(result)
    assert (said["count"], said["removed"]) == (1, True)
    assert said["tracks"][0]["track_id"] == track_id_of(2)
    assert said["bytes"] > 0
    assert {title for title, _ in left(library)} == {"Song 1"}
    assert library.aliases().empty


def test_forget_takes_every_separation_of_a_track(stemwright: Invoke, library: Library) -> None:
    said = stemwright("forget", track_id_of(1), "--library", library.url, "--yes").stdout
    assert "1 track with 2 separations" in said
    assert left(library) == [("Song 2", SEPARATION_ID)]


def test_forget_takes_the_failures_of_a_source_that_was_never_separated(
    stemwright: Invoke, library: Library
) -> None:
    result = stemwright("forget", "/x.mp3", "--library", library.url, "--yes")
    assert "Removed 1 failure." in result.stdout
    assert library.failures().empty
    assert len(left(library)) == 3


@pytest.mark.parametrize(
    ("answer", "code", "removed"), [("y\n", 0, True), ("n\n", 0, False), ("", 2, False)]
)
@pytest.mark.parametrize("command", [("forget", "Song 1"), ("prune",)])
def test_they_ask_first(
    stemwright: Invoke,
    library: Library,
    command: tuple[str, ...],
    answer: str,
    code: int,
    removed: bool,
) -> None:
    before = left(library)
    result = stemwright(*command, "--library", library.url, stdin=answer)
    assert result.exit_code == code
    assert (left(library) != before) == removed
    assert ("Nothing was removed." in result.stdout) == (code == 0 and not removed)
    assert ("--yes" in result.stderr) == (code == 2)


@pytest.mark.parametrize("command", [("forget", "Song"), ("prune",)])
def test_a_dry_run_says_the_same_and_changes_nothing(
    stemwright: Invoke, library: Library, command: tuple[str, ...]
) -> None:
    args = (*command, "--library", library.url, "--json")
    files = {path: path.stat().st_mtime_ns for path in Path(library.url).rglob("*")}
    dry = document(stemwright(*args, "--dry-run"))
    assert {path: path.stat().st_mtime_ns for path in Path(library.url).rglob("*")} == files
    done = document(stemwright(*args, "--yes"))
    assert (dry.pop("dry_run"), dry.pop("removed")) == (True, False)
    assert (done.pop("dry_run"), done.pop("removed")) == (False, True)
    assert dry == done
    assert dry["bytes"] > 0


def test_prune_keeps_the_better_one(stemwright: Invoke, library: Library) -> None:
    result = stemwright("prune", "--library", library.url, "--yes", "--json")
    (gone,) = document(result)["separations"]
    assert (gone["separation_id"], gone["kept"]) == (SEPARATION_ID, "htdemucs-89abcdef")
    assert left(library) == [("Song 1", "htdemucs-89abcdef"), ("Song 2", SEPARATION_ID)]
    assert "Nothing to remove" in stemwright("prune", "--library", library.url).stdout


def test_prune_takes_no_track_whose_better_separation_has_lost_a_file(
    stemwright: Invoke, library: Library
) -> None:
    Path(library.folder(track_id_of(1), "htdemucs-89abcdef"), "drums.flac").unlink()
    assert document(stemwright("prune", "--library", library.url, "--yes", "--json"))["count"] == 0
    assert library.is_finished(track_id_of(1), SEPARATION_ID)


def test_prune_takes_the_scratch_of_dead_runs_and_not_of_live_ones(
    stemwright: Invoke, tmp_path: Path
) -> None:
    library = Library(tmp_path / "library")

    def die() -> None:
        with library.workspace("dead") as scratch:
            (scratch / "large.wav").write_bytes(b"x" * 1000)
            signal.raise_signal(signal.SIGKILL)

    run_and_kill(die, 10_000)
    args = ("prune", "--library", library.url, "--json")
    (name,) = document(stemwright(*args, "--dry-run"))["scratch"]
    assert name.startswith("dead-")
    (folder,) = (tmp_path / "library/.scratch").glob("dead-*/")
    assert folder.exists()
    assert document(stemwright(*args, "--yes"))["bytes"] == 1000
    assert not folder.exists()
    with library.workspace("live") as live:
        assert document(stemwright(*args, "--yes"))["scratch"] == {}
        assert live.exists()


@pytest.mark.parametrize("query", ["no such words", "0123456789abcdef", "/nowhere.mp3"])
def test_a_query_that_means_nothing_is_named(
    stemwright: Invoke, library: Library, query: str
) -> None:
    result = stemwright("forget", query, "--library", library.url, "--yes")
    assert (result.exit_code, query in result.stderr) == (2, True)
    assert len(left(library)) == 3


def test_a_blank_query_and_a_missing_library_are_usage_errors(
    stemwright: Invoke, library: Library, tmp_path: Path
) -> None:
    assert stemwright("forget", " ", "--library", library.url, "--yes").exit_code == 2
    assert stemwright("forget", "x", "--library", tmp_path / "nowhere").exit_code == 2
    assert stemwright("prune", "--library", tmp_path / "nowhere").exit_code == 2
    assert len(left(library)) == 3
