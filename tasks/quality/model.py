"""The fitted score: from measures to decibels, and from decibels to 0..1.

The numbers are data, `score_model.json`, fitted by `python -m tests.benchmarks.quality.fit`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from tasks.contracts import Value
from tasks.quality.reasons import Code
from tasks.quality.stem_likelihood import StemLikelihood

MODEL_FILE = "score_model.json"
CEILINGS = ("lost_db", "exchanged_db")
Worse = Literal["high", "low"]


def _taken(measures: Mapping[str, float | None], name: str) -> float | None:
    """A measure's value; None where it couldn't be taken."""
    value = measures.get(name)
    return value if value is not None and math.isfinite(value) else None


class Curve(Value):
    """A piecewise linear function, constant beyond its ends."""

    at: tuple[float, ...] = Field(min_length=2)
    values: tuple[float, ...]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if len(self.at) != len(self.values):
            raise ValueError("as many values as knots are needed")
        if any(right <= left for left, right in pairwise(self.at)):
            raise ValueError("knots must ascend")
        return self

    def __call__(self, x: float) -> float:
        return float(np.interp(x, self.at, self.values))

    @property
    def rises(self) -> bool:
        """Whether it never falls."""
        return all(right >= left for left, right in pairwise(self.values))

    @property
    def falls(self) -> bool:
        """Whether it never rises."""
        return all(right <= left for left, right in pairwise(self.values))


class Term(Value):
    """What one measure costs, dB: 0 where it is best, and never less where it is worse."""

    measure: str
    worse: Worse
    cost_db: Curve

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        ordered = self.cost_db.rises if self.worse == "high" else self.cost_db.falls
        if not ordered or min(self.cost_db.values) < 0:
            raise ValueError(f"the cost of {self.measure} must grow from zero as it gets worse")
        return self


class Indicator(Value):
    """What a measure says is wrong when it is worse than `normal`, which reference stems
    hardly are.

    `severe` is usual among bad stems. `shown` is the measure that the reason quotes, where that
    isn't the one looked at.
    """

    measure: str
    worse: Worse
    code: Code
    shown: str = ""
    normal: float
    severe: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.normal == self.severe or (self.severe > self.normal) != (self.worse == "high"):
            raise ValueError(f"severe must be worse than normal for {self.measure}")
        return self

    def severity(self, measures: Mapping[str, float | None]) -> float:
        """0 at `normal` and where it wasn't measured, 1 at `severe`, and on."""
        value = _taken(measures, self.measure)
        if value is None:
            return 0.0
        return max((value - self.normal) / (self.severe - self.normal), 0.0)


class Interval(Value):
    """Where four true values in five lie, by the estimate, dB; from held-out genres."""

    low_db: Curve
    high_db: Curve

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        if not (self.low_db.rises and self.high_db.rises):
            raise ValueError("a better estimate can't have a lower bound")
        return self


class Estimate(NamedTuple):
    """Estimated SI-SDR with the interval that holds it four times in five, dB."""

    db: float
    low_db: float
    high_db: float


class Formula(Value):
    """Estimated SI-SDR: `best_db - Σ cost_k(measure_k)`, not under `worst_db`.

    A generalized additive model with monotone piecewise linear terms: each cost can be read off,
    none is negative, so that one bad measure is enough for a low estimate and a worse measure
    never raises it. A measure that couldn't be taken costs nothing.

    Nor is it above `-lost_db`, where what a stem has lost for certain is known: of a reference
    stem of energy P + L, what is left, P, has an SI-SDR of 10 log10(P / L); nor above
    `-exchanged_db`, where a passage of it is in another stem and that one's here.
    """

    best_db: float
    worst_db: float
    terms: tuple[Term, ...]
    interval: Interval

    def costs(self, measures: Mapping[str, float | None]) -> dict[str, float]:
        """What each measure costs, dB, the dearest first."""
        found = {
            term.measure: term.cost_db(value)
            for term in self.terms
            if (value := _taken(measures, term.measure)) is not None
        }
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def estimate(self, measures: Mapping[str, float | None]) -> Estimate:
        known = (_taken(measures, name) for name in CEILINGS)
        ceiling_db = min((-db for db in known if db is not None), default=math.inf)
        db = max(min(self.best_db - sum(self.costs(measures).values()), ceiling_db), self.worst_db)
        # A bound never passes the estimate itself.
        return Estimate(db, min(self.interval.low_db(db), db), max(self.interval.high_db(db), db))


class Provenance(Value):
    """Where the numbers come from.

    `corpus_sha256` is over the table's rows that were fitted on; `figures` are what
    leave-one-genre-out found.
    """

    made: str
    script: str
    corpus_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: dict[str, int]
    genres: tuple[str, ...]
    versions: dict[str, str]
    figures: dict[str, Any]


class ScoreModel(Value):
    """`score_model.json`.

    `all_stems` is for separations into all stems of a model, `some_stems` for what can be said
    when some of them weren't kept. `score` maps an estimate in dB to 0..1; `indicators` explain it.
    """

    schema_version: Literal[1]
    provenance: Provenance
    all_stems: Formula
    some_stems: Formula
    score: Curve
    indicators: tuple[Indicator, ...]
    stem_likelihood: StemLikelihood

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        inside = min(self.score.values) >= 0 and max(self.score.values) <= 1
        if not (self.score.rises and inside):
            raise ValueError("the score must rise with the estimate, from 0 to 1")
        return self


@cache
def score_model() -> ScoreModel:
    """The model that this version carries."""
    text = resources.files("tasks.quality").joinpath(MODEL_FILE).read_text(encoding="utf-8")
    return ScoreModel.model_validate_json(text)
