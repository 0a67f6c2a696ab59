"""Where a separation stands among its like: populations, their spread, and what is too small."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest

from tasks.contracts import QualityReport, StemQuality
from tasks.quality.calibration import (
    MIN_POPULATION,
    TRACK,
    Calibration,
    Spread,
    calibrate,
    population_frame,
    standings,
)
from tests.quality.populations import DAY, tables, together


def spread(*values: float) -> Spread:
    return Spread.of(np.array(values))


def normal(count: int, seed: int = 0, mean: float = 0.7, sd: float = 0.1) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).normal(mean, sd, count)]


def test_location_and_scale_are_the_normal_s() -> None:
    found = spread(*normal(4000))
    assert found.median == pytest.approx(0.7, abs=0.01)
    assert found.scale == pytest.approx(0.1, rel=0.05)
    assert found.count == 4000


def test_a_third_of_outliers_moves_neither() -> None:
    clean, spoilt = spread(*normal(600)), spread(*normal(600), *([50.0] * 150), *([-50.0] * 150))
    assert spoilt.median == pytest.approx(clean.median, abs=0.01)
    assert spoilt.scale is not None
    assert clean.scale is not None
    assert spoilt.scale < 2.5 * clean.scale


def test_where_most_are_equal_the_mean_deviation_gives_the_scale() -> None:
    found = spread(*[0.5] * 80, *[0.9] * 20)
    assert found.scale == pytest.approx(1.2533 * 0.2 * 0.4)
    assert found.robust_z(np.array([0.9]))[0] > 3.5


def test_a_constant_population_has_percentiles_but_no_z() -> None:
    found = spread(*[0.5] * 40)
    assert found.scale is None
    assert found.percentile(np.array([0.4, 0.5, 0.6])).tolist() == [0, 50, 100]
    assert np.isnan(found.robust_z(np.array([0.5]))[0])


def test_percentiles_rank_from_least_to_greatest() -> None:
    found = spread(*range(101))
    asked = np.array([-5.0, 0.0, 25.0, 50.5, 100.0, 200.0])
    assert found.percentile(asked).tolist() == [0, 0, 25, 50.5, 100, 100]


def test_equals_stand_in_their_middle() -> None:
    found = spread(*[0.0] * 25, *[1.0] * 51, *[2.0] * 25)
    assert found.percentile(np.array([1.0]))[0] == pytest.approx(50)


@pytest.mark.parametrize("count", [31, 200, 3000])
def test_the_grid_of_quantiles_is_as_good_as_the_values(count: int) -> None:
    values = np.array(normal(count))
    found = Spread.of(values).percentile(values)
    exact = 100 * np.argsort(np.argsort(values)) / (count - 1)
    assert np.abs(found - exact).max() < 1.0


def test_the_narrowest_population_that_is_large_enough_speaks() -> None:
    calibration = calibrate(
        *together(
            tables(normal(40), genre="rock"),
            tables(normal(MIN_POPULATION - 1), genre="folk", first=100),
            tables(normal(50), model="other", genre="rock", first=300),
        )
    )

    def of(model: str, stem: str, genre: str) -> tuple[str, int]:
        found = calibration.standing(0.7, model=model, stem=stem, genre=genre)
        return found.population, found.population_size

    assert of("htdemucs", "vocals", "rock") == ("htdemucs · vocals · rock", 40)
    assert of("htdemucs", "vocals", "folk") == ("htdemucs · vocals", 69)
    assert of("htdemucs", "vocals", "jazz") == ("htdemucs · vocals", 69)
    assert of("htdemucs", "vocals", "") == ("htdemucs · vocals", 69)
    assert of("unknown", "vocals", "rock") == ("vocals", 119)
    assert of("htdemucs", TRACK, "rock") == ("htdemucs · tracks · rock", 40)
    assert of("htdemucs", "kazoo", "rock") == ("", 0)


def test_a_small_library_has_no_populations() -> None:
    calibration = calibrate(*tables(normal(MIN_POPULATION - 1)))
    assert calibration.populations == ()
    found = calibration.standing(0.7, model="htdemucs", stem=TRACK, genre="rock")
    assert found.percentile is None
    assert calibrate(*tables([])).populations == ()


def test_case_and_spaces_of_a_genre_don_t_matter() -> None:
    calibration = calibrate(
        *together(
            tables(normal(20), genre="Hip  Hop "), tables(normal(20), genre="hip hop", first=50)
        )
    )
    found = calibration.standing(0.7, model="htdemucs", stem="vocals", genre=" HIP HOP")
    assert found.population == "htdemucs · vocals · hip hop"
    assert found.population_size == 40


def test_absent_stems_belong_to_no_population() -> None:
    calibration = calibrate(*tables([*normal(35), *[None] * 100]))
    found = calibration.standing(0.7, model="htdemucs", stem="vocals", genre="rock")
    assert found.population_size == 35
    absent = calibration.standing(None, model="htdemucs", stem="vocals", genre="rock")
    assert (absent.percentile, absent.population) == (None, "")


def test_of_several_separations_by_one_model_the_newest_counts() -> None:
    old = tables([0.1] * 40)
    new = tables([0.9] * 40, created_at=DAY + timedelta(days=1))
    for frame in new:
        frame["separation_id"] = "htdemucs-ffffffff"
    calibration = calibrate(*together(old, new))
    found = calibration.spread("score", ("htdemucs", TRACK, "rock"))
    assert found is not None
    assert (found[1].median, found[1].count) == (0.9, 40)


def test_it_reads_what_it_wrote_and_nothing_else() -> None:
    calibration = calibrate(*tables(normal(40)))
    again = Calibration.parse(calibration.dump())
    assert again == calibration
    assert Calibration.parse(None) is None
    assert Calibration.parse(b"{}x") is None
    assert Calibration.parse(b'{"populations": [{"model": 1}]}') is None


def test_a_report_is_placed_with_its_stems() -> None:
    calibration = calibrate(*tables([number / 100 for number in range(101)]))
    stem = StemQuality(score=0.25, verdict="review", estimated_si_sdr_db=3.0, reasons=())
    absent = stem.model_copy(update={"score": None, "absent": True})
    report = QualityReport(
        score=0.75,
        verdict="pass",
        estimated_si_sdr_db=9.0,
        reasons=(),
        stems={"vocals": stem, "kazoo": absent},
    )
    placed = calibration.place(report, model="htdemucs", genre="Rock")
    assert placed.percentile == pytest.approx(75)
    assert placed.population == "htdemucs · tracks · rock"
    assert placed.population_size == 101
    assert placed.stems["vocals"].percentile == pytest.approx(25)
    assert placed.stems["vocals"].robust_z == pytest.approx(-0.25 / (1.4826 * 0.25))
    assert placed.stems["kazoo"].percentile is None
    assert (placed.verdict, placed.score) == (report.verdict, report.score)


def test_every_row_stands_where_the_report_of_it_would() -> None:
    tracks, stems = together(
        tables(normal(45), genre="rock"), tables(normal(12, seed=1), genre="folk", first=100)
    )
    calibration = calibrate(tracks, stems)
    frame = population_frame(tracks, stems)
    found = standings(calibration, frame)
    for row, where in zip(frame.to_dict("records"), found.to_dict("records"), strict=True):
        alone = calibration.standing(
            row["score"], model=row["model"], stem=row["stem"], genre=row["genre"]
        )
        assert where["percentile"] == pytest.approx(alone.percentile)
        assert where["robust_z"] == pytest.approx(alone.robust_z)
        assert where["population"] == alone.population


def test_an_unusual_stem_is_named_with_its_descriptor() -> None:
    entropy = [*normal(60, mean=0.4, sd=0.02), 0.9]
    tracks, stems = tables([0.7] * 61, spectral_entropy=entropy)
    found = standings(calibrate(tracks, stems), population_frame(tracks, stems))
    odd = [json.loads(text) for text in found["atypical"]]
    assert [at for at, names in enumerate(odd) if names] == [121]
    assert odd[121]["spectral_entropy"] > 10
