"""`stemwright reports` chooses by words, model, run, date and genre, and compares two models."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.contracts import Failure
from tasks.recording import Alias, Library
from tests.cli.conftest import Invoke, document
from tests.recording.factory import SEPARATION_ID, make_report, track_id_of, write_folder

FT = "htdemucs_ft-0123abcd"


def put(
    library: Library,
    track: int,
    day: int,
    *,
    model: str = "htdemucs",
    score: float | None = 0.5,
    si_sdr_db: float = 6.0,
    separation_s: float = 5.0,
    **changes: Any,
) -> None:
    """A finished separation of this model and score, made on this day of January."""
    separation_id = f"{model}-0123abcd"
    made = datetime(2026, 1, day, 12, tzinfo=UTC)
    report = make_report(track, separation_id, created_at=made, title=f"Song {track}", **changes)
    measured = {"score": score, "estimated_si_sdr_db": si_sdr_db}
    stems = {"model": model, "separation_s": separation_s}
    report = report.model_copy(
        update={
            "quality": report.quality.model_copy(update=measured),
            "stem_set": report.stem_set.model_copy(update=stems),
        }
    )
    with library.workspace("run") as scratch:
        folder = write_folder(scratch / f"{track}-{day}", report)
        library.write_rows([library.commit(folder, report)])


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Songs 1 and 2 by two models, song 3 by one; an alias and two failures."""
    place = Library(tmp_path / "library")
    put(place, 1, 1, genre="Jazz", artist="Ann", run_id="11111111-aaaa", score=0.6)
    put(place, 2, 2, genre="rock", artist="Ben", run_id="22222222-bbbb", score=0.7)
    put(place, 3, 3, genre="jazz ", artist="Ann", run_id="22222222-bbbb", score=0.4)
    again: dict[str, Any] = {"model": "htdemucs_ft", "run_id": "33333333-cccc"}
    put(place, 1, 4, **again, genre="Jazz", score=0.8, si_sdr_db=7.0, separation_s=20.0)
    put(place, 2, 5, **again, genre="rock", score=0.6, si_sdr_db=7.0, separation_s=10.0)
    place.record_aliases(
        [Alias(track_id=track_id_of(3), separation_id=SEPARATION_ID, source="/again.mp3")]
    )
    place.record_failures(
        [
            Failure(
                source=f"/music/{name}.mp3",
                stage="x",
                error_type="X",
                message="x",
                retryable=False,
                run_id=run_id,
                created_at=datetime(2026, 1, day, tzinfo=UTC),
            )
            for name, run_id, day in (("one", "11111111-aaaa", 1), ("two", "22222222-bbbb", 2))
        ]
    )
    return tmp_path / "library"


def chosen(stemwright: Invoke, library: Path, *args: str) -> list[tuple[str, str]]:
    result = stemwright("reports", *args, "--library", library, "--json")
    assert result.exit_code == 0, result.output
    return sorted((row["title"], row["model"]) for row in document(result)["tracks"])


ONE, TWO, THREE = (("Song 1", "htdemucs"), ("Song 2", "htdemucs"), ("Song 3", "htdemucs"))
ONE_FT, TWO_FT = (("Song 1", "htdemucs_ft"), ("Song 2", "htdemucs_ft"))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], [ONE_FT, TWO_FT, THREE]),
        (["--model", "htdemucs"], [ONE, TWO, THREE]),
        (["--model", FT], [ONE_FT, TWO_FT]),
        (["--model", "no-such"], []),
        (["--run", "22222222-bbbb"], [TWO, THREE]),
        (["--run", "22222222"], [TWO, THREE]),
        (["--run", "2222222"], []),
        (["--since", "2026-01-03"], [ONE_FT, TWO_FT, THREE]),
        (["--since", "2026-01-03T12:00:01"], [ONE_FT, TWO_FT]),
        (["--until", "2026-01-02"], [ONE, TWO]),
        (["--since", "2026-01-02", "--until", "2026-01-03"], [TWO, THREE]),
        (["--genre", "JAZZ"], [ONE_FT, THREE]),
        (["--genre", "jazz", "--model", "htdemucs"], [ONE, THREE]),
        (["song 2"], [TWO_FT]),
        ([track_id_of(1)], [ONE_FT]),
        (["/again.mp3"], [THREE]),
        (["/music/1.mp3", "--model", "htdemucs"], [ONE]),
    ],
)
def test_the_newest_of_what_is_so(
    stemwright: Invoke, library: Path, args: list[str], expected: list[tuple[str, str]]
) -> None:
    assert chosen(stemwright, library, *args) == expected


