"""Verdicts, scores and moments as people read them: the same everywhere."""

from __future__ import annotations

import pytest

from tasks.contracts import QualityThresholds
from tasks.quality.verdict import verdict_of
from tasks.wording import (
    clock,
    estimate_text,
    number,
    passage,
    quality_word,
    score_text,
    shown_number,
    shown_score,
)


def test_a_verdict_reads_as_a_judgement_of_quality() -> None:
    assert [quality_word(verdict) for verdict in ("pass", "review", "fail")] == [
        "good",
        "check",
        "poor",
    ]
    assert quality_word(None) == "–"


@pytest.mark.parametrize("score", [0.0, 0.2949, 0.29999, 0.3, 0.445, 0.5951, 0.59999, 0.6, 1.0])
def test_a_shown_score_never_contradicts_its_verdict(score: float) -> None:
    """A 0.5996 that reads as 0.60 beside "check" would: 0.60 is good."""
    thresholds = QualityThresholds(review=0.6, fail=0.3)
    assert verdict_of(float(score_text(score)), thresholds) == verdict_of(score, thresholds)


def test_every_hundredth_is_shown_as_itself() -> None:
    assert [score_text(n / 100) for n in range(101)] == [f"{n / 100:.2f}" for n in range(101)]


def test_what_isn_t_known_is_said_so() -> None:
    assert (number(None, 1, " dB"), number(float("nan"), 1), score_text(None)) == ("–", "–", "–")
    assert score_text(None, none="") == ""
    assert shown_score(float("nan")) is None


def test_numbers_have_their_unit_and_no_minus_before_zero() -> None:
    assert number(-16.44, 1, " dB") == "-16.4 dB"
    assert number(-0.04, 1) == "0.0"
    assert shown_number(4.46, 0) == 4.0


def test_an_estimate_has_its_interval_where_that_is_known() -> None:
    assert estimate_text(4.44, -0.6, 8.2) == "4.4 dB (-1 to 8)"
    assert estimate_text(4.44, None, None) == "4.4 dB"
    assert estimate_text(None, None, None) == "–"


def test_lengths_and_passages() -> None:
    lengths = [clock(s) for s in (0.4, 59.6, 3599.4, 3600, None)]
    assert lengths == ["0:00", "1:00", "59:59", "1:00:00", "–"]
    # The whole seconds in which it is, never less.
    assert passage(32.4, 33.9) == "0:32 to 0:34"
    assert passage(None, 2.0) == ""
