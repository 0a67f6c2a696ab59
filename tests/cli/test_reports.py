"""`stemwright reports`: the quality table of a library, newest report per track."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.contracts import STEMS, Failure
from tasks.recording import Library
from tests.cli.conftest import Invoke, document
from tests.recording.factory import make_report, track_id_of, write_folder


def put(library: Library, track: int, score: float, verdict: str, day: int, **changes: Any) -> None:
    """A finished separation of this score in the library, made on this day."""
    made = datetime(2026, 1, day, tzinfo=UTC)
    report = make_report(track, created_at=made, title=f"Song {track}", **changes)
    quality = report.quality.model_copy(update={"score": score, "verdict": verdict})
    report = report.model_copy(update={"quality": quality})
    with library.workspace("run") as scratch:
        folder = write_folder(scratch / f"{track}-{day}", report)
        library.write_rows([library.commit(folder, report)])


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Track 1 separated twice, the newer one worse; track 2 once; and a failure."""
    place = Library(tmp_path / "library")
    put(place, 1, 0.9, "pass", day=1)
    put(place, 1, 0.4, "review", day=3, separation_id="htdemucs_ft-0123abcd")
    put(place, 2, 0.7, "pass", day=2)
    place.record_failures(
        [
            Failure(
                source="/music/words[b].mp3",
                stage="normalize",
                error_type="NotAudio",
                message="it is no audio.",
                retryable=False,
            )
        ]
    )
    return tmp_path / "library"


def titles(result: Any) -> list[str]:
    return [row["title"] for row in document(result)["tracks"]]


def test_the_newest_report_of_each_track_worst_first(stemwright: Invoke, library: Path) -> None:
    result = stemwright("reports", "--library", library, "--json")
    assert result.exit_code == 0
    assert titles(result) == ["Song 1", "Song 2"]
    newest = document(result)["tracks"][0]
    assert newest["separation_id"] == "htdemucs_ft-0123abcd"
    assert newest["track_id"] == track_id_of(1)
    assert document(result)["count"] == 2


def test_json_has_the_columns_of_the_table(stemwright: Invoke, library: Path) -> None:
    rows = document(stemwright("reports", "--library", library, "--json"))["tracks"]
    table = pd.read_parquet(library / "reports/tracks")
    assert list(rows[0]) == [*table.columns, "folder", "stems", "lost"]
    row = table[table["separation_id"] == rows[0]["separation_id"]].iloc[0]
    assert rows[0]["score"] == row["score"]
    assert pd.Timestamp(rows[0]["created_at"]) == row["created_at"]
    assert rows[0]["cost_usd"] == row["cost_usd"]


def test_the_paths_of_every_stem(stemwright: Invoke, library: Path) -> None:
    """In `--json` always, and as lines to copy from with `--paths`."""
    rows = document(stemwright("reports", "--library", library, "--json"))["tracks"]
    for row in rows:
        folder = library / "tracks" / row["track_id"] / row["separation_id"]
        assert row["folder"] == str(folder)
        assert row["stems"] == {name: str(folder / f"{name}.flac") for name in STEMS}
        assert all(Path(path).is_file() for path in row["stems"].values())
    shown = stemwright("reports", "--library", library, "--paths").stdout.splitlines()
    assert shown[0] == "Artist – Song 1: check"
    assert shown[4].split() == ["vocals", rows[0]["stems"]["vocals"]]
    assert len(shown) == 2 * (1 + len(STEMS))


def test_a_verdict_chooses_among_the_newest(stemwright: Invoke, library: Path) -> None:
    only = ("reports", "--library", library, "--json", "--verdict")
    assert titles(stemwright(*only, "pass")) == ["Song 2"]
    assert titles(stemwright(*only, "review")) == ["Song 1"]
    assert titles(stemwright(*only, "fail")) == []


def test_the_table_for_people(stemwright: Invoke, library: Path) -> None:
    shown = stemwright("reports", "--library", library).stdout
    assert shown.index("Artist – Song 1") < shown.index("Artist – Song 2")
    assert "0.40" in shown
    assert "0.90" not in shown
    assert "2 tracks" in shown
    assert "1 good, 1 check" in shown


def test_csv_holds_what_is_shown(stemwright: Invoke, library: Path, tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    args = ("reports", "--library", library, "--verdict", "review", "--csv", file, "--json")
    rows = document(stemwright(*args))["tracks"]
    written = pd.read_csv(file)
    assert list(written["title"]) == ["Song 1"]
    assert [*written.columns, "stems", "lost"] == list(rows[0])
    refused = stemwright("reports", "--library", library, "--csv", tmp_path / "no/such/folder.csv")
    assert refused.exit_code == 2
    assert "folder.csv" in refused.stderr


def test_failures(stemwright: Invoke, library: Path) -> None:
    (row,) = document(stemwright("reports", "--library", library, "--failures", "--json"))[
        "failures"
    ]
    assert (row["source"], row["stage"], row["retryable"]) == (
        "/music/words[b].mp3",
        "normalize",
        False,
    )
    shown = stemwright("reports", "--library", library, "--failures").stdout
    assert "/music/words[b].mp3" in shown
    assert "it is no audio." in shown


def test_rebuild_makes_the_tables_from_the_sidecars(stemwright: Invoke, library: Path) -> None:
    before = titles(stemwright("reports", "--library", library, "--json"))
    for file in (library / "reports/tracks").glob("*.parquet"):
        file.unlink()
    assert titles(stemwright("reports", "--library", library, "--json")) == []
    rebuilt = stemwright("reports", "--library", library, "--rebuild", "--json")
    assert titles(rebuilt) == before
    assert "3 reports" in rebuilt.stderr
    assert len(pd.read_parquet(library / "reports/tracks")) == 3


@pytest.mark.parametrize("there", [True, False])
def test_a_library_with_nothing_in_it(stemwright: Invoke, tmp_path: Path, there: bool) -> None:
    place = tmp_path / "elsewhere"
    if there:
        place.mkdir()
    result = stemwright("reports", "--library", place)
    assert result.exit_code == 0
    assert "No reports" in result.stdout
    listed = document(stemwright("reports", "--library", place, "--json"))
    assert (listed["count"], listed["tracks"]) == (0, [])
    assert place.exists() == there


def test_what_has_lost_files_is_told_of(stemwright: Invoke, library: Path) -> None:
    row = document(stemwright("reports", "--library", library, "--json"))["tracks"][1]
    folder = Path(row["folder"])
    (folder / "bass.flac").unlink()
    (folder / "drums.flac").write_bytes(b"")
    result = stemwright("reports", "--library", library, "--json")
    assert [each["lost"] for each in document(result)["tracks"]] == [
        [],
        ["bass.flac", "drums.flac"],
    ]
    assert f"{folder} first: bass.flac, drums.flac" in " ".join(result.stderr.split())
