"""Weights, and when a log is refused."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import EstimateRefused, InputError
from endcap.evaluation.off_policy.weights import (
    check_mean_weight,
    check_overlap,
    check_support,
    effective_rows,
    grouped_weights,
    importance_weights,
    marginal_weights,
)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, np.nan, np.inf])
def test_a_propensity_that_is_none_is_refused_by_its_row(propensity: float) -> None:
    with pytest.raises(InputError, match=r"propensity: must be above 0 and at most 1; got '.* in row 2; 1 of 3 rows'"):
        importance_weights(np.full(3, 0.5), np.array([0.5, propensity, 0.5]))


def test_a_probability_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="probability: must be within 0 and 1"):
        importance_weights(np.array([np.nan]), np.array([0.5]))


def test_effective_rows_are_all_rows_at_equal_weights_and_one_at_a_single_weight() -> None:
    assert effective_rows(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_rows(np.array([0.0, 5.0, 0.0])) == 1
    assert effective_rows(np.zeros(3)) == 0


def test_marginal_weights_of_groups_of_one_item_are_those_of_items() -> None:
    rng = np.random.default_rng(1)
    logging, policy = (rng.dirichlet(np.ones(4), 5) for _ in range(2))
    shown, rows = np.array([0, 3, 2, 1, 1]), np.arange(5)
    found = marginal_weights(policy, logging, np.array(list("abcd")), shown)
    assert found == pytest.approx((policy / logging)[rows, shown])
    assert marginal_weights(policy, logging, np.zeros(4), shown) == pytest.approx(np.ones(5))


def test_grouped_weights_keep_the_mean() -> None:
    weights, groups = np.array([1.0, 3.0, 0.5, 0.0]), np.array([1, 1, 0, 0])
    assert grouped_weights(weights, groups).mean() == pytest.approx(weights.mean())


@pytest.mark.parametrize(
    ("weights", "rewards", "field"),
    [
        (np.ones(99), np.ones(99), "rows: too few rows"),
        (np.r_[np.full(900, 0.01), 50.0], np.ones(901), "effective rows: the policy is too far"),
        (np.ones(500), np.r_[np.ones(9), np.zeros(491)], "rewarded rows: too few"),
        (np.r_[np.zeros(100), np.ones(400)], np.r_[np.ones(100), np.zeros(400)], "rewarded rows: too few"),
    ],
)
def test_a_log_that_is_too_thin_is_refused(weights: np.ndarray, rewards: np.ndarray, field: str) -> None:
    with pytest.raises(EstimateRefused, match=field) as refused:
        check_overlap(weights, rewards)
    assert refused.value.action


def test_rows_of_a_shopper_count_together() -> None:
    rewards, clusters = np.ones(500), np.arange(500) // 10
    check_overlap(np.ones(500), rewards)
    with pytest.raises(EstimateRefused, match=r"effective shoppers: the policy is too far .*; got 50\.0"):
        check_overlap(np.ones(500), rewards, clusters)


def test_weights_that_are_not_1_on_average_are_refused() -> None:
    rng = np.random.default_rng(1)
    check_mean_weight(rng.exponential(1, 2000))
    check_mean_weight(np.repeat(rng.exponential(1.1, 20), 100), np.repeat(np.arange(20), 100))  # twenty shoppers prove nothing
    for weights in (np.full(2000, 0.5), rng.exponential(1.3, 2000)):
        with pytest.raises(EstimateRefused, match="mean weight: weights are not 1 on average"):
            check_mean_weight(weights)


def test_enough_is_enough() -> None:
    check_overlap(np.ones(100), np.r_[np.ones(10), np.zeros(90)])


def test_a_policy_that_plays_what_was_never_shown_is_refused() -> None:
    check_support(0.01)
    with pytest.raises(EstimateRefused, match=r"common support: the policy plays what was never shown.*2\.0%, most of all hat"):
        check_support(0.02, "hat")
