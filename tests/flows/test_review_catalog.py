"""A review: the calibration that the next runs use, what drifted, and what is newly flagged."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.review_catalog import ReviewedLibrary, ReviewPeriod, review_catalog
from flows.reviewing import Period, ReviewSummary, calibration_of, review, with_standings
from tasks.recording import Library
from tests.flows.reviewed import MARCH, fallen_library, fill, report_of, scores
from tests.flows.studio import run_catalog, write_track

LATER = Period.from_date(MARCH + timedelta(days=5))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return fallen_library(Library(tmp_path / "library"))


def test_a_fall_is_measured_with_its_interval(library: Library) -> None:
    summary = review(library, LATER)
    (tracks,) = [d for d in summary.drifts if not d.stem and d.measure == "score"]
    assert tracks.plain.shift == pytest.approx(-0.15, abs=0.03)
    assert tracks.plain.low is not None
    assert tracks.plain.high is not None
    assert tracks.plain.low < tracks.plain.shift < tracks.plain.high < 0
    assert (tracks.plain.earlier, tracks.plain.later) == (40, 31)
    assert tracks.plain.superiority is not None
    assert tracks.plain.superiority < 0.05
    assert summary.fallen == ["htdemucs"]
    decibels = [d for d in summary.drifts if d.stem == "vocals" and d.measure != "score"]
    assert decibels[0].plain.shift == pytest.approx(10 * tracks.plain.shift, abs=1e-6)


def test_another_mix_of_genres_is_no_drift(tmp_path: Path) -> None:
    """Choirs score lower than rock here; the later period has more choirs, each no worse."""

    def batch(first: int, rock: int, choir: int, day: int) -> list[Any]:
        of_rock = [report_of(first + n, s, day=day) for n, s in enumerate(scores(rock, 0.8, day))]
        of_choir = [
            report_of(first + 500 + n, s, day=day, genre="choir")
            for n, s in enumerate(scores(choir, 0.62, day + 1))
        ]
        return of_rock + of_choir

    library = fill(Library(tmp_path / "mix"), [*batch(0, 50, 10, 0), *batch(2000, 10, 50, 9)])
    summary = review(library, LATER)
    (tracks,) = [d for d in summary.drifts if not d.stem and d.measure == "score"]
    assert tracks.plain.moved
    assert not tracks.within_genre.moved
    assert summary.fallen == []


def test_a_period_can_be_held_against_the_one_before_it_alone(tmp_path: Path) -> None:
    reports = [
        report_of(100 * day + n, score, day=day)
        for day, mean in ((0, 0.5), (20, 0.8), (40, 0.8))
        for n, score in enumerate(scores(20, mean, seed=day))
    ]
    library = fill(Library(tmp_path / "long"), reports)
    since = MARCH + timedelta(days=30)
    all_before = review(library, Period.from_date(since)).drifts[0].plain
    last = next(
        d
        for d in review(library, Period.from_date(since, against_days=15)).drifts
        if not d.stem and d.measure == "score"
    )
    assert (all_before.earlier, last.plain.earlier) == (40, 20)
    assert not last.plain.moved


def test_flagged_are_the_period_s_newest_reports_below_pass_worst_first(library: Library) -> None:
    again = report_of("again", 0.9)
    worse = report_of("again", 0.2, day=11, model="htdemucs_ft", verdict="fail")
    old = report_of("old", 0.1, day=1, verdict="fail")
    silent = report_of("silent", None, day=12, verdict="review")
    fill(library, [again, worse, old, silent])
    summary = review(library, LATER)
    named = [track.label for track in summary.flagged]
    assert named[:2] == ["Artist – Song silent", "Artist – Song again"]
    assert "Artist – Song old" not in named
    found = summary.flagged[1]
    assert (found.was, found.verdict, found.model) == ("pass", "fail", "htdemucs_ft")
    assert found.reasons == ("high_bleed",)
    assert (
        summary.flagged_count
        == len(summary.flagged)
        == sum(track.verdict != "pass" for track in summary.flagged)
    )


def test_unusual_stems_are_listed_and_keep_their_verdict(library: Library) -> None:
    summary = review(library, LATER)
    assert {stem.label for stem in summary.atypical} == {"Artist – Song odd"}
    assert {stem.stem for stem in summary.atypical} == {"drums", "bass", "other", "vocals"}
    assert all(stem.descriptors["spectral_entropy"] > 3.5 for stem in summary.atypical)
    assert "Artist – Song odd" not in [track.label for track in summary.flagged]


def test_a_review_leaves_two_documents_and_no_table_changed(library: Library) -> None:
    place = Path(library.url)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    summary = review(library, LATER)
    assert summary.written
    after = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    new = {path.relative_to(place).as_posix() for path in after.keys() - before.keys()}
    assert new == {"reports/calibration.json", "reports/review/standings.parquet"}
    assert {path: after[path] for path in before} == before
    table = pd.read_parquet(place / "reports/review")
    assert len(table) == 71 * 5
    worst = table[table["stem"] == ""].sort_values("score").iloc[0]
    assert worst["percentile"] == 0
    assert worst["population"] == "htdemucs · tracks · rock"


def test_looking_only_writes_nothing(library: Library) -> None:
    summary = review(library, LATER, write=False)
    assert not summary.written
    assert summary.drifts
    assert calibration_of(library) is None


def test_an_empty_library_stays_empty(tmp_path: Path) -> None:
    library = Library(tmp_path / "nothing")
    summary = review(library, LATER)
    assert (summary.tracks, summary.drifts, summary.written) == (0, [], False)
    assert not Path(library.url).exists()


def test_a_library_in_an_object_store() -> None:
    library = fallen_library(Library(f"memory://review-{uuid.uuid4().hex}"))
    review(library, LATER)
    calibration = calibration_of(Library(library.url))
    assert calibration is not None
    assert calibration.tracks == 71
    data = library.document("review/standings.parquet")
    assert len(pd.read_parquet(BytesIO(data or b""))) == 71 * 5


def test_tracks_get_the_standing_of_the_last_review(library: Library) -> None:
    assert with_standings(library, library.tracks())["percentile"].isna().all()
    review(library, LATER)
    fill(library, [report_of("new", 0.7, day=20)])
    placed = with_standings(library, library.tracks()).set_index("title")
    assert pd.isna(placed.loc["Song new", "percentile"])
    ranked = placed.drop("Song new")
    assert (ranked["score"].rank() - 1).corr(ranked["percentile"]) == pytest.approx(1, abs=1e-4)
    assert set(ranked["population_size"]) == {71}
    library.write_document("review/standings.parquet", b"damaged")
    assert with_standings(library, library.tracks())["percentile"].isna().all()


def test_a_damaged_calibration_is_none(library: Library) -> None:
    library.write_document("calibration.json", b"{")
    assert calibration_of(library) is None


# --- the flow -------------------------------------------------------------------------------------


def ran(library: Library, since: str) -> tuple[Any, ReviewSummary]:
    state = review_catalog(
        ReviewedLibrary(library=library.url), ReviewPeriod(since=since), return_state=True
    )
    return state, cast("ReviewSummary", state.result(raise_on_failure=False))


def artifacts_of(state: Any) -> dict[str, Any]:
    run_id = state.state_details.flow_run_id
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=mine)
    return {artifact.key or "": artifact for artifact in found}


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_ends_as_drifted_with_a_page_and_a_table(library: Library) -> None:
    state, summary = ran(library, "2026-03-06")
    assert (state.type.value, state.name) == ("COMPLETED", "Drifted")
    assert state.message == summary.headline
    assert "31 of 71 tracks since 2026-03-06" in summary.headline
    artifacts = artifacts_of(state)
    page = str(artifacts["catalog-review"].data)
    assert "| htdemucs | tracks | score | 31 against 40 |" in page
    assert "Hodges–Lehmann" in page
    rows = json.loads(str(artifacts["newly-flagged"].data))
    assert [row["track"] for row in rows] == [track.label for track in summary.flagged]
    assert calibration_of(library) is not None


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_without_news_says_so(library: Library) -> None:
    state, summary = ran(library, "2026-06-01")
    assert (state.type.value, state.name) == ("COMPLETED", "NothingNew")
    assert summary.new_reports == 0
    assert set(artifacts_of(state)) == {"catalog-review"}


def test_a_date_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        ReviewPeriod(since="yesterday")


@pytest.mark.usefixtures("prefect_server")
def test_a_run_after_a_review_says_where_each_track_stands(tmp_path: Path, config: Path) -> None:
    library = Library(tmp_path / "library")
    past = [
        report_of(n, score, model="tiny", genre="folk")
        for n, score in enumerate(scores(40, 0.5, sd=0.2))
    ]
    review(fill(library, past), LATER)
    write_track(tmp_path / "new.flac", 3, title="New", genre="Folk")
    found = run_catalog([tmp_path / "new.flac"], tmp_path / "library", config)
    quality = found.report("new.flac").quality
    assert quality.population == "tiny · tracks · folk"
    assert quality.population_size == 40
    expected = calibration_of(library).standing(  # type: ignore[union-attr]
        quality.score, model="tiny", stem="", genre="folk"
    )
    assert quality.percentile == expected.percentile
    present = [stem for stem in quality.stems.values() if stem.score is not None]
    assert present
    assert all(stem.population.startswith("tiny · ") for stem in present)
    row = library.tracks().set_index("title").loc["New"]
    assert row["percentile"] == pytest.approx(quality.percentile)
