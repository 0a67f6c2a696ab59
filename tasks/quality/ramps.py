"""The table that turns measures into sub-scores.

Source: research/quality.md, "Final figures and a recommended starting spec" (1,651 stems with
injected faults, 848 from real separators). The thresholds were set by hand while looking at that
data, so they are optimistic. Where this table departs from that one, the row says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from tasks.quality.reasons import Code


class Ramp(NamedTuple):
    """A sub-score: 0 at `zero` and beyond, 1 at `one` and beyond, linear between.

    `shown` is the measure that its reason quotes, where that isn't the one ramped.
    """

    measure: str
    zero: float
    one: float
    code: Code
    shown: str = ""

    def sub_score(self, value: float) -> float:
        return min(max((value - self.zero) / (self.one - self.zero), 0.0), 1.0)


RAMPS = (
    Ramp("est_sdr_db", 2.0, 12.0, "estimated_sdr_low"),
    # There -6 to -16, for a leak that counts all the others' energy; this one reads lower.
    Ramp("leak_db", -8.0, -18.0, "bleed_from_<stem>"),
    Ramp("xcorr_max", 0.45, 0.12, "correlated_with_<stem>"),
    # There 0.45 to 0.15: but true stems of dense music share bins by nature; in 30 random pieces of
    # tests/data/studio they read 0.18 (median), 0.33 (95 %), 0.40 (99 %).
    Ramp("assignment_entropy", 0.60, 0.30, "spread_over_stems"),
    Ramp("missing_db", -3.0, -13.0, "missing_energy"),
    Ramp("ls_gain_error", 0.60, 0.12, "gain_off", shown="ls_gain"),
    # There all dead time, cuts or none, and any tail gap: but true stems rest in digital silence
    # (14 % of the vocals of our own pieces), and songs end without their singer.
    Ramp("dropout_frac", 0.20, 0.02, "dropouts"),
    Ramp("cuts_per_min", 12.0, 1.0, "cuts"),
    Ramp("tail_cut_s", 6.0, 1.5, "truncated_tail"),
    Ramp("clip_log_ppm", 3.5, 1.8, "clipping", shown="clip_ppm"),
    Ramp("cliff_rel_db", 45.0, 25.0, "lowpass_cliff"),
    Ramp("rough_db", 9.0, 5.0, "rough_spectrum"),
)


def sub_scores(measures: Mapping[str, float | None]) -> list[tuple[float, Ramp]]:
    """The sub-scores of the measures that there are, worst first."""
    scored = [
        (ramp.sub_score(value), ramp)
        for ramp in RAMPS
        if (value := measures.get(ramp.measure)) is not None and math.isfinite(value)
    ]
    return sorted(scored, key=lambda pair: pair[0])
