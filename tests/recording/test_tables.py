"""The tables: the contract's columns, one row a separation, readable with plain pandas."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tasks.contracts import Failure, Reason, StemQuality
from tasks.errors import ProtocolError, StemwrightError
from tasks.recording import Alias, Library
from tests.recording.factory import SEPARATION_ID, make_report, track_id_of, write_folder

# INTERFACES.md, section 4
TRACKS, STEMS, FAILURES = (
    columns.split()
    for columns in (
        """track_id separation_id source title artist album genre duration_s source_codec
        source_sample_rate_hz source_channels source_bit_rate_bps source_lossy model weights_sha256
        engine provider device stems_expected stems_present complete residual_db
        assignment_entropy spectral_entropy_mixture spectral_entropy_delta_mean bleed_db score
        verdict reasons separation_s pipeline_s realtime_factor attempts cost_usd run_id
        flow_run_name stemwright_version created_at""",
        """track_id separation_id stem path sha256 bytes duration_s silent peak_dbfs rms_dbfs
        clipped_samples energy_share spectral_entropy spectral_entropy_delta spectral_flatness
        bandwidth_hz bleed_db score verdict reasons""",
        """track_id source stage error_type message retryable attempt run_id created_at""",
    )
)

# Every column and its type: files that were written yesterday are read with today's.
SCHEMAS = {
    "tracks": """
        track_id separation_id source title artist album genre duration_s:real source_codec
        source_sample_rate_hz:whole source_channels:whole source_bit_rate_bps:whole
        source_lossy:flag model weights_sha256 engine provider device stems_expected stems_present
        complete:flag residual_db:real assignment_entropy:real spectral_entropy_mixture:real
        spectral_entropy_delta_mean:real bleed_db:real score:real verdict reasons separation_s:real
        pipeline_s:real realtime_factor:real attempts:whole cost_usd:real run_id flow_run_name
        stemwright_version created_at:time estimated_si_sdr_db:real stems_silent stem_gain:real
        mixture_gain:real mixture_peak:real mixture_silent:flag isrc extra notes source_container
        source_channel_layout source_bit_depth source_bytes:whole format bit_depth fingerprint
        aliases estimated_si_sdr_low_db:real estimated_si_sdr_high_db:real percentile:real
        robust_z:real population population_size:whole warnings route backend precision batch:whole
        peak_vram_bytes:whole peak_rss_bytes:whole source_promised_s:real source_damaged_s:real
        source_damages:whole worst guessed
    """,
    "stems": """
        track_id separation_id stem path sha256 bytes:whole duration_s:real silent:flag
        peak_dbfs:real rms_dbfs:real clipped_samples:whole energy_share:real spectral_entropy:real
        spectral_entropy_delta:real spectral_flatness:real bandwidth_hz:real bleed_db:real
        score:real verdict reasons estimated_si_sdr_db:real absent:flag bleed_from
        assignment_entropy:real origin problems run_id created_at:time estimated_si_sdr_low_db:real
        estimated_si_sdr_high_db:real percentile:real robust_z:real population population_size:whole
        warnings worst
    """,
    "failures": """
        track_id source stage error_type message retryable:flag attempt:whole run_id created_at:time
        label remedy input_error:flag fingerprint
    """,
    "aliases": """
        track_id separation_id source fingerprint run_id created_at:time title artist album genre
        isrc extra guessed
    """,
}
_TYPES = {
    "": pa.string(),
    "real": pa.float64(),
    "whole": pa.int64(),
    "flag": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


def commit(library: Library, *reports: object, replace: bool = False) -> None:
    with library.workspace("run") as scratch:
        for number, report in enumerate(reports):
            folder = write_folder(scratch / str(number), report)  # type: ignore[arg-type]
            library.commit(folder, report, replace=replace)  # type: ignore[arg-type]


def pandas_of(library: Library, table: str) -> pd.DataFrame:
    return pd.read_parquet(f"{library.url}/reports/{table}")


def names_in(library: Library, folder: str) -> list[str]:
    return sorted(path.name for path in Path(library.url, folder).iterdir())


def failure(source: str, **fields: object) -> Failure:
    given = {"stage": "ingest", "error_type": "NotAudio", "message": "no audio", "retryable": False}
    return Failure(source=source, **given | fields)


def test_the_contracts_columns_come_first_and_in_order(library: Library) -> None:
    library.write_rows([make_report()])
    library.record_failures([failure("/a.mp3")])
    assert list(pandas_of(library, "tracks").columns)[: len(TRACKS)] == TRACKS
    assert list(pandas_of(library, "stems").columns)[: len(STEMS)] == STEMS
    assert list(pandas_of(library, "failures").columns)[: len(FAILURES)] == FAILURES


def test_every_column_keeps_its_name_its_place_and_its_type(library: Library) -> None:
    library.write_rows([make_report()])
    library.record_failures([failure("/a.mp3")])
    alias = Alias(track_id=track_id_of(1), separation_id=SEPARATION_ID, source="/b.mp3")
    library.record_aliases([alias])
    for table, columns in SCHEMAS.items():
        named = (column.partition(":") for column in columns.split())
        (file,) = Path(library.url, "reports", table).iterdir()
        found = pq.read_schema(file)
        assert [(field.name, field.type) for field in found] == [
            (name, _TYPES[kind]) for name, _, kind in named
        ]


def test_columns_are_flat_and_times_are_utc(library: Library) -> None:
    library.write_rows([make_report()])
    library.record_failures([failure("/a.mp3")])
    for table in ("tracks", "stems", "failures"):
        schema = ds.dataset(f"{library.url}/reports/{table}").schema
        assert not any(pa.types.is_nested(field.type) for field in schema)
        assert not any(pa.types.is_null(field.type) for field in schema)
        assert schema.field("created_at").type == pa.timestamp("us", tz="UTC")


def test_a_row_holds_what_its_report_says(library: Library) -> None:
    report = make_report()
    library.write_rows([report])
    row = pandas_of(library, "tracks").iloc[0]
    assert row["source_codec"] == "mp3float"
    assert row["source_sample_rate_hz"] == 48_000
    assert row["engine"] == "local_cpu"
    assert json.loads(row["stems_expected"]) == ["drums", "bass", "other", "vocals"]
    assert json.loads(row["reasons"]) == ["high_bleed"]
    assert row["residual_db"] == -25.0
    assert row["realtime_factor"] == 2.0
    assert row["complete"]
    assert row["created_at"].to_pydatetime() == report.created_at


def test_rows_hold_the_interval_the_standing_and_the_warnings(library: Library) -> None:
    found = {
        "estimated_si_sdr_low_db": 4.0,
        "estimated_si_sdr_high_db": 9.5,
        "percentile": 12.5,
        "robust_z": -1.25,
        "population": "htdemucs · tracks · rock",
        "population_size": 321,
    }
    doubt = Reason(code="swapped_with_bass", sentence="It may be the bass.", stem="vocals")
    report = make_report(stems=["vocals"])
    changes = {**found, "warnings": (doubt, doubt)}
    stem = report.quality.stems["vocals"].model_copy(update=changes)
    quality = report.quality.model_copy(update={**changes, "stems": {"vocals": stem}})
    library.write_rows([report.model_copy(update={"quality": quality})])
    for table in ("tracks", "stems"):
        row = pq.read_table(f"{library.url}/reports/{table}").to_pylist()[0]
        assert {name: row[name] for name in found} == found
        assert json.loads(row["warnings"]) == ["swapped_with_bass"]


def test_without_a_review_the_standing_is_null(library: Library) -> None:
    library.write_rows([make_report()])
    for table in ("tracks", "stems"):
        row = pq.read_table(f"{library.url}/reports/{table}").to_pylist()[0]
        assert (row["percentile"], row["robust_z"], row["population"]) == (None, None, None)
        assert json.loads(row["warnings"]) == []


def test_a_stems_path_leads_from_the_library_to_its_file(library: Library) -> None:
    report = make_report()
    commit(library, report)
    library.write_rows([report])
    stems = pandas_of(library, "stems")
    assert sorted(stems["stem"]) == ["bass", "drums", "other", "vocals"]
    for row in stems.to_dict("records"):
        assert (Path(library.url) / row["path"]).stat().st_size == row["bytes"]
        assert row["duration_s"] == 10.0


def test_what_is_unknown_is_null_not_a_word(library: Library) -> None:
    absent = StemQuality(
        score=None, verdict="pass", estimated_si_sdr_db=None, reasons=(), absent=True
    )
    report = make_report(title="", artist="", stems=["vocals"])
    quality = report.quality.model_copy(update={"score": None, "stems": {"vocals": absent}})
    library.write_rows([report.model_copy(update={"quality": quality, "pipeline_s": float("nan")})])
    row = pq.read_table(f"{library.url}/reports/tracks").to_pylist()[0]
    for column in ("title", "artist", "album", "score", "source_bit_rate_bps", "pipeline_s"):
        assert row[column] is None
    stem = pq.read_table(f"{library.url}/reports/stems").to_pylist()[0]
    assert stem["score"] is None
    assert stem["absent"]


def test_columns_that_are_null_in_one_file_and_not_in_another_read_together(
    library: Library,
) -> None:
    unknown = make_report(1)
    source = unknown.mixture.source.model_copy(update={"bit_rate_bps": 320_000})
    known = make_report(2, title="")
    known = known.model_copy(
        update={"mixture": known.mixture.model_copy(update={"source": source})}
    )
    library.write_rows([unknown])
    library.write_rows([known])
    table = pandas_of(library, "tracks").set_index("track_id")
    assert table.loc[track_id_of(2), "source_bit_rate_bps"] == 320_000
    assert table["source_bit_rate_bps"].isna()[track_id_of(1)]


def test_recording_a_track_twice_adds_no_row(library: Library) -> None:
    report = make_report()
    commit(library, report)
    library.write_rows([report])
    before = names_in(library, "reports/tracks")
    library.write_rows([report])
    Library(library.url).write_rows([report, report])
    assert names_in(library, "reports/tracks") == before
    assert len(pandas_of(library, "tracks")) == 1
    assert len(pandas_of(library, "stems")) == 4


def test_the_row_follows_the_folder_when_two_workers_disagree(library: Library) -> None:
    first, second = make_report(run_id="first"), make_report(run_id="later")
    commit(library, first)
    library.write_rows([second])
    Library(library.url).write_rows([second])
    assert pandas_of(library, "tracks")["run_id"].tolist() == ["first"]


def test_force_leaves_one_row_among_its_neighbours(library: Library) -> None:
    olds = [make_report(number, run_id="old") for number in range(5)]
    commit(library, *olds)
    library.write_rows(olds)
    new = make_report(3, run_id="new", stems=["vocals", "drums"])
    commit(library, new, replace=True)
    library.write_rows([new])
    tracks = pandas_of(library, "tracks").set_index("track_id")
    assert tracks["run_id"].to_dict() == {
        track_id_of(number): "new" if number == 3 else "old" for number in range(5)
    }
    stems = pandas_of(library, "stems")
    assert sorted(stems[stems.track_id == track_id_of(3)]["stem"]) == ["drums", "vocals"]
    assert len(stems) == 4 * 4 + 2


def test_another_separation_of_the_same_track_is_another_row(library: Library) -> None:
    library.write_rows([make_report(1), make_report(1, "htdemucs_ft-00000001")])
    assert len(library.tracks()) == 2


def test_a_row_that_a_crash_kept_from_being_written_is_written_later(library: Library) -> None:
    reports = [make_report(number) for number in range(3)]
    commit(library, *reports)
    library.write_rows(reports[:1])
    keys = [(report.track_id, SEPARATION_ID) for report in reports]
    assert library.ensure_rows([*keys, (track_id_of("never"), SEPARATION_ID)]) == 2
    assert library.ensure_rows(keys) == 0
    assert sorted(pandas_of(library, "tracks")["track_id"]) == sorted(key[0] for key in keys)


def test_a_rebuild_makes_the_same_tables(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.recording.recorder.ROWS_PER_FILE", 4)
    reports = [make_report(number, title="t" * number) for number in range(10)]
    commit(library, *reports)
    for report in reports:
        library.write_rows([report])
    tracks, stems = library.tracks(), library.stems()
    assert library.rebuild() == 10
    pd.testing.assert_frame_equal(library.tracks(), tracks)
    pd.testing.assert_frame_equal(
        library.stems().sort_values("path", ignore_index=True),
        stems.sort_values("path", ignore_index=True),
    )
    assert len(names_in(library, "reports/tracks")) == 3
    assert len(names_in(library, "reports/stems")) == 3


def test_a_rebuild_needs_only_the_sidecars_and_says_which_it_cant_read(library: Library) -> None:
    commit(library, make_report(1), make_report(2))
    damaged = Path(library.folder(track_id_of(2), SEPARATION_ID)) / "report.json"
    damaged.write_bytes(b"\xff\xfe not json")
    unread: list[tuple[str, StemwrightError]] = []
    assert library.rebuild(lambda place, error: unread.append((place, error))) == 1
    assert [place for place, _ in unread] == [f"tracks/{track_id_of(2)}/{SEPARATION_ID}"]
    assert isinstance(unread[0][1], ProtocolError)
    assert library.tracks()["track_id"].tolist() == [track_id_of(1)]


def test_rows_written_after_a_rebuild_know_the_rebuilt_ones(library: Library) -> None:
    reports = [make_report(number) for number in range(3)]
    commit(library, *reports)
    library.write_rows(reports)
    Library(library.url).rebuild()
    library.write_rows(reports)
    assert len(pandas_of(library, "tracks")) == 3


def test_a_rebuild_mends_a_damaged_table(library: Library) -> None:
    report = make_report()
    commit(library, report)
    library.write_rows([report])
    file = next(Path(library.url, "reports", "tracks").iterdir())
    file.write_bytes(b"PAR1 cut short")
    with pytest.raises(ProtocolError, match="damaged") as caught:
        library.tracks()
    assert "--rebuild" in caught.value.remedy
    library.write_rows([make_report(2)])
    library.rebuild()
    assert library.tracks()["track_id"].tolist() == [report.track_id]


def test_tables_that_nobody_wrote_yet_are_empty_with_their_columns(library: Library) -> None:
    assert list(library.tracks().columns)[: len(TRACKS)] == TRACKS
    assert list(library.stems().columns)[: len(STEMS)] == STEMS
    assert list(library.failures().columns)[: len(FAILURES)] == FAILURES
    assert not Path(library.url).exists()


def test_a_run_of_failures_alone_leaves_only_failures(library: Library) -> None:
    library.record_failures([failure("/a.mp3", remedy="Give audio.", input_error=True)])
    library.write_rows([])
    assert names_in(library, "reports") == ["failures"]
    row = pandas_of(library, "failures").iloc[0]
    assert row["message"] == "no audio"
    assert row["track_id"] is None or pd.isna(row["track_id"])
    assert row["remedy"] == "Give audio."


def test_tracks_are_sorted_by_time(library: Library) -> None:
    now = datetime.now(UTC)
    reports = [make_report(n, created_at=now - timedelta(seconds=n)) for n in range(4)]
    library.write_rows(reports)
    assert library.tracks()["track_id"].tolist() == [track_id_of(n) for n in (3, 2, 1, 0)]


def test_file_names_say_when_and_which_run(library: Library) -> None:
    library.write_rows([make_report(run_id="nightly run/7")])
    for table in ("tracks", "stems"):
        (name,) = names_in(library, f"reports/{table}")
        assert re.fullmatch(r"\d{8}T\d{12}Z-nightly-run-7-[0-9a-f]{12}\.parquet", name)


def test_files_of_an_older_version_read_with_todays_columns(library: Library) -> None:
    library.write_rows([make_report(1)])
    folder = Path(library.url, "reports", "tracks")
    old = pq.read_table(next(folder.iterdir())).drop_columns(["isrc", "aliases", "percentile"])
    next(folder.iterdir()).unlink()
    pq.write_table(old, folder / "0.parquet")
    library.write_rows([make_report(2)])
    assert library.tracks()["isrc"].isna().all()
    assert len(pandas_of(library, "tracks")) == 2
    assert library.index().find("/music/1.mp3", "", SEPARATION_ID) == track_id_of(1)


def test_columns_that_another_process_added_are_shown_and_kept(library: Library) -> None:
    mine, theirs = make_report(1), make_report(2)
    commit(library, mine, theirs)
    library.write_rows([mine, theirs])
    (file,) = Path(library.url, "reports", "tracks").iterdir()
    pq.write_table(pq.read_table(file).append_column("stars", pa.array([4, 5])), file)
    commit(library, make_report(1, run_id="new"), replace=True)
    assert library.tracks().set_index("run_id")["stars"].to_dict() == {
        "run-1": 5.0,
        "new": pytest.approx(float("nan"), nan_ok=True),
    }
