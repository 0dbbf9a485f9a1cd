"""SLOPE: the narrowest of the estimates that agree with all wider ones."""

from __future__ import annotations

import numpy as np

from endcap.evaluation.off_policy import choices
from endcap.evaluation.off_policy.tuning import slope, thresholds


def test_without_bias_the_narrowest_is_taken() -> None:
    rng = np.random.default_rng(1)
    assert slope([rng.normal(1, deviation, 500) for deviation in (4, 2, 1)]) == 2


def test_an_estimate_that_disagrees_ends_the_search() -> None:
    rng = np.random.default_rng(1)
    terms = [rng.normal(mean, deviation, 500) for mean, deviation in ((1, 4), (1, 2), (9, 1), (9, 0.5))]
    assert slope(terms) == 1


def test_a_useless_model_is_not_trusted_and_a_good_one_is() -> None:
    rng = np.random.default_rng(2)
    weights = rng.exponential(1, 20_000)
    rewards = (rng.random(20_000) < np.minimum(weights / 4, 1)).astype(float)
    limits = thresholds(weights)
    of = lambda q: [choices.switch_dr(rewards, weights, q, q, one).tops[:, 0] for one in limits]  # noqa: E731
    assert slope(of(np.zeros(20_000))) < slope(of(np.minimum(weights / 4, 1)))
