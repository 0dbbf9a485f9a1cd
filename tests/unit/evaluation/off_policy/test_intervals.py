"""Intervals: by hand, by the library that they replace, and that they cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from endcap.errors import InputError
from endcap.evaluation.off_policy import choices
from endcap.evaluation.off_policy.estimate import Estimate
from endcap.evaluation.off_policy.intervals import Bounds, bernstein, bootstrap
from endcap.evaluation.significance import clustered_bootstrap

RUNS = 200


def test_of_a_mean_it_is_scipys_bca() -> None:
    values = np.random.default_rng(3).exponential(1.0, 150) ** 2  # skew to the right, and so is the interval
    ours = bootstrap({"mean": Estimate.mean(values)}, samples=4000, confidence=0.9, seed=5)["mean"]
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=4000, method="BCa", rng=np.random.default_rng(1)
    )
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), rel=0.01)
    plain = clustered_bootstrap(values, np.arange(150), samples=4000, confidence=0.9)
    assert ours.high > 1.015 * plain.high
    assert ours.low > 1.015 * plain.low


def test_a_self_normalised_estimate_is_divided_anew_in_every_sample() -> None:
    """All rewards are one, so every sample's estimate is."""
    weights = np.random.default_rng(1).exponential(1, 200)
    found = bootstrap({"snipw": choices.snipw(np.ones(200), weights), "ipw": choices.ipw(np.ones(200), weights)}, samples=100)
    assert (found["snipw"].low, found["snipw"].high) == pytest.approx((1, 1))
    assert found["ipw"].high - found["ipw"].low > 0.1


def test_rows_of_a_shopper_count_as_one() -> None:
    values = np.repeat(np.random.default_rng(2).random(50), 20)
    estimate = {"mean": Estimate.mean(values)}
    apart, together = bootstrap(estimate)["mean"], bootstrap(estimate, np.repeat(np.arange(50), 20))["mean"]
    assert together.high - together.low > 3 * (apart.high - apart.low)
    bounds = Bounds(0.0, 1.0)
    whole = bernstein(estimate["mean"], bounds, np.repeat(np.arange(50), 20))
    assert whole.low == pytest.approx(bernstein(Estimate.mean(values[::20]), bounds).low)


def test_bounds_hold_of_every_term() -> None:
    rng = np.random.default_rng(4)
    rewards, weights, shown, played = rng.random(1000) - 0.3, 6 * rng.random(1000), rng.random(1000) / 2, rng.random(1000) / 2
    bounds = Bounds.of((-0.3, 0.7), 6.0, (0.0, 0.5))
    terms = choices.dr(rewards, weights, shown, played).terms
    assert terms is not None
    assert bounds.low <= terms.min() <= terms.max() <= bounds.high
    assert (bounds.times(2).low, bounds.times(2).high) == (2 * bounds.low, 2 * bounds.high)


def test_what_has_no_interval_is_refused() -> None:
    with pytest.raises(InputError, match="is no mean"):
        bernstein(choices.snipw(np.ones(9), np.ones(9) / 2), Bounds(0.0, 1.0))
    with pytest.raises(InputError, match="too few clusters"):
        bernstein(Estimate.mean(np.ones(9)), Bounds(0.0, 1.0), np.zeros(9))
    with pytest.raises(InputError, match="rows differ"):
        bootstrap({"one": Estimate.mean(np.ones(2)), "other": Estimate.mean(np.ones(3))})


def test_intervals_cover_the_truth() -> None:
    """Of 90 % intervals in 200 logs at least 88 % hold it, in a world of four items that earn .1 to .4."""
    logging, policy, earns = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.2, 0.3, 0.4])
    truth, rng = float(policy @ earns), np.random.default_rng(11)
    hits = {"ipw": 0, "snipw": 0, "dr": 0, "bernstein": 0}
    for run in range(RUNS):
        items = rng.choice(4, p=logging, size=1000)
        rewards, weights = (rng.random(1000) < earns[items]).astype(float), (policy / logging)[items]
        guess = np.full(4, 0.2)
        estimates = {
            "ipw": choices.ipw(rewards, weights),
            "snipw": choices.snipw(rewards, weights),
            "dr": choices.dr(rewards, weights, guess[items], np.full(1000, 0.2)),
        }
        found = bootstrap(estimates, samples=400, confidence=0.9, seed=run)
        found["bernstein"] = bernstein(estimates["ipw"], Bounds.of((0.0, 1.0), 4.0), confidence=0.9)
        for name, interval in found.items():
            hits[name] += interval.low <= truth <= interval.high
    assert min(hits.values()) >= 0.88 * RUNS, hits
