"""What an estimate is worth: ranks, detection, false alarms, and how wide its interval must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from tests.benchmarks.quality.regression import Floats

BAD_DB = 5.0
REVIEW = 0.60
NOMINAL = 0.86
"""Of the quantiles. Genres differ more than a genre's pieces do: these hold 80 % of a new genre."""
BOUNDS_DB = (-30.0, 30.0)
ROWS_PER_BIN = 60


def figures(
    table: pd.DataFrame, estimate_db: Floats, score_of: Callable[[Floats], Floats]
) -> dict[str, Any]:
    """Every goal's number for (held-out) estimates of the rows.

    `auc` are for "min(SI-SDR, SDR) under 5 dB"; those by kind are over the kind's rows and the
    reference stems. `false_alarms` is the share of those under the default review threshold.
    """
    kind = table["kind"].to_numpy()
    real, true = kind == "separator", kind == "true"
    bad = (table["q_db"] < BAD_DB).to_numpy() & ~true
    flagged = score_of(estimate_db) < REVIEW
    si_sdr = table["true_si_sdr_db"].to_numpy(dtype=np.float64)
    error = np.abs(estimate_db - np.clip(table["q_db"], -10, 20))
    alarms = table.assign(flagged=flagged)[true].groupby("genre")["flagged"].mean()
    return {
        "spearman_separators": float(spearmanr(estimate_db[real], si_sdr[real])[0]),
        "auc_all": auc(bad, estimate_db),
        "auc_separators": auc(bad[real], estimate_db[real]),
        "mae_separators_db": float(error[real].mean()),
        "false_alarms": float(flagged[true].mean()),
        "false_alarms_worst_genre": float(alarms.max()),
        "auc_by_kind": by_kind(table, estimate_db),
        "auc_intact_by_kind": by_kind(table, estimate_db, against_intact=True),
        "spearman_by_separator": _ranks(table[real], estimate_db[real], "separator"),
        "spearman_by_genre": _ranks(table[real], estimate_db[real], "genre"),
        "false_alarms_by_genre": {str(g): float(v) for g, v in alarms.items()},
    }


def by_kind(
    table: pd.DataFrame, estimate_db: Floats, *, against_intact: bool = False
) -> dict[str, float]:
    """AUC of each degradation, its rows with the reference stems; without kinds of nothing bad.

    With `against_intact`, for "degraded at all" instead of "under 5 dB".
    """
    kind = table["kind"].to_numpy()
    found = {}
    for name in sorted(set(kind) - {"true", "separator"}):
        rows = (kind == name) | (kind == "true")
        degraded = kind[rows] == name
        bad = degraded if against_intact else degraded & (table["q_db"] < BAD_DB).to_numpy()[rows]
        if 0 < bad.sum() < len(bad):
            found[name] = auc(bad, estimate_db[rows])
    return found


def auc(bad: np.ndarray[Any, np.dtype[np.bool_]], estimate_db: Floats) -> float:
    """Chance that a bad stem is estimated under a good one; NaN without both."""
    return float(roc_auc_score(bad, -estimate_db)) if 0 < bad.sum() < len(bad) else float("nan")


def _ranks(table: pd.DataFrame, estimate_db: Floats, by: str) -> dict[str, float]:
    rows = table.assign(estimate=estimate_db).groupby(by)
    return {
        str(name): float(spearmanr(group["estimate"], group["true_si_sdr_db"])[0])
        for name, group in rows
        if len(group) > 10
    }


def interval(table: pd.DataFrame, estimate_db: Floats) -> dict[str, Any]:
    """Curves that hold four truths in five of a new genre, by the held-out estimate.

    Split-conformal in spirit: empirical quantiles of the truth over bins of equally many
    separations, made monotone. Reference stems stand at the top, where no real separation comes.
    """
    kind = table["kind"].to_numpy()
    rows = (kind == "separator") | (kind == "true")
    truth = np.where(kind == "true", BOUNDS_DB[1], np.clip(table["q_db"], *BOUNDS_DB))[rows]
    order = np.argsort(estimate_db[rows], kind="stable")
    x, y = estimate_db[rows][order], truth[order]
    bins = np.array_split(np.arange(len(x)), max(len(x) // ROWS_PER_BIN, 2))
    at = np.array([np.median(x[b]) for b in bins])
    tail = (1 - NOMINAL) / 2
    low = np.maximum.accumulate([np.quantile(y[b], tail) for b in bins])
    high = np.maximum.accumulate([np.quantile(y[b], 1 - tail) for b in bins])
    # Estimates that meet at a bound would be one knot twice.
    at, first = np.unique(np.round(at, 3), return_index=True)
    return {
        "low_db": {"at": at.tolist(), "values": low[first].tolist()},
        "high_db": {"at": at.tolist(), "values": high[first].tolist()},
    }


def coverage(table: pd.DataFrame, estimate_db: Floats) -> float:
    """Share of held-out separations inside an interval made from the other genres."""
    inside, real = [], (table["kind"] == "separator").to_numpy()
    genres = table["genre"].to_numpy()
    for genre in sorted(set(genres)):
        held = genres == genre
        bounds = interval(table[~held], estimate_db[~held])
        x = estimate_db[held & real]
        low, high = (
            np.interp(x, bounds[key]["at"], bounds[key]["values"]) for key in ("low_db", "high_db")
        )
        truth = table["q_db"].to_numpy(dtype=np.float64)[held & real]
        inside.extend((truth >= np.minimum(low, x)) & (truth <= np.maximum(high, x)))
    return float(np.mean(inside))
