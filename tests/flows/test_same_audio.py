"""Rows of a catalog with the same audio: the first is the track's, and none is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tasks.sources
from tasks.recording import Library
from tasks.separation.local import LocalSeparator
from tests.flows.studio import Ran, run_catalog, write_track

pytestmark = pytest.mark.usefixtures("prefect_server")

HEADER = "source,title,artist,isrc,mood\n"


@dataclass
class Catalog:
    """A CSV file beside its audio, and runs of it into one library."""

    folder: Path
    config: Path

    def write(self, *rows: str) -> None:
        (self.folder / "songs.csv").write_text(HEADER + "\n".join(rows))

    def run(self, **control: bool) -> Ran:
        sources = [self.folder / "songs.csv"]
        return run_catalog(sources, self.folder / "library", self.config, control=control)

    @property
    def library(self) -> Library:
        return Library(self.folder / "library")

    def row(self) -> dict[str, Any]:
        """The one row of `reports/tracks`, which says what its report.json says."""
        table = pd.read_parquet(f"{self.library.url}/reports/tracks")
        (row,) = table.fillna({"title": ""}).to_dict("records")
        report = self.library.report(row["track_id"], row["separation_id"])
        assert (row["source"], row["title"]) == (report.source, report.title)
        assert report.mixture.ref.source == report.source
        return row

    def isrcs(self) -> dict[str, int]:
        """For each ISRC of the catalog how many stems it finds by a plain join."""
        tables = {
            name: pd.read_parquet(f"{self.library.url}/reports/{name}")
            for name in ("tracks", "aliases", "stems")
        }
        named = pd.concat([tables["tracks"], tables["aliases"]])[["isrc", "track_id"]]
        joined = named.merge(tables["stems"], on="track_id")
        return joined.groupby("isrc").size().to_dict()


@pytest.fixture
def catalog(tmp_path: Path, config: Path) -> Catalog:
    """Two files with the same audio."""
    write_track(tmp_path / "b.flac", 1)
    (tmp_path / "a.flac").write_bytes((tmp_path / "b.flac").read_bytes())
    return Catalog(tmp_path, config)


@pytest.fixture(params=["while it is separated", "after it was committed"])
def a_comes_late(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """a.flac is fetched only when b.flac is that far."""
    separating, waited_for = threading.Event(), threading.Event()
    fetch, separate = tasks.sources.ingest, LocalSeparator.separate

    def ingest(ref: Any, *given: Any) -> Any:
        if ref.source.endswith("a.flac"):
            wanted = committed if request.param.startswith("after") else separating
            assert wanted.wait(30)
        return fetch(ref, *given)

    def slow(self: Any, given: Any) -> Any:
        separating.set()
        if request.param.startswith("while"):
            assert waited_for.wait(30)
        return separate(self, given)

    def take(self: Any, track_id: str, track: Any) -> bool:
        taken = real_take(self, track_id, track)
        if track.ref.source.endswith("a.flac"):
            waited_for.set()
        return taken

    def write_rows(self: Library, reports: Any) -> None:
        write(self, reports)
        committed.set()

    committed, write = threading.Event(), Library.write_rows
    from tasks.run_context import Claims

    real_take = Claims.take
    monkeypatch.setattr(tasks.sources, "ingest", ingest)
    monkeypatch.setattr(LocalSeparator, "separate", slow)
    monkeypatch.setattr(Claims, "take", take)
    monkeypatch.setattr(Library, "write_rows", write_rows)
    yield
    assert separating.is_set()


TWO = ("a.flac,First,Ann,GB001,", "b.flac,Second,Ben,GB002,blue")


@pytest.mark.usefixtures("a_comes_late")
def test_the_first_row_wins_whichever_was_decoded_first(catalog: Catalog) -> None:
    catalog.write(*TWO)
    ran = catalog.run()
    assert (ran.summary.done, ran.summary.duplicates, ran.summary.failed) == (1, 1, 0)
    assert ran.diary.of("b.flac").count("separate") == 1, "b was decoded first"
    row = catalog.row()
    assert (Path(row["source"]).name, row["title"], row["isrc"]) == ("a.flac", "First", "GB001")
    (other,) = catalog.library.aliases().to_dict("records")
    assert (other["title"], other["artist"], other["isrc"]) == ("Second", "Ben", "GB002")
    assert (Path(other["source"]).name, other["extra"]) == ("b.flac", '{"mood": "blue"}')
    assert other["track_id"] == row["track_id"]
    assert catalog.isrcs() == {"GB001": 4, "GB002": 4}
    again = catalog.run()
    assert again.diary.count("ingest") == 0
    assert len(catalog.library.aliases()) == 1


def test_the_first_row_wins_in_a_later_run_of_the_same_catalog(catalog: Catalog) -> None:
    """As after a run that was killed before it came to the first row's end."""
    catalog.write(*TWO)
    first, late = catalog.folder / "a.flac", catalog.folder / "late.flac"
    first.rename(late)
    assert catalog.run().failure_of("a.flac")
    assert catalog.row()["title"] == "Second"
    late.rename(first)
    assert catalog.run().summary.already == 2
    assert (catalog.row()["title"], catalog.row()["isrc"]) == ("First", "GB001")
    assert catalog.isrcs() == {"GB001": 4, "GB002": 4}


def test_what_the_library_has_from_elsewhere_keeps_its_row(catalog: Catalog) -> None:
    elsewhere = write_track(catalog.folder / "elsewhere/c.flac", 1)
    run_catalog([elsewhere], catalog.folder / "library", catalog.config)
    catalog.write(*TWO)
    again = catalog.run().summary
    assert (again.done, again.already + again.duplicates) == (0, 2)
    assert Path(catalog.row()["source"]).name == "c.flac"
    assert catalog.isrcs() == {"GB001": 4, "GB002": 4}


def test_what_a_catalog_says_of_a_finished_source_is_noted_once(catalog: Catalog) -> None:
    run_catalog([catalog.folder / "a.flac"], catalog.folder / "library", catalog.config)
    catalog.write("a.flac,First,Ann,GB001,")
    for _ in range(2):
        ran = catalog.run()
        assert (ran.summary.already, ran.diary.count("ingest")) == (1, 0)
        assert len(catalog.library.aliases()) == 1
    assert catalog.isrcs() == {"GB001": 4}


def test_rows_of_one_source_are_separated_once_and_all_kept(catalog: Catalog) -> None:
    catalog.write("a.flac,First,Ann,GB001,", "a.flac,Again,Ann,GB002,")
    ran = catalog.run()
    assert (ran.summary.done, ran.summary.duplicates) == (1, 1)
    assert catalog.row()["title"] == "First"
    assert catalog.isrcs() == {"GB001": 4, "GB002": 4}


def test_force_repeats_no_row_and_loses_none(catalog: Catalog) -> None:
    catalog.write(*TWO)
    catalog.run()
    catalog.run(force=True)
    assert len(catalog.library.aliases()) == 1
    catalog.write("b.flac,Second,Ben,GB002,blue")
    catalog.run(force=True)
    assert catalog.row()["title"] == "Second"
    assert {"GB001", "GB002"} == set(catalog.isrcs())