def test_nothing_that_is_so_is_no_error_and_a_query_without_a_meaning_is(
    stemwright: Invoke, library: Path
) -> None:
    nothing = stemwright("reports", "--genre", "polka", "--library", library)
    assert (nothing.exit_code, "No reports" in nothing.stdout) == (0, True)
    unknown = stemwright("reports", "no such song", "--library", library)
    assert (unknown.exit_code, "no such song" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], ["one", "two"]),
        (["--run", "11111111"], ["one"]),
        (["--since", "2026-01-02"], ["two"]),
        (["--until", "2026-01-01"], ["one"]),
        (["music TWO"], ["two"]),
    ],
)
def test_failures_are_chosen_by_what_they_have(
    stemwright: Invoke, library: Path, args: list[str], expected: list[str]
) -> None:
    result = stemwright("reports", "--failures", *args, "--library", library, "--json")
    assert [Path(row["source"]).stem for row in document(result)["failures"]] == expected
    assert stemwright("reports", "--failures", "--genre", "x", "--library", library).exit_code == 2


def test_two_models_are_compared_on_the_tracks_that_both_have(
    stemwright: Invoke, library: Path
) -> None:
    args = ("reports", "--compare", "htdemucs", "htdemucs_ft", "--library", library)
    found = document(stemwright(*args, "--json"))
    assert (found["names"], found["count"]) == (["htdemucs", "htdemucs_ft"], 2)
    assert [track["label"] for track in found["tracks"]] == ["Artist – Song 2", "Artist – Song 1"]
    lost, won = found["tracks"]
    assert won["first"]["separation_id"] == SEPARATION_ID
    assert won["second"]["separation_id"] == FT
    assert Path(won["second"]["folder"], "report.json").exists()
    assert won["difference"]["score"] == pytest.approx(0.2)
    assert lost["difference"]["score"] == pytest.approx(-0.1)
    mean = found["mean_difference"]
    assert (mean["score"], mean["estimated_si_sdr_db"]) == pytest.approx((0.05, 1.0))
    assert mean["separation_s"] == pytest.approx(10.0)
    assert (found["better"], found["worse"]) == (1, 1)
    said = " ".join(stemwright(*args).stdout.split())
    assert "htdemucs_ft against htdemucs on 2 tracks" in said
    assert "score +0.050, estimated SI-SDR +1.0 dB, time +10.0 s" in said


def test_a_comparison_takes_separation_ids_filters_and_csv(
    stemwright: Invoke, library: Path, tmp_path: Path
) -> None:
    file = tmp_path / "compared.csv"
    args = ("reports", "--compare", FT, SEPARATION_ID, "--library", library, "--genre", "rock")
    assert document(stemwright(*args, "--csv", file, "--json"))["count"] == 1
    (row,) = pd.read_csv(file).to_dict("records")
    assert row["difference_score"] == pytest.approx(0.1)
    assert (row["first_separation_id"], row["second_score"]) == (FT, pytest.approx(0.7))


def test_an_unknown_score_is_in_no_mean(stemwright: Invoke, library: Path) -> None:
    place = Library(library)
    put(place, 4, 6, score=None)
    put(place, 4, 7, score=0.9, model="htdemucs_ft")
    args = ("reports", "--compare", "htdemucs", "htdemucs_ft", "--library", library)
    found = document(stemwright(*args, "--json"))
    assert (found["count"], found["better"], found["worse"]) == (3, 1, 1)
    assert found["tracks"][-1]["difference"]["score"] is None
    assert found["mean_difference"]["score"] == pytest.approx(0.05)
    assert stemwright(*args).exit_code == 0


def test_what_cannot_be_compared_is_named(stemwright: Invoke, library: Path) -> None:
    def refused(*args: str) -> str:
        result = stemwright("reports", *args, "--library", library)
        assert result.exit_code == 2
        return " ".join(result.stderr.split())

    assert "htdemucs_ft" in refused("--compare", "htdemucs", "mdx")
    assert "itself" in refused("--compare", "htdemucs", "htdemucs")
    assert "--compare" in refused("--compare", "htdemucs", "htdemucs_ft", "--model", "htdemucs")


def test_a_library_without_reports_has_nothing_to_compare(
    stemwright: Invoke, tmp_path: Path
) -> None:
    args = ("reports", "--compare", "a", "b", "--library", tmp_path / "none")
    assert "No track" in stemwright(*args).stdout
    assert document(stemwright(*args, "--json"))["tracks"] == []
