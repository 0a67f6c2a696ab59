"""`stemwright review`: the review by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.recording import Library
from tests.cli.conftest import Invoke, document
from tests.flows.reviewed import fallen_library


@pytest.fixture
def library(tmp_path: Path) -> Path:
    fallen_library(Library(tmp_path / "library"))
    return tmp_path / "library"


def test_it_shows_what_drifted_and_what_is_flagged(stemwright: Invoke, library: Path) -> None:
    result = stemwright("review", "--library", library, "--since", "2026-03-06")
    assert result.exit_code == 0
    shown = result.stdout
    assert "htdemucs" in shown
    assert "31 / 40" in shown
    assert "scores fell with htdemucs" in shown
    assert "unusual: vocals of Artist – Song odd: spectral_entropy z +" in shown
    assert "check" in shown
    assert "Calibrated" in result.stderr
    assert (library / "reports/calibration.json").is_file()


def test_json_has_all_of_it(stemwright: Invoke, library: Path) -> None:
    result = stemwright("review", "--library", library, "--since", "2026-03-06", "--json")
    found = document(result)
    assert found["library"] == str(library)
    assert found["fallen"] == ["htdemucs"]
    assert (found["tracks"], found["new_reports"], found["written"]) == (71, 31, True)
    drift = found["drifts"][0]
    assert (drift["model"], drift["stem"], drift["measure"]) == ("htdemucs", "", "score")
    assert drift["plain"]["low"] < drift["plain"]["shift"] < drift["plain"]["high"] < 0
    assert found["flagged_count"] == len(found["flagged"])
    assert found["atypical_count"] == 4


def test_a_dry_run_writes_nothing(stemwright: Invoke, library: Path) -> None:
    result = stemwright("review", "--library", library, "--dry-run", "--json")
    assert document(result)["written"] is False
    assert not (library / "reports/calibration.json").exists()


def test_without_a_date_the_last_days_count(stemwright: Invoke, library: Path) -> None:
    found = document(stemwright("review", "--library", library, "--days", "1", "--json"))
    assert found["new_reports"] == 0
    assert found["drifts"] == []
    shown = stemwright("review", "--library", library, "--days", "1").stdout
    assert "Too few reports before or after" in shown


def test_no_library_no_reports(stemwright: Invoke, tmp_path: Path) -> None:
    result = stemwright("review", "--library", tmp_path / "nowhere")
    assert result.exit_code == 0
    assert "No reports" in result.stdout
    assert not (tmp_path / "nowhere").exists()


def test_a_date_that_is_none_is_a_usage_error(stemwright: Invoke, library: Path) -> None:
    result = stemwright("review", "--library", library, "--since", "yesterday")
    assert result.exit_code == 2
    assert "yesterday" in result.stderr


def test_reports_show_the_percentile_of_the_last_review(stemwright: Invoke, library: Path) -> None:
    assert "percentile" not in stemwright("reports", "--library", library).stdout
    stemwright("review", "--library", library)
    assert "percentile" in stemwright("reports", "--library", library).stdout
    rows = document(stemwright("reports", "--library", library, "--json"))["tracks"]
    assert [row["percentile"] for row in rows] == sorted(row["percentile"] for row in rows)
    assert rows[0]["population"] == "htdemucs · tracks · rock"
    file = library / "all.csv"
    stemwright("reports", "--library", library, "--csv", file)
    header = file.read_text().splitlines()[0].split(",")
    for name in ("percentile", "robust_z", "population", "estimated_si_sdr_low_db", "warnings"):
        assert name in header
