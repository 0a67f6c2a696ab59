"""A column of the tables from a module of its own: this one. No package knows of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tasks.columns import Column, register, unregister
from tasks.contracts import TrackReport
from tasks.recording import Library
from tests.cli.conftest import Invoke, document, stemwright
from tests.flows.conftest import config, models_dir
from tests.flows.studio import run_catalog, write_track
from tests.recording.factory import make_report

__all__ = ["config", "models_dir", "stemwright"]


def words_in_title(report: TrackReport, stem: str) -> int:
    return len(report.title.split())


def loudest_dbfs(report: TrackReport, stem: str) -> float | None:
    return report.completeness.stems[stem].peak_dbfs


COLUMNS = (
    Column("words_in_title", "tracks", int, words_in_title, "Words in the title."),
    Column("loudest_dbfs", "stems", float, loudest_dbfs, "The stem's peak, once more."),
)


@pytest.fixture(autouse=True)
def columns() -> Iterator[None]:
    for column in COLUMNS:
        register(column)
    yield
    for column in COLUMNS:
        unregister(column)


@pytest.mark.usefixtures("prefect_server")
def test_a_column_in_a_whole_run(tmp_path: Path, config: Path, stemwright: Invoke) -> None:
    library = tmp_path / "library"
    source = write_track(tmp_path / "in" / "song.flac", title="Three little words")
    ran = run_catalog([source], library, config)
    assert ran.summary.done == 1
    assert pd.read_parquet(library / "reports/tracks")["words_in_title"].tolist() == [3]
    stems = pd.read_parquet(library / "reports/stems")
    assert stems["loudest_dbfs"].tolist() == stems["peak_dbfs"].tolist()
    (row,) = document(stemwright("reports", "--library", library, "--json"))["tracks"]
    assert row["words_in_title"] == 3


def test_rows_from_before_the_column_are_null_in_it(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    for column in COLUMNS:
        unregister(column)
    library.write_rows([make_report(1)])
    for column in COLUMNS:
        register(column)
    library.write_rows([make_report(2, title="Two words")])
    assert sorted(library.tracks()["words_in_title"].fillna(0)) == [0, 2]
    assert library.stems()["loudest_dbfs"].isna().sum() == 4


def test_a_column_that_fails_costs_no_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    library = Library(tmp_path / "library")
    broken = register(Column("words_in_title", "tracks", int, lambda report, stem: 1 // 0))
    with caplog.at_level(logging.WARNING):
        library.write_rows([make_report(1)])
    unregister(broken)
    assert library.tracks()["words_in_title"].isna().all()
    assert "words_in_title" in caplog.text


def test_a_field_of_the_row_wins_over_a_column_of_its_name(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    same = register(Column("score", "tracks", float, lambda report, stem: 99.0))
    library.write_rows([make_report(1)])
    unregister(same)
    assert library.tracks()["score"].tolist() == [0.5]
    with pytest.raises(ValueError, match="snake_case"):
        register(Column("Not a name", "tracks", int, words_in_title))
