"""What one run over a catalog leaves behind: the library, the tables, and what the UI shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from flows.runner.summary import TrackLine
from tasks.contracts import STEMS
from tasks.recording import TrackRow
from tests.flows.studio import (
    RATE,
    STAGES,
    Ran,
    files_under,
    finished_in,
    run_catalog,
    run_track,
    write_config,
    write_track,
)

pytestmark = pytest.mark.usefixtures("prefect_server")

TRACKS_COLUMNS = """
    track_id separation_id source title artist album genre duration_s source_codec
    source_sample_rate_hz source_channels source_bit_rate_bps source_lossy model weights_sha256
    engine provider device stems_expected stems_present complete residual_db assignment_entropy
    spectral_entropy_mixture spectral_entropy_delta_mean bleed_db score verdict reasons
    separation_s pipeline_s realtime_factor attempts cost_usd run_id flow_run_name
    stemwright_version created_at
"""
STEMS_COLUMNS = """
    track_id separation_id stem path sha256 bytes duration_s silent peak_dbfs rms_dbfs
    clipped_samples energy_share spectral_entropy spectral_entropy_delta spectral_flatness
    bandwidth_hz bleed_db score verdict reasons
"""
FAILURES_COLUMNS = """
    track_id source stage error_type message retryable attempt run_id created_at
