"""How far a measure moved between two periods, as a number with a confidence interval."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tasks.contracts import MaybeFloat, Value

MIN_PERIOD = 8
"""Values that each period needs: with fewer, the normal approximation doesn't hold."""

Values = npt.NDArray[np.float64]


class Shift(Value):
    """Later values against earlier ones.

    `shift` is in the measure's unit, positive where the later ones are higher; `low` and `high`
    hold it with the given confidence. `superiority` is the chance that a later value is above an
    earlier one, ties counted half: 0.5 where nothing changed. Null where a period has too few.
    """

    earlier: int
    later: int
    shift: MaybeFloat = None
    low: MaybeFloat = None
    high: MaybeFloat = None
    superiority: MaybeFloat = None

    @property
    def moved(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


def shift_between(earlier: npt.ArrayLike, later: npt.ArrayLike, confidence: float = 0.95) -> Shift:
    """The Hodges–Lehmann shift between two samples, with its distribution-free interval.

    The estimate is the median of all differences `later_j - earlier_i`; the ends of the interval
    are the k-th least and greatest of them, with
    `k = m n / 2 - z sqrt(m n (m + n + 1) / 12)`, the normal approximation of the rank-sum test
    that it inverts. It asks that the two differ in location only. `superiority` is that test's
    `U / (m n)`.

    Source: M. Hollander, D. A. Wolfe, E. Chicken, "Nonparametric Statistical Methods", 3rd ed.,
    2014, sections 4.2 and 4.3.

    Args:
        earlier: Values that aren't finite are left out.
        later: The same.
        confidence: Of the interval, between 0 and 1.
    """
    from scipy.stats import norm

    before, after = _sorted(earlier), _sorted(later)
    m, n = before.size, after.size
    if min(m, n) < MIN_PERIOD:
        return Shift(earlier=m, later=n)
    z = float(norm.ppf(0.5 + confidence / 2))
    k = max(1, math.floor(m * n / 2 - z * math.sqrt(m * n * (m + n + 1) / 12)))
    middle = [_difference(before, after, rank) for rank in ((m * n + 1) // 2, m * n // 2 + 1)]
    below = int(np.searchsorted(before, after, "left").sum())
    up_to = int(np.searchsorted(before, after, "right").sum())
    return Shift(
        earlier=m,
        later=n,
        shift=sum(middle) / 2,
        low=_difference(before, after, k),
        high=_difference(before, after, m * n + 1 - k),
        superiority=(below + up_to) / (2 * m * n),
    )


def _sorted(values: npt.ArrayLike) -> Values:
    given = np.asarray(values, dtype=np.float64)
    return np.sort(given[np.isfinite(given)])


def _difference(before: Values, after: Values, rank: int) -> float:
    """The `rank`-th least of all `after_j - before_i`, `rank` from 1, without listing them.

    Halves the range that holds it; m + n numbers are held, not m times n.
    """
    low = float(after[0] - before[-1])
    high = float(after[-1] - before[0])
    close = 1e-12 * (high - low)
    while high - low > close:
        middle = low + (high - low) / 2
        if int((before.size - np.searchsorted(before, after - middle, "left")).sum()) >= rank:
            high = middle
        else:
            low = middle
        close = max(close, math.ulp(high), math.ulp(low))
    # The greatest difference that isn't above it: exact, where the bounds only come close.
    first = np.searchsorted(before, after - high, "left")
    there = first < before.size
    return float((after[there] - before[first[there]]).max())
