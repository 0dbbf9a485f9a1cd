"""Importance weights: how much more often the policy plays what was shown; and when a log is too far from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from endcap.errors import EstimateRefused, InputError
from endcap.evaluation.off_policy.estimate import Floats

MIN_ROWS = 100
MIN_REWARDED = 10  # rows that earned something and that the policy could have shown; below, a bootstrap is far too sure
MIN_EFFECTIVE_ROWS = 100.0
MEAN_ERRORS = 4.0  # standard errors that the mean weight may be off 1
MAX_UNSEEN = 0.01  # of what the policy plays; with rewards in [0, 1] it can move the value by as much


def importance_weights(chances: Floats, propensities: Floats) -> Floats:
    """(N,) w = π(a|x) / π₀(a|x): the policy's chance of what was shown over the logged chance of it.

    >>> importance_weights(np.array([0.5, 0.1]), np.array([0.25, 0.2]))
    array([2. , 0.5])

    Raises:
        InputError: a propensity is not above 0 and at most 1, or a chance is not within [0, 1].
    """
    chances, propensities = np.asarray(chances, np.float64), np.asarray(propensities, np.float64)
    _check_within(propensities, (propensities > 0) & (propensities <= 1), "propensity", "above 0 and at most 1")
    _check_within(chances, (chances >= 0) & (chances <= 1), "probability", "within 0 and 1")
    return np.asarray(chances / propensities)


def effective_rows(weights: Floats, clusters: npt.NDArray[Any] | None = None) -> float:
    """(Σ w)² / Σ w²: as many rows of equal weight would be as sure (Kish 1965). 0 if all weights are.

    With `clusters` (N,) the weights of a shopper are summed first: how many shoppers.

    >>> effective_rows(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    >>> effective_rows(np.array([1.0, 1.0, 2.0, 0.0]), np.array(["ann", "ann", "bob", "cat"]))
    2.0
    """
    if clusters is not None:
        weights = np.asarray(np.bincount(np.unique(clusters, return_inverse=True)[1], weights), np.float64)
    squares = float(np.square(weights).sum())
    return float(np.sum(weights)) ** 2 / squares if squares else 0.0


def marginal_weights(policy_NA: Floats, logging_NA: Floats, groups_A: npt.NDArray[Any], shown: npt.NDArray[np.int64]) -> Floats:
    """(N,) w(x, e) = Σ_{a in e} π(a|x) / Σ_{a in e} π₀(a|x) of the group e of what was shown (Saito and Joachims 2022).

    Right when an item earns by its group alone; then it varies less than the weight of the item.

    >>> policy, logging = np.array([[0.5, 0.3, 0.2]]), np.array([[0.1, 0.1, 0.8]])
    >>> marginal_weights(policy, logging, np.array(["hat", "hat", "tie"]), np.array([0])).round(9)
    array([4.])
    """
    _, codes = np.unique(groups_A, return_inverse=True)
    of_group = np.equal.outer(codes, np.arange(codes.max() + 1)).astype(np.float64)
    rows, groups = np.arange(len(shown)), codes[shown]
    return importance_weights(
        np.minimum((policy_NA @ of_group)[rows, groups], 1), np.minimum((logging_NA @ of_group)[rows, groups], 1)
    )


def grouped_weights(weights: Floats, groups: npt.NDArray[Any]) -> Floats:
    """(N,) the mean weight of a row's group: estimates w(e) = E[w | e] where only the propensity of what was shown is known.

    >>> grouped_weights(np.array([3.0, 1.0, 5.0]), np.array([0, 0, 1]))
    array([2., 2., 5.])
    """
    _, codes = np.unique(groups, return_inverse=True)
    return np.asarray((np.bincount(codes, weights) / np.bincount(codes))[codes])


def check_overlap(weights: Floats, rewards: Floats, clusters: npt.NDArray[Any] | None = None) -> None:
    """Refuse where so few rows bear the estimate that neither it nor its interval means anything.

    Raises:
        EstimateRefused: fewer than MIN_ROWS rows, MIN_EFFECTIVE_ROWS effective ones (shoppers, where `clusters` tells them) or
            MIN_REWARDED rewarded ones.
    """
    bars = (
        ("rows", "too few rows", len(weights), MIN_ROWS, "Log for longer."),
        (
            "effective rows" if clusters is None else "effective shoppers",
            "the policy is too far from what was logged",
            round(effective_rows(weights, clusters), 1),
            MIN_EFFECTIVE_ROWS,
            "Log for longer, log a policy that explores more, or judge one that is nearer.",
        ),
        (
            "rewarded rows",
            "too few rows that the policy could have shown were rewarded",
            int(np.count_nonzero((weights > 0) & (rewards != 0))),
            MIN_REWARDED,
            "Log for longer, or take a reward that is not as rare.",
        ),
    )
    for field, problem, count, bar, action in bars:
        if count < bar:
            raise EstimateRefused(f"{problem} (at least {bar:g})", field=field, value=count, action=action)


def check_support(unseen: float, example: str = "") -> None:
    """Refuse a policy that plays what the log never shows, of which it can tell nothing; `unseen`: share of what it plays.

    Raises:
        EstimateRefused: more than MAX_UNSEEN.
    """
    if unseen > MAX_UNSEEN:
        problem = f"the policy plays what was never shown (more than {MAX_UNSEEN:.0%} of the time)"
        told = f"{unseen:.1%}" + (f", most of all {example}" if example else "")
        action = "Log a policy that shows these items at times, or judge one that does not play them."
        raise EstimateRefused(problem, field="common support", value=told, action=action)


def check_mean_weight(weights: Floats, clusters: npt.NDArray[Any] | None = None) -> None:
    """Refuse weights whose mean is not 1, as it is on average where the log shows all that the policy plays: E[w] = Σ_a π(a|x).

    A log that always shows a shopper the same, with a propensity of 1, is found out by this.

    Raises:
        EstimateRefused: the mean is off by more than MAX_UNSEEN and MEAN_ERRORS standard errors (over clusters).
    """
    mean = float(weights.mean())
    codes = np.arange(len(weights)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    error = float(np.sqrt(np.square(np.bincount(codes, weights - mean)).sum())) / len(weights)
    if abs(mean - 1) > MAX_UNSEEN + MEAN_ERRORS * error:
        action = "Log a policy that shows each shopper at times all that is played, and the chance of it as propensity."
        raise EstimateRefused("weights are not 1 on average", field="mean weight", value=round(mean, 4), action=action)


def _check_within(values: Floats, fine: npt.NDArray[np.bool_], field: str, where: str) -> None:
    if not fine.all():
        first = int((~fine).argmax())
        told = f"{float(values[first])} in row {first + 1}; {int((~fine).sum()):,} of {len(values):,} rows"
        raise InputError(f"must be {where}", field=field, value=told, action="Mend or drop these rows.")