"""


@pytest.fixture(scope="module")
def ran(prefect_server: str, tmp_path_factory: pytest.TempPathFactory, config: Path) -> Ran:
    """Two good tracks and a text file in a catalog: one with tags, one that the catalog names."""
    folder = tmp_path_factory.mktemp("one-run")
    write_track(folder / "music/tagged.flac", 1, title="Tagged", artist="Duo", genre="Folk")
    write_track(folder / "music/named.flac", 2, title="Wrong", artist="Wrong")
    (folder / "music/words.mp3").write_text("This is no music.\n" * 500)
    (folder / "songs.csv").write_text(
        "source,title,artist,album,mood\n"
        "music/tagged.flac,,,,calm\n"
        "music/named.flac,Named,Trio,First,\n"
        "music/words.mp3,,,,\n"
    )
    return run_catalog([folder / "songs.csv"], folder / "library", config)


def test_the_library_holds_what_the_contract_says_and_nothing_else(ran: Ran) -> None:
    finished = finished_in(ran.library)
    assert len(finished) == 2
    expected = {
        f"{place}/{name}"
        for place in finished
        for name in ("report.json", "mixture.flac", *(f"{stem}.flac" for stem in STEMS))
    }
    found = set(files_under(ran.library))
    tables = {name for name in found if name.startswith("reports/")}
    assert found - tables == expected
    assert {Path(name).parent.as_posix() for name in tables} == {
        f"reports/{table}" for table in ("tracks", "stems", "failures")
    }
    assert {Path(name).suffix for name in tables} == {".parquet"}


def test_stems_have_the_mixture_s_rate_channels_and_length(ran: Ran) -> None:
    for place in finished_in(ran.library):
        mixture = soundfile.info(ran.library / place / "mixture.flac")
        assert (mixture.frames, mixture.samplerate, mixture.channels) == (RATE, RATE, 2)
        for name in STEMS:
            stem = soundfile.info(ran.library / place / f"{name}.flac")
            assert (stem.frames, stem.samplerate, stem.channels) == (RATE, RATE, 2)
            assert stem.subtype == "PCM_24"


def test_the_report_holds_what_is_known_of_the_track(ran: Ran) -> None:
    report = ran.report("named.flac")
    assert (report.title, report.artist, report.album) == ("Named", "Trio", "First")
    assert report.duration_s == 1.0
    assert report.mixture.source.codec == "flac"
    assert report.mixture.source.sample_rate_hz == RATE
    assert not report.mixture.source.lossy
    assert report.settings.model == "tiny"
    assert report.stem_set.engine == "local_cpu"
    assert report.stem_set.device == "cpu"
    assert report.completeness.complete
    assert report.completeness.present == STEMS
    assert set(report.quality.stems) == set(STEMS)
    assert report.attempts == 1
    assert report.pipeline_s > report.stem_set.separation_s > 0
    assert report.run.run_id == ran.summary.run_id == str(ran.flow_run.id)
    assert report.run.flow_run_name == "separate · songs.csv"
    assert report.separation_id.startswith("tiny-")


def test_a_report_s_paths_hold_wherever_the_library_is_moved(ran: Ran) -> None:
    report = ran.report("named.flac")
    assert report.mixture.path == Path("mixture.flac")
    assert report.stem_set.stems == {name: Path(f"{name}.flac") for name in STEMS}


def test_tags_stand_where_the_catalog_says_nothing(ran: Ran) -> None:
    report = ran.report("tagged.flac")
    assert (report.title, report.artist, report.genre) == ("Tagged", "Duo", "Folk")
    assert report.extra["mood"] == "calm"


@pytest.mark.parametrize(
    ("table", "columns", "rows"),
    [("tracks", TRACKS_COLUMNS, 2), ("stems", STEMS_COLUMNS, 8), ("failures", FAILURES_COLUMNS, 1)],
)
def test_plain_pandas_reads_the_tables(ran: Ran, table: str, columns: str, rows: int) -> None:
    frame = pd.read_parquet(ran.library / "reports" / table)
    wanted = columns.split()
    assert list(frame.columns[: len(wanted)]) == wanted
    assert len(frame) == rows


def test_a_row_says_what_its_report_says(ran: Ran) -> None:
    tracks = pd.read_parquet(ran.library / "reports/tracks").set_index("title")
    row, report = tracks.loc["Named"], ran.report("named.flac")
    assert row["track_id"] == report.track_id
    assert row["score"] == pytest.approx(report.quality.score)
    assert row["residual_db"] == pytest.approx(report.completeness.residual_db)
    assert json.loads(str(row["reasons"])) == list(report.quality.reasons)
    assert json.loads(str(row["stems_present"])) == list(STEMS)
    assert row["complete"]
    assert row["run_id"] == ran.summary.run_id
    assert str(row["created_at"].tz) == "UTC"
    stems = pd.read_parquet(ran.library / "reports/stems")
    for _, stem in stems.iterrows():
        assert (ran.library / stem["path"]).is_file()


def test_a_line_of_the_summary_has_the_columns_names(ran: Ran) -> None:
    own = {"label", "status", "folder", "stems"}
    assert set(TrackLine.model_fields) - own <= set(TrackRow.model_fields)
    tracks = pd.read_parquet(ran.library / "reports/tracks").set_index("track_id")
    for line in ran.summary.tracks:
        assert {Path(path).stem: Path(path).is_file() for path in line.stems.values()} == (
            dict.fromkeys(STEMS, True)
        )
        assert line.score == pytest.approx(tracks.loc[str(line.track_id), "score"])
        assert line.realtime_factor == pytest.approx(
            tracks.loc[str(line.track_id), "realtime_factor"]
        )


def test_what_failed_says_where_why_and_what_to_do(ran: Ran) -> None:
    failure = ran.failure_of("words.mp3")
    assert (failure.stage, failure.error_type) == ("normalize", "NotAudio")
    assert failure.message
    assert failure.remedy
    row = pd.read_parquet(ran.library / "reports/failures").iloc[0]
    assert row["source"].endswith("words.mp3")
    assert (row["stage"], row["error_type"], row["attempt"]) == ("normalize", "NotAudio", 1)
    assert row["message"] == failure.message
    assert not row["retryable"]


def test_a_run_in_which_a_track_failed_is_partial(ran: Ran) -> None:
    assert (ran.state.type.value, ran.state.name) == ("COMPLETED", "Partial")
    assert ran.flow_run.state_name == "Partial"
    assert ran.summary.headline == "2 separated, 1 failed."
    assert ran.summary.exit_code == 1
    assert ran.diary.total == 3


def test_every_stage_of_every_track_has_a_named_task(ran: Ran) -> None:
    states = {run.name: run.state_name for run in ran.task_runs(2 * len(STAGES) + 2)}
    assert states == {
        "ingest · tagged.flac": "Completed",
        "ingest · Trio – Named": "Completed",
        "ingest · words.mp3": "Completed",
        "normalize · words.mp3": "Failed",
        **{f"{stage} · Duo – Tagged": "Completed" for stage in STAGES[1:]},
        **{f"{stage} · Trio – Named": "Completed" for stage in STAGES[1:]},
    }


def test_the_ui_shows_progress_results_and_what_to_listen_to(ran: Ran) -> None:
    artifacts = ran.artifacts()
    progress = [found for found in artifacts if found.type == "progress"]
    assert [found.data for found in progress] == [100.0]
    (table,) = [found for found in artifacts if found.type == "table"]
    rows = json.loads(str(table.data))
    assert {row["track"] for row in rows} == {"Duo – Tagged", "Trio – Named", "words.mp3"}
    assert rows[0]["status"] == "failed"
    assert rows[0]["why, or the worst heard"].startswith("normalize: ")
    flagged = {line.track_id for line in ran.summary.tracks if line.verdict != "pass"}
    pages = {found.key: str(found.data) for found in artifacts if found.type == "markdown"}
    assert set(pages) == {f"flagged-{track_id}" for track_id in flagged}
    assert flagged, "random weights can't pass"
    pictures = {found.key: str(found.data) for found in artifacts if found.type == "image"}
    assert set(pictures) == {f"spectrogram-{track_id}" for track_id in flagged}
    assert all(data.startswith("data:image/webp;base64,") for data in pictures.values())
    for page in pages.values():
        assert "## What is heard" in page
        assert re.search(r"estimated SI-SDR -?\d+\.\d dB \(-?\d+ to -?\d+\)", page)
        assert all(f"| {name} |" in page for name in STEMS)


def test_one_track_from_the_form(tmp_path: Path, config: Path) -> None:
    source = write_track(tmp_path / "a.flac", 3, title="Own", artist="Band")
    ran = run_track(source, tmp_path / "library", config, track={"title": "Given"})
    assert ran.flow_run.name == "separate · Band – Given"
    assert (ran.state.type.value, ran.state.name) == ("COMPLETED", "Completed")
    assert ran.summary.exit_code == 0
    report = ran.report("a.flac")
    assert (report.title, report.artist) == ("Given", "Band")
    assert len(ran.task_runs(len(STAGES))) == len(STAGES)


def test_a_run_in_which_every_track_failed_has_failed(tmp_path: Path, config: Path) -> None:
    ran = run_track(tmp_path / "nothing.flac", tmp_path / "library", config)
    assert (ran.state.type.value, ran.flow_run.state_name) == ("FAILED", "Failed")
    assert ran.failure_of("nothing.flac").error_type == "SourceMissing"
    assert ran.summary.exit_code == 1
    assert finished_in(tmp_path / "library") == {}


def test_nothing_in_nothing_out(tmp_path: Path, config: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = run_catalog([tmp_path / "empty"], tmp_path / "library", config)
    assert ran.summary.done == 0
    assert ran.diary.count("ingest") == 0


def test_a_score_under_the_gate_fails_the_run_and_keeps_the_track(
    tmp_path: Path, config: Path
) -> None:
    source = write_track(tmp_path / "a.flac", 4)
    ran = run_catalog([source], tmp_path / "library", config, control={"fail_under": 1.0})
    assert (ran.state.type.value, ran.state.name) == ("FAILED", "QualityGate")
    assert ran.summary.exit_code == 3
    assert len(finished_in(tmp_path / "library")) == 1


def test_only_the_stems_that_were_asked_for(tmp_path: Path, models_dir: Path) -> None:
    config = write_config(tmp_path / "few.yaml", models_dir, separation={"format": "wav"})
    source = write_track(tmp_path / "a.flac", 5)
    ran = run_catalog(
        [source], tmp_path / "library", config, separation={"stems": ["vocals", "drums"]}
    )
    (place,) = finished_in(tmp_path / "library")
    assert {path.name for path in (tmp_path / "library" / place).iterdir()} == {
        "mixture.flac",
        "report.json",
        "vocals.wav",
        "drums.wav",
    }
    report = ran.report("a.flac")
    assert report.completeness.complete
    assert report.completeness.residual_db is None


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, config: Path) -> None:
    source = write_track(tmp_path / "a.flac", 6)
    first = run_catalog([source], tmp_path / "one", config).report("a.flac")
    again = run_catalog([source], tmp_path / "two", config).report("a.flac")
    hashes = [
        {name: check.sha256 for name, check in report.completeness.stems.items()}
        for report in (first, again)
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0].values())) == len(STEMS)


def test_the_stems_sum_to_the_mixture_as_the_report_says(ran: Ran) -> None:
    report = ran.report("tagged.flac")
    folder = ran.library / "tracks" / report.track_id / report.separation_id
    mixture = soundfile.read(folder / "mixture.flac")[0]
    total = sum(soundfile.read(folder / f"{name}.flac")[0] for name in STEMS)
    rest = mixture - np.asarray(total) / report.stem_set.gain
    residual_db = 10 * np.log10(np.sum(rest**2) / np.sum(mixture**2))
    assert residual_db == pytest.approx(report.completeness.residual_db, abs=0.1)
