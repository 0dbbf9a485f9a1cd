"""Thresholds: little is clipped where that costs more than it saves."""

from __future__ import annotations

import numpy as np

from endcap.evaluation.off_policy import choices
from endcap.evaluation.off_policy.tuning import least_error, thresholds


def test_without_bias_the_narrowest_is_taken() -> None:
    terms = np.random.default_rng(1).normal(1, 1, 500)
    assert least_error([1 + scale * (terms - terms.mean()) for scale in (4, 2, 1)]) == 2


def test_a_bias_that_is_larger_than_the_spread_is_not_taken() -> None:
    rng = np.random.default_rng(1)
    assert least_error([rng.normal(1, 4, 500), rng.normal(9, 0.1, 500)]) == 0


def test_a_useless_model_is_not_trusted_and_a_good_one_is() -> None:
    rng = np.random.default_rng(2)
    weights = rng.exponential(1, 20_000)
    chance = np.minimum(weights / 4, 1)
    rewards, limits = (rng.random(20_000) < chance).astype(float), thresholds(weights)

    def chosen(model: np.ndarray) -> float:
        tried = [choices.switch_dr(rewards, weights, model, model, limit).tops[:, 0] for limit in limits]
        return float(limits[least_error(tried)])

    assert chosen(np.zeros(20_000)) > chosen(chance)
    assert chosen(np.zeros(20_000)) > np.quantile(weights, 0.95)


def test_thresholds_of_nothing_clip_nothing() -> None:
    assert thresholds(np.zeros(3)).tolist() == [np.inf]
