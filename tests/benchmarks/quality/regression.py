"""A monotone additive model of quality in dB, fitted by non-negative least squares.

q = best - Σ_k cost_k(measure_k): each cost is piecewise linear over given knots, starts at zero
where the measure is best and never falls as it gets worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import nnls

from tasks.quality.model import CEILINGS, Worse

Floats = npt.NDArray[np.float64]

WORST_DB, TOP_DB = -10.0, 20.0
"""Truth is clipped to this range: beyond it, better and worse sound alike."""

SHARES = {"separator": 0.5, "true": 0.15}
INJECTED_SHARE = 0.35
"""How much each kind of row weighs; within each, every genre (and degradation) weighs the same."""

RIDGE = 0.02


@dataclass(frozen=True)
class Spec:
    """A term to fit: a measure, which way is worse, and ascending knots."""

    measure: str
    worse: Worse
    knots: tuple[float, ...]

    def segments(self, values: Floats) -> Floats:
        """How far each value is through each segment towards worse, (rows, knots - 1), 0 to 1.

        A value that isn't there counts as best.
        """
        knots = np.array(self.knots)
        through = np.clip((values[:, None] - knots[:-1]) / np.diff(knots), 0, 1)
        if self.worse == "low":
            through = 1 - through
        return np.where(np.isfinite(values)[:, None], through, 0.0)


@dataclass(frozen=True)
class Fitted:
    """What came out: `costs` has the rise in dB over each segment of each term."""

    specs: tuple[Spec, ...]
    best_db: float
    costs: tuple[Floats, ...]

    def predict(self, table: pd.DataFrame) -> Floats:
        """dB for each row."""
        paid = np.zeros(len(table))
        for spec, cost in zip(self.specs, self.costs, strict=True):
            paid += spec.segments(column(table, spec.measure)) @ cost
        # What is lost for certain bounds every estimate, as in `tasks.quality.model.Formula`.
        ceilings = [np.nan_to_num(-column(table, name), nan=np.inf) for name in CEILINGS]
        ceiling = np.min(ceilings, axis=0)
        return np.asarray(np.maximum(np.minimum(self.best_db - paid, ceiling), WORST_DB))

    def curve(self, spec: Spec) -> Floats:
        """Cost at each knot, dB."""
        cost = self.costs[self.specs.index(spec)]
        if spec.worse == "high":
            return np.concatenate([[0.0], np.cumsum(cost)])
        return np.concatenate([np.cumsum(cost[::-1])[::-1], [0.0]])


def column(table: pd.DataFrame, measure: str) -> Floats:
    return table[f"m_{measure}"].to_numpy(dtype=np.float64, na_value=np.nan)


def truth_db(table: pd.DataFrame) -> Floats:
    """min(SI-SDR, SDR), clipped; intact stems are as good as it gets."""
    q = np.clip(table["q_db"].to_numpy(dtype=np.float64), WORST_DB, TOP_DB)
    return np.where(table["kind"] == "true", TOP_DB, q)


UNSEEN = ("swap",)
"""Left out of the fit, not of the figures: stems that changed places look perfect, so that all
they could teach is to trust nothing."""


def weights(table: pd.DataFrame) -> Floats:
    """Row weights that sum to the number of rows."""
    group = table["kind"].where(table["kind"].isin(list(SHARES)), "injected")
    share = group.map(SHARES).fillna(INJECTED_SHARE).astype(float)
    cell = [group, table["genre"], table["kind"], table["separator"].fillna("")]
    in_cell = table.groupby(cell)["q_db"].transform("size")
    cells = pd.DataFrame({"group": group, "key": table.groupby(cell).ngroup()})
    count = cells.groupby("group")["key"].transform("nunique")
    raw = (share / (count * in_cell)).to_numpy(dtype=np.float64)
    return np.asarray(raw / raw.mean())


def fit(table: pd.DataFrame, specs: Sequence[Spec]) -> Fitted:
    """Weighted least squares with a small ridge on the segments' rises."""
    specs = tuple(specs)
    table = table[~table["kind"].isin(UNSEEN)]
    parts = [spec.segments(column(table, spec.measure)) for spec in specs]
    design = np.hstack([np.ones((len(table), 1)), *(-part for part in parts)])
    root = np.sqrt(weights(table))
    ridge = np.sqrt(RIDGE * len(table)) * np.eye(design.shape[1])[1:]
    left = np.vstack([design * root[:, None], ridge / np.sqrt(10)])
    right = np.concatenate([truth_db(table) * root, np.zeros(len(ridge))])
    # Through the normal equations' Cholesky factor: a few dozen rows instead of thousands.
    gram = left.T @ left
    factor = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))
    solution, _ = nnls(factor.T, np.linalg.solve(factor, left.T @ right))
    widths = np.cumsum([part.shape[1] for part in parts])[:-1]
    return Fitted(specs, float(solution[0]), tuple(np.split(solution[1:], widths)))


def leave_one_genre_out(table: pd.DataFrame, specs: Sequence[Spec]) -> Floats:
    """Each row as predicted by a model that never saw its genre, dB."""
    predicted = np.full(len(table), np.nan)
    for genre in sorted(table["genre"].unique()):
        held = (table["genre"] == genre).to_numpy()
        predicted[held] = fit(table[~held], specs).predict(table[held])
    return predicted
