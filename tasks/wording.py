"""How results read: one place for the words and the rounding of terminal, UI and gallery.

A verdict is `pass`, `review` or `fail` in tables, JSON and options; people read a judgement of
quality, so that a separation that is no good is never taken for a run that failed.
"""

from __future__ import annotations

import math

from tasks.contracts import Verdict

NONE = "–"
"""Stands for what isn't known."""

QUALITY: dict[Verdict, str] = {"pass": "good", "review": "check", "fail": "poor"}
"""What a verdict is called where people read it, the best first."""

QUALITY_EXPLAINED = (
    "Quality is that of the worst stem: good is the verdict pass, check is review (listen before "
    "you use it), poor is fail."
)
SCORE_EXPLAINED = (
    "Score is the mean over the stems, 0 to 1, higher is better: 2 dB of estimated SI-SDR is 0, "
    "12 dB is 1. It is rounded down."
)
SI_SDR_EXPLAINED = (
    "SI-SDR says how far a stem stands out from what doesn't belong in it, in decibels, higher is "
    "better; it is estimated without the true stems, which lie in the range in brackets four times "
    "in five."
)
RESIDUAL_EXPLAINED = (
    "Residual is what all stems together leave of the mixture, in decibels beside it; lower is "
    "better, and over -15 dB something is missing."
)


def quality_word(verdict: str | None) -> str:
    """Return a verdict as people read it; "–" where there is none."""
    for name, word in QUALITY.items():
        if name == verdict:
            return word
    return verdict or NONE


def shown_score(score: float | None) -> float | None:
    """Return a score as it is shown: down to hundredths, so that none seems to reach a threshold
    that it is under."""
    if score is None or not math.isfinite(score):
        return None
    return math.floor(100 * score + 1e-9) / 100


def score_text(score: float | None, *, none: str = NONE) -> str:
    """Return a score with its two digits."""
    return number(shown_score(score), 2, none=none)


def shown_number(value: float | None, digits: int) -> float | None:
    """Return a number as it is shown; None where it isn't known."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, digits) + 0.0  # no minus before zero


def number(value: float | None, digits: int, unit: str = "", *, none: str = NONE) -> str:
    """Return a rounded number with its unit; `none` where it isn't known."""
    shown = shown_number(value, digits)
    return none if shown is None else f"{shown:.{digits}f}{unit}"


def estimate_text(
    middle: float | None, low: float | None, high: float | None, *, none: str = NONE
) -> str:
    """Return an estimated SI-SDR with its interval: "7.1 dB (4 to 10)"."""
    said = number(middle, 1, " dB", none=none)
    ends = number(low, 0, none=""), number(high, 0, none="")
    return f"{said} ({ends[0]} to {ends[1]})" if all(ends) else said


def clock(seconds: float | None) -> str:
    """Return seconds as "3:05" or "1:02:03"."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    whole = max(0, math.floor(seconds + 0.5))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def passage(start_s: float | None, end_s: float | None) -> str:
    """Return the whole seconds to listen to: "0:32 to 0:34"; empty where no place is known."""
    if start_s is None or end_s is None:
        return ""
    return f"{clock(math.floor(start_s))} to {clock(math.ceil(end_s))}"
