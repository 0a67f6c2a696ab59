"""Drift between two periods: the shift, its interval, and how often that holds the truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from tasks.quality.drift import MIN_PERIOD, shift_between


def draws(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.7, 0.1, size)


@pytest.mark.parametrize(("m", "n"), [(8, 8), (9, 12), (31, 20)])
def test_the_shift_is_the_median_of_all_differences(m: int, n: int) -> None:
    before, after = draws(1, m), draws(2, n) + 0.05
    differences = sorted(b - a for a, b in product(before, after))
    found = shift_between(before, after)
    assert found.shift == pytest.approx(np.median(differences), abs=1e-12)
    assert (found.earlier, found.later) == (m, n)
    for end in (found.low, found.high):
        assert end is not None
        assert min(abs(end - difference) for difference in differences) < 1e-12


def test_the_interval_is_that_of_the_rank_sum_test() -> None:
    """Hollander and Wolfe's table A.6 has a critical value of 13 for 8 and 8 at 95 %."""
    before, after = draws(3, 8), draws(4, 8)
    differences = sorted(b - a for a, b in product(before, after))
    found = shift_between(before, after)
    assert found.low == pytest.approx(differences[13 - 1])
    assert found.high == pytest.approx(differences[64 - 13])


def test_superiority_is_the_rank_sum_statistic() -> None:
    before = np.round(draws(5, 40), 1)
    after = np.round(draws(6, 60) + 0.05, 1)
    found = shift_between(before, after)
    assert found.superiority == pytest.approx(mannwhitneyu(after, before).statistic / (40 * 60))


@pytest.mark.parametrize("shape", ["normal", "skewed", "tied"])
def test_the_interval_holds_the_truth_as_often_as_it_says(shape: str) -> None:
    draw = np.random.default_rng(7)
    held = 0
    for _ in range(600):
        both = {
            "normal": lambda size: draw.normal(0, 1, size),
            "skewed": lambda size: draw.beta(5, 2, size),
            "tied": lambda size: np.round(draw.normal(0, 1, size), 1),
        }[shape]
        found = shift_between(both(35), both(50) + 0.3, confidence=0.9)
        assert found.low is not None
        assert found.high is not None
        held += found.low - 1e-9 <= 0.3 <= found.high + 1e-9
    # Three standard errors of a share of 0.9 in 600; ties make it hold more often.
    assert 0.863 <= held / 600 <= (0.937 if shape != "tied" else 1.0)


def test_a_real_fall_is_seen_and_no_change_is_not() -> None:
    assert shift_between(draws(8, 80), draws(9, 80) - 0.1).moved
    assert not shift_between(draws(8, 80), draws(10, 80)).moved
    assert not shift_between([0.5] * 50, [0.5] * 50).moved


def test_identical_values_have_a_shift_of_nothing() -> None:
    found = shift_between([0.25] * 20, [0.25] * 30)
    assert (found.shift, found.low, found.high, found.superiority) == (0, 0, 0, 0.5)


def test_outliers_don_t_move_it() -> None:
    before, after = draws(11, 100), draws(12, 100)
    spoilt = np.concatenate([after, [1e6] * 5])
    plain, moved = shift_between(before, after), shift_between(before, spoilt)
    assert plain.shift is not None
    assert moved.shift == pytest.approx(plain.shift, abs=0.02)


def test_too_few_values_give_no_number() -> None:
    found = shift_between(draws(1, MIN_PERIOD - 1), draws(2, 500))
    assert (found.shift, found.low, found.superiority) == (None, None, None)
    assert (found.earlier, found.later) == (MIN_PERIOD - 1, 500)
    assert not found.moved
    assert shift_between([], []).shift is None


def test_what_isn_t_known_is_left_out() -> None:
    before, after = draws(1, 20), draws(2, 20)
    holes = np.array([np.nan, np.inf])
    with_holes = shift_between(np.concatenate([before, holes]), np.concatenate([holes, after]))
    assert with_holes == shift_between(before, after)


def test_a_hundred_thousand_values_need_no_list_of_pairs() -> None:
    found = shift_between(draws(1, 100_000), draws(2, 100_000) - 0.01)
    assert found.shift == pytest.approx(-0.01, abs=0.002)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.shift < found.high  # type: ignore[operator]
