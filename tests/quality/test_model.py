"""The stored model: valid, monotone, and of the shape that the fit writes."""

from __future__ import annotations

import json
import math
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from tasks.quality.model import MODEL_FILE, Formula, Indicator, ScoreModel, score_model
from tasks.quality.reasons import CODES
from tests.benchmarks.quality import fit as fitting
from tests.benchmarks.quality import regression

MODEL = score_model()
FORMULAS = {"all stems": MODEL.all_stems, "some stems": MODEL.some_stems}


def stored() -> dict[str, object]:
    text = resources.files("tasks.quality").joinpath(MODEL_FILE).read_text(encoding="utf-8")
    loaded: dict[str, object] = json.loads(text)
    return loaded


def corpus(seed: int = 0, genres: int = 4) -> pd.DataFrame:
    """A table as the benchmark writes it, its truth a known function of two measures."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(genres * 60):
        group = number // 4
        kind = ("separator", "true", "swap", "dropouts")[group % 4]
        measures = {spec.measure: rng.uniform(*spec.knots[:: len(spec.knots) - 1])
                    for spec in (*fitting.TERMS, *fitting.TRIED)}  # fmt: skip
        measures |= {"cross_db": -measures["est_sdr_db"], "relative_energy_db": -6.0}
        measures |= {"lost_db": -100.0, "exchanged_db": math.nan}
        stem = ("drums", "bass", "other", "vocals")[number % 4]
        timbre = rng.normal(("drums", "bass", "other", "vocals").index(stem), 0.1)
        for name in ("centroid_hz", "low_share", "high_share", "percussiveness"):
            measures[name] = 2.0 + timbre
        q = 15 - 0.6 * (16 - measures["est_sdr_db"]) - 20 * measures["contrary_motion"]
        rows.append({
            "piece": f"p{group // 4}", "genre": f"g{group // 4 % genres}",
            "case": f"{kind}_{group}",
            "kind": kind, "strength": 1.0,
            "separator": "net" if kind == "separator" else None, "stage": None, "stem": stem,
            "touched": kind != "true", "absent": False,
            "true_si_sdr_db": q, "true_sdr_db": q, "q_db": 60.0 if kind == "true" else q,
        } | {f"m_{name}": float(value) for name, value in measures.items()})  # fmt: skip
    return pd.DataFrame(rows)


# --- the stored numbers -----------------------------------------------------------------------


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_a_worse_measure_never_raises_the_estimate(formula: Formula) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        at = {
            t.measure: float(rng.uniform(t.cost_db.at[0], t.cost_db.at[-1])) for t in formula.terms
        }
        base = formula.estimate(at)
        for term in formula.terms:
            step = float(rng.uniform(0, 10)) * (1 if term.worse == "high" else -1)
            worse = formula.estimate(at | {term.measure: at[term.measure] + step})
            assert worse.db <= base.db
            assert worse.low_db <= base.low_db
            assert worse.high_db <= base.high_db
            assert MODEL.score(worse.db) <= MODEL.score(base.db)


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_perfect_measures_give_the_best_and_hopeless_ones_the_worst(formula: Formula) -> None:
    good = {t.measure: t.cost_db.at[0 if t.worse == "high" else -1] for t in formula.terms}
    bad = {t.measure: t.cost_db.at[-1 if t.worse == "high" else 0] for t in formula.terms}
    assert formula.estimate(good).db == pytest.approx(formula.best_db)
    assert MODEL.score(formula.estimate(good).db) == 1
    assert MODEL.score(formula.estimate(bad).db) == 0
    assert formula.estimate(bad).db >= formula.worst_db
    assert formula.estimate({}).db == formula.best_db
    costs = list(formula.costs(bad).values())
    assert costs == sorted(costs, reverse=True)


def test_what_is_lost_for_certain_bounds_the_estimate() -> None:
    formula = MODEL.all_stems
    best = {"lost_db": -100.0}
    assert formula.estimate(best).db == formula.best_db
    assert formula.estimate({"lost_db": -5.0}).db == 5.0
    assert formula.estimate({"lost_db": 40.0}).db == formula.worst_db
    assert formula.estimate({"lost_db": None}).db == formula.best_db
    bad = {"est_sdr_db": 0.0}
    assert formula.estimate(bad | {"lost_db": -12.0}) == formula.estimate(bad)


def test_some_stems_need_nothing_of_the_others() -> None:
    of_all = {"xcorr_max", "leak_db", "assignment_entropy", "missing_db", "lost_db", "collapse_db",
              "ls_gain_error"}  # fmt: skip
    assert not {term.measure for term in MODEL.some_stems.terms} & of_all


def test_its_provenance_says_where_it_comes_from() -> None:
    made = MODEL.provenance
    assert made.script == "tests/benchmarks/quality/fit.py"
    assert len(made.genres) >= 12
    assert {"solo_piano", "string_quartet"} <= set(made.genres)
    assert {"true", "separator"} <= set(made.rows)
    assert len(made.rows) >= 2 + 15
    assert made.rows["separator"] > 500
    assert set(made.versions) == {"python", *fitting.LIBRARIES}
    assert made.figures["false_alarms_worst_genre"] < 0.05
    assert made.figures["spearman_separators"] > 0.8


def test_every_sign_has_a_reason_of_the_closed_list() -> None:
    assert {one.code for one in MODEL.indicators} <= set(CODES)
    for sign in MODEL.indicators:
        assert sign.severity({sign.measure: sign.normal}) == 0
        assert sign.severity({sign.measure: sign.severe}) == pytest.approx(1)
        assert sign.severity({}) == sign.severity({sign.measure: None}) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"at": [0.0, 0.0], "values": [0.0, 1.0]},
        {"at": [0.0, 1.0], "values": [1.0, 0.0]},
        {"at": [0.0, 1.0], "values": [-1.0, 0.0]},
        {"at": [0.0, 1.0, 2.0], "values": [0.0, 1.0]},
    ],
    ids=["knots that meet", "falling", "negative", "too few values"],
)
def test_a_model_that_is_not_monotone_is_refused(change: dict[str, list[float]]) -> None:
    model = MODEL.model_dump(mode="json")
    index = next(i for i, t in enumerate(MODEL.all_stems.terms) if t.worse == "high")
    model["all_stems"]["terms"][index]["cost_db"] = change
    with pytest.raises(ValidationError):
        ScoreModel.model_validate(model)
    with pytest.raises(ValidationError):
        Indicator(measure="x", worse="high", code="dropouts", normal=1.0, severe=0.5)


# --- the fit ----------------------------------------------------------------------------------


def test_the_stored_file_has_the_shape_that_the_fit_writes() -> None:
    made = fitting.dated(fitting.model_of(corpus()))
    ScoreModel.model_validate(made)
    kept = stored()

    def keys(value: object) -> object:
        return {k: keys(v) for k, v in value.items()} if isinstance(value, dict) else None

    for name in ("all_stems", "some_stems", "score", "stem_likelihood"):
        assert keys(made[name]) == keys(kept[name])
    assert list(made) == list(kept)
    assert set(made["provenance"]) == set(kept["provenance"])  # type: ignore[call-overload]
    assert set(made["provenance"]["figures"]) == set(kept["provenance"]["figures"])  # type: ignore[index]
    assert [s["measure"] for s in made["indicators"]] == [s["measure"] for s in kept["indicators"]]  # type: ignore[index,union-attr]


def test_the_same_table_gives_the_same_model() -> None:
    table = corpus()
    shuffled = table.sample(frac=1, random_state=3)
    order = ["piece", "kind", "separator", "stage", "case", "stem"]
    again = shuffled.sort_values(order, kind="stable").reset_index(drop=True)
    first = table.sort_values(order, kind="stable").reset_index(drop=True)
    assert json.dumps(fitting.model_of(first)) == json.dumps(fitting.model_of(again))
    assert fitting.digest(first) != fitting.digest(first.assign(q_db=first["q_db"] + 1))


def test_the_fit_finds_what_the_truth_is_made_of() -> None:
    table = corpus(genres=6)
    seen = table[table["kind"] != "true"]
    fitted = regression.fit(seen, fitting.TERMS)
    predicted = fitted.predict(seen)
    assert np.abs(predicted - regression.truth_db(seen)).mean() < 1
    curve = fitted.curve(fitting.ESTIMATE)
    assert curve[-1] == 0
    assert (np.diff(curve) <= 0).all()
    held_out = regression.leave_one_genre_out(seen, fitting.TERMS)
    assert np.abs(held_out - regression.truth_db(seen)).mean() < 1.5
    assert not np.array_equal(held_out, predicted)
