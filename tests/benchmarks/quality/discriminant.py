"""Fits what tells the stems apart by their timbre, on reference stems, and finds swaps with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tasks.quality.stem_likelihood import FEATURES, StemLikelihood, features
from tests.benchmarks.quality.evaluation import auc
from tests.benchmarks.quality.regression import Floats

FALSE_ALARMS = 0.03
SHRINK = 0.05
PREFIX = "m_"


def fit(table: pd.DataFrame) -> dict[str, Any]:
    """Linear discriminants with a pooled, slightly shrunk covariance.

    The threshold is the gain that 3 % of the reference stems exceed in genres that weren't fitted,
    and no less than nothing.
    """
    gains = held_out_gains(table[table["kind"] == "true"])
    limit = max(float(np.quantile(gains, 1 - FALSE_ALARMS)), 0.0)
    return _discriminants(table) | {"swap_nats": limit}


def figures(table: pd.DataFrame) -> dict[str, float]:
    """How well held-out swaps are told from reference stems."""
    whole = (table["kind"] == "swap") & table["touched"].astype(bool) & (table["strength"] >= 1)
    cases = table.loc[whole | (table["kind"] == "true"), ["piece", "case"]].drop_duplicates()
    chosen = table.merge(cases, on=["piece", "case"])
    worst = held_out_gains(chosen).groupby(["piece", "case"]).max()
    kind = chosen.groupby(["piece", "case"])["kind"].first().reindex(worst.index)
    swapped, gain = (kind == "swap").to_numpy(), worst.to_numpy()
    limit = fit(table)["swap_nats"]
    return {
        "auc_whole_swaps": auc(swapped, -gain),
        "whole_swaps": float(swapped.sum()),
        "whole_swaps_found": float((gain[swapped] > limit).mean()),
        "whole_swaps_false_alarms": float((gain[~swapped] > limit).mean()),
    }


def held_out_gains(table: pd.DataFrame) -> pd.Series[float]:
    """What each stem would gain by its best swap, by discriminants of the other genres."""
    found: dict[tuple[str, str, str], float] = {}
    for genre in sorted(table["genre"].unique()):
        held = table["genre"] == genre
        model = StemLikelihood(**_discriminants(table[~held]), swap_nats=0.0)
        for (piece, case), rows in table[held].groupby(["piece", "case"]):
            for stem, (_, gain) in model.swaps(measures_by_stem(rows)).items():
                found[piece, case, stem] = gain
    index = pd.MultiIndex.from_tuples(list(found), names=["piece", "case", "stem"])
    return pd.Series(list(found.values()), index=index)


def measures_by_stem(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    columns = [name for name in rows.columns if name.startswith(PREFIX)]
    return {
        str(stem): {name.removeprefix(PREFIX): float(value) for name, value in row.items()}
        for stem, row in zip(rows["stem"], rows[columns].to_dict("records"), strict=True)
    }


def _discriminants(table: pd.DataFrame) -> dict[str, Any]:
    true = table[table["kind"] == "true"]
    names = sorted(true["stem"].unique())
    rows = [features(measures) for measures in _each(true)]
    x: Floats = np.array([row for row in rows if row is not None])
    label = np.array([s for s, row in zip(true["stem"], rows, strict=True) if row is not None])
    mean, scale = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / scale
    centres = np.array([z[label == name].mean(axis=0) for name in names])
    spread = z - centres[np.searchsorted(names, label)]
    covariance = spread.T @ spread / (len(z) - len(names)) + SHRINK * np.eye(len(FEATURES))
    weights = np.linalg.solve(covariance, centres.T).T
    return {
        "names": names,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "weights": weights.tolist(),
        "bias": (-0.5 * (weights * centres).sum(axis=1)).tolist(),
    }


def _each(rows: pd.DataFrame) -> list[dict[str, float]]:
    columns = [name for name in rows.columns if name.startswith(PREFIX)]
    return [
        {str(name).removeprefix(PREFIX): float(value) for name, value in row.items()}
        for row in rows[columns].to_dict("records")
    ]
