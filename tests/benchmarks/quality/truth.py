"""How good a stem really is, where the true one is at hand.

Both ratios take all samples of both channels as one vector s (true) and ŝ (estimate).
"""

from __future__ import annotations

import math

import numpy as np

from tests.benchmarks.quality.audio import Audio

FLOOR_DB, CEILING_DB = -30.0, 60.0
ABSENT_DB = -30.0


def si_sdr(estimate: Audio, true: Audio) -> float:
    """10 log10(‖αs‖² / ‖αs - ŝ‖²), α = <ŝ, s> / ‖s‖²; dB, clipped to -30…60.

    A silent estimate reads -30. NaN where the reference stem is silent. Le Roux et al., "SDR:
    half-baked or well done?", ICASSP 2019.
    """
    energy, agreement, found = _products(estimate, true)
    if energy == 0:
        return math.nan
    target = agreement**2 / energy
    return _ratio_db(target, found - target)


def sdr(estimate: Audio, true: Audio) -> float:
    """10 log10(‖s‖² / ‖s - ŝ‖²), which a wrong level or polarity lowers too; as above."""
    energy, agreement, found = _products(estimate, true)
    if energy == 0:
        return math.nan
    return _ratio_db(energy, energy - 2 * agreement + found)


def is_absent(true: Audio, mixture: Audio) -> bool:
    """Whether a reference stem's energy is under -30 dB of the mixture's: it then has no truth."""
    return float(np.vdot(true, true)) < 10 ** (ABSENT_DB / 10) * float(np.vdot(mixture, mixture))


def _products(estimate: Audio, true: Audio) -> tuple[float, float, float]:
    """‖s‖², <ŝ, s> and ‖ŝ‖²: in double precision enough for what is clipped at 60 dB."""
    return (
        float(np.vdot(true, true)),
        float(np.vdot(estimate, true)),
        float(np.vdot(estimate, estimate)),
    )


def _ratio_db(signal: float, error: float) -> float:
    if signal <= 0:
        return FLOOR_DB
    if error <= 0:
        return CEILING_DB
    return min(max(10 * math.log10(signal / error), FLOOR_DB), CEILING_DB)
