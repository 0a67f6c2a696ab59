"""Bad input gives one clear error for its track, and costs the others nothing.

All of it goes through one run of the real flow, together with what is good and what is only odd.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.contracts import STEMS
from tests.faults.specimens import write_bad, write_odd
from tests.flows.studio import (
    Ran,
    files_under,
    finished_in,
    run_catalog,
    write_config,
    write_track,
)
from tests.sources.server import page, serving, silent, status

pytestmark = pytest.mark.usefixtures("prefect_server")

BAD = {
    "missing.flac": ("SourceMissing", "ingest", "no file"),
    "empty.flac": ("EmptyAudio", "ingest", "empty"),
    "text.mp3": ("NotAudio", "normalize", "no audio"),
    "truncated.flac": ("CorruptAudio", "normalize", ""),
    "truncated.mp3": ("CorruptAudio", "normalize", ""),
    "video.mp4": ("NotAudio", "normalize", "video but no audio"),
    "no-samples.wav": ("EmptyAudio", "normalize", "no samples"),
    "blink.wav": ("EmptyAudio", "normalize", "0.050 s"),
    "nan.wav": ("CorruptAudio", "normalize", ""),
    "infinite.wav": ("CorruptAudio", "normalize", ""),
    "too-long.wav": ("SourceRefused", "normalize", "the limit is 5.0 s"),
    "locked.flac": ("SourceUnreadable", "ingest", "may not be read"),
    "gone.flac": ("SourceMissing", "ingest", "404"),
    "stalls.flac": ("NetworkError", "ingest", ""),
    "page.html": ("NotAudio", "ingest", ""),
    "no-source-column.csv": ("CatalogError", "catalog", "source"),
    "latin-1.csv": ("CatalogError", "catalog", ""),
}
TITLES = {"escape": "../../etc/passwd", "emoji": "🎸🔥👩‍🎤", "endless": "la " * 100}
ODD = (
    *("silent.flac", "telephone.wav", "studio.wav", "cinema.flac", "good-1.flac", "good-2.flac"),
    *(f"{name}.flac" for name in TITLES),
)


@contextmanager
def permissions_that_hold() -> Iterator[None]:
    """Root may read everything: then the refusal has to come from where the file is opened."""
    if os.geteuid():
        yield
        return
    real = Path.open

    def refusing(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == "locked.flac":
            raise PermissionError(13, os.strerror(13), str(self))
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", refusing)
        yield


def write_catalogs(folder: Path, url: str) -> list[Path]:
    """The catalog of everything, with a row twice, and two catalogs that are bad themselves."""
    bad = [f"bad/{name}" for name in BAD if "." in name and not name.endswith((".csv", ".html"))]
    urls = [f"{url}/{name}" for name in ("gone.flac", "stalls.flac", "page.html")]
    files = [name for name in bad if name.split("/")[1] not in ("gone.flac", "stalls.flac")]
    odd = [
        *(f"odd/{name}" for name in ODD if name not in ("good-1.flac", "good-2.flac")),
        *("odd/here/song.flac", "odd/there/song.flac", "odd/original.flac", "odd/copy.flac"),
    ]
    sources = ["good-1.flac", *files, *urls, *odd, "good-2.flac", "good-2.flac"]
    with (folder / "all.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "title"])
        writer.writerows([source, TITLES.get(Path(source).stem, "")] for source in sources)
    (folder / "no-source-column.csv").write_text("path,title\ngood-1.flac,Good\n")
    (folder / "latin-1.csv").write_bytes(b"source,title\ngood-1.flac,Fr\x81hling\n")
    return [folder / name for name in ("all.csv", "no-source-column.csv", "latin-1.csv")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def ran(prefect_server: str, folder: Path, models_dir: Path) -> Ran:
    write_bad(folder / "bad")
    write_odd(folder / "odd")
    write_track(folder / "good-1.flac", 100)
    write_track(folder / "good-2.flac", 101)
    config = write_config(
        folder / "c.yaml",
        models_dir,
        ingest={"max_duration_s": 5.0, "stall_timeout_s": 0.5, "timeout_s": 5.0},
        run={"ingest_retries": 0},
    )
    with serving() as site, permissions_that_hold():
        site.on("/gone.flac", status(404))
        site.on("/stalls.flac", silent)
        site.on("/page.html", page("<html><body><p>No music here.</p></body></html>"))
        sources = write_catalogs(folder, site.url)
        return run_catalog(sources, folder / "library", config)


@pytest.mark.parametrize("name", BAD)
def test_each_bad_one_gives_one_clear_error(ran: Ran, name: str) -> None:
    failures = [
        failure
        for failure in ran.summary.failures
        if Path(failure.source).name == name or name in failure.label
    ]
    assert len(failures) == 1, [failure.source for failure in ran.summary.failures]
    (failure,) = failures
    error_type, stage, words = BAD[name]
    assert (failure.error_type, failure.stage) == (error_type, stage)
    assert words in failure.message
    assert failure.message.endswith(".")
    assert failure.remedy
    assert failure.attempt == 1


def test_nothing_else_fails(ran: Ran) -> None:
    assert ran.summary.failed == len(ran.summary.failures) == len(BAD)
    assert (ran.state.name, ran.summary.exit_code) == ("Partial", 1)
    rows = pd.read_parquet(ran.library / "reports/failures")
    assert len(rows) == len(BAD)


@pytest.mark.parametrize("name", ODD)
def test_each_good_or_odd_one_is_done(ran: Ran, name: str) -> None:
    report = ran.report(name)
    assert report.completeness.complete
    assert report.completeness.present == STEMS
    assert (report.mixture.sample_rate_hz, report.mixture.channels) == (44_100, 2)
    assert report.duration_s == pytest.approx(1.0, abs=1e-4)


def test_the_silent_one_is_reported_as_silent(ran: Ran) -> None:
    report = ran.report("silent.flac")
    assert report.mixture.silent
    assert set(report.completeness.silent) == set(STEMS)
    assert report.completeness.missing == ()
    stems = pd.read_parquet(ran.library / "reports/stems")
    assert stems[stems["track_id"] == report.track_id]["silent"].all()


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("telephone.wav", 8_000, 1), ("studio.wav", 192_000, 2), ("cinema.flac", 44_100, 8)],
)
def test_what_the_source_was_is_recorded(ran: Ran, name: str, rate: int, channels: int) -> None:
    source = ran.report(name).mixture.source
    assert (source.sample_rate_hz, source.channels) == (rate, channels)


@pytest.mark.parametrize("name", TITLES)
def test_a_title_is_only_data(ran: Ran, name: str, folder: Path) -> None:
    report = ran.report(f"{name}.flac")
    assert report.title == TITLES[name].strip()
    tracks = pd.read_parquet(ran.library / "reports/tracks").set_index("track_id")
    assert tracks.loc[report.track_id, "title"] == TITLES[name].strip()


def test_nothing_is_written_outside_the_library_and_nothing_left_in_it(
    ran: Ran, folder: Path
) -> None:
    assert {path.name for path in folder.iterdir()} == {
        *("bad", "odd", "library", "c.yaml", "good-1.flac", "good-2.flac"),
        *("all.csv", "no-source-column.csv", "latin-1.csv"),
    }
    places = {str(Path(name).parent) for name in files_under(ran.library) if "tracks/" in name}
    assert places - {"reports/tracks"} == set(finished_in(ran.library))
    assert not (ran.library / ".scratch").exists()


def test_the_same_name_in_two_folders_is_two_tracks(ran: Ran) -> None:
    songs = [line for line in ran.summary.tracks if Path(line.source).name == "song.flac"]
    assert len(songs) == len({line.track_id for line in songs}) == 2
    assert {line.status for line in songs} == {"done"}


def test_the_same_audio_under_two_names_is_one_separation(ran: Ran) -> None:
    twins = [
        line
        for line in ran.summary.tracks
        if Path(line.source).name in ("original.flac", "copy.flac")
    ]
    assert sorted(line.status for line in twins) == ["done", "duplicate"]
    assert len({line.folder for line in twins}) == 1


def test_a_row_twice_is_one_track(ran: Ran) -> None:
    assert sum(Path(line.source).name == "good-2.flac" for line in ran.summary.tracks) == 1
    assert ran.summary.done == len(ODD) + 3
    assert len(finished_in(ran.library)) == ran.summary.done


def test_a_failing_run_repeats_nothing(ran: Ran, folder: Path) -> None:
    """What is done stays done, what its bytes settled stays settled, the rest is asked again."""
    before = finished_in(ran.library)
    with permissions_that_hold():
        again = run_catalog(
            [folder / "all.csv"], ran.library, folder / "c.yaml", control={"offline": True}
        )
    assert finished_in(ran.library) == before
    assert again.diary.count("separate") == 0
    assert again.summary.done == 0
    assert again.summary.already == len(ODD) + 4
    asked = {name for what, name, _ in again.diary.entries if what == "ingest"}
    assert asked == {
        name
        for name, (error_type, _, _) in BAD.items()
        if error_type not in ("CorruptAudio", "EmptyAudio", "NotAudio", "CatalogError")
    }
