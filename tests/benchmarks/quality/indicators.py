"""Where each measure stops being normal: what reference stems show, and what bad ones do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks.quality.model import Worse
from tasks.quality.reasons import Code
from tests.benchmarks.quality.evaluation import BAD_DB
from tests.benchmarks.quality.regression import column

NORMAL_SHARE = 0.99


@dataclass(frozen=True)
class Kind:
    """A measure, its reason, and the mildest value that is worth a word, however rare."""

    measure: str
    worse: Worse
    code: Code
    least: float
    shown: str = ""


SIGNS: tuple[Kind, ...] = (
    Kind("leak_db", "high", "bleed_from_<stem>", -25.0),
    Kind("xcorr_max", "high", "correlated_with_<stem>", 0.15),
    Kind("assignment_entropy", "high", "spread_over_stems", 0.3),
    Kind("missing_db", "high", "missing_energy", -15.0),
    Kind("ls_gain_error", "high", "gain_off", 0.1, shown="ls_gain"),
    Kind("dropout_frac", "high", "dropouts", 0.01),
    Kind("cuts_per_min", "high", "cuts", 3.0),
    Kind("tail_cut_s", "high", "truncated_tail", 1.0),
    Kind("clip_log_ppm", "high", "clipping", 1.8, shown="clip_ppm"),
    Kind("cliff_rel_db", "high", "lowpass_cliff", 20.0),
    Kind("rough_db", "high", "rough_spectrum", 3.0),
    Kind("contrary_motion", "high", "contrary_motion", 0.03),
    Kind("collapse_db", "high", "stereo_collapse", -20.0),
    Kind("exchanged_db", "high", "changed_places_with_<stem>", -30.0),
)


def fit(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The indicators as the score's file has them.

    Normal is what 99 % of the reference stems keep to, and at least the mildest value worth a word;
    severe is the median of the bad stems beyond that.
    """
    true = (table["kind"] == "true").to_numpy()
    bad = (table["q_db"] < BAD_DB).to_numpy() & ~true
    found = []
    for kind in SIGNS:
        sign = 1 if kind.worse == "high" else -1
        values = sign * column(table, kind.measure)
        # A measure that no reference stem has is NaN for all of them.
        usual = values[true & np.isfinite(values)]
        least = sign * kind.least
        normal = max(float(np.quantile(usual, NORMAL_SHARE)), least) if len(usual) else least
        beyond = values[bad & (values > normal)]
        severe = float(np.median(beyond)) if len(beyond) else normal + abs(normal)
        found.append({
            "measure": kind.measure,
            "worse": kind.worse,
            "code": kind.code,
            "shown": kind.shown,
            "normal": sign * normal,
            "severe": sign * max(severe, normal + 0.01),
        })  # fmt: skip
    return found
