"""Choosing the threshold of an estimator on the log itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from endcap.evaluation.off_policy.estimate import Floats


def least_error(terms: Sequence[Floats]) -> int:
    """Which of several estimates to take, each as its (N,) terms, the first of them unbiased (Su et al. 2020, direct bias).

    The least of V_i / N + (θ_i - θ_0)²: the variance of the mean, and how far it is from the unbiased one, squared.

    >>> near, far = np.array([2.9, 3.1, 2.9, 3.1]), np.array([9.0, 9.0, 9.0, 9.0])
    >>> least_error([np.array([0.0, 6.0, 0.0, 6.0]), near, far])
    1
    """
    unbiased = terms[0].mean()
    return int(np.argmin([one.var() / len(one) + (one.mean() - unbiased) ** 2 for one in terms]))


def thresholds(weights: Floats) -> Floats:
    """Candidates for a largest weight, descending: no limit, and quantiles of the weights above 0.

    >>> thresholds(np.array([0.0, 1.0, 3.0]))[:2]
    array([inf,  3.])
    """
    some = weights[weights > 0]
    found = np.quantile(some, [1.0, 0.99, 0.95, 0.9, 0.75, 0.5]) if len(some) else np.zeros(0)
    return np.asarray(np.r_[np.inf, np.unique(found)[::-1]])
