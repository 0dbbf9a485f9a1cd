"""Choosing the threshold of an estimator on the log itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from endcap.evaluation.off_policy.estimate import Floats

RATIO = np.sqrt(6) - 1


def slope(terms: Sequence[Floats], delta: float = 0.1) -> int:
    """Which of several estimates to take, each as its (N,) terms: SLOPE (Su, Srinath and Krishnamurthy 2020).

    From the widest interval (least biased) to the narrowest, as long as each agrees with all before it:
    |θ_i - θ_j| <= c_i + (√6 - 1) c_j, c the half width of Student's interval at 1 - delta. The last that agrees is taken.

    >>> slope([np.array([0.0, 4.0, 0.0, 4.0]), np.array([1.0, 3.0, 1.0, 3.0]), np.array([9.0, 9.1, 9.0, 9.1])])
    1
    """
    means = np.array([one.mean() for one in terms])
    rows = np.array([len(one) for one in terms])
    widths = np.array([one.std(ddof=1) for one in terms]) / np.sqrt(rows) * stats.t(rows - 1).ppf(1 - delta)
    order = np.argsort(widths)[::-1]
    for place, one in enumerate(order[1:], start=1):
        wider = order[:place]
        if (np.abs(means[wider] - means[one]) > widths[one] + RATIO * widths[wider]).any():
            return int(order[place - 1])
    return int(order[-1])


def thresholds(weights: Floats) -> Floats:
    """Candidates for a largest weight, descending: quantiles of the weights above 0, and no limit.

    >>> thresholds(np.array([0.0, 1.0, 3.0]))[:2]
    array([inf,  3.])
    """
    some = weights[weights > 0]
    found = np.quantile(some, [1.0, 0.99, 0.95, 0.9, 0.75, 0.5]) if len(some) else np.zeros(0)
    return np.asarray(np.r_[np.inf, np.unique(found)[::-1]])
