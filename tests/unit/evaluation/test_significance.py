"""Intervals of rates whose trials go together."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.evaluation import significance
from endcap.evaluation.calibration import wilson
from endcap.evaluation.significance import clustered_rate


def test_the_examples_hold() -> None:
    assert doctest.testmod(significance).failed == 0


def test_alike_trials_are_worth_less() -> None:
    happened = np.random.default_rng(3).random(200) < 0.3
    alone = clustered_rate(happened, np.arange(200))
    low, high = wilson(np.array([alone.mean]), np.array([200.0]))
    assert (alone.low, alone.high) == (pytest.approx(low[0], abs=1e-3), pytest.approx(high[0], abs=1e-3))
    copies = clustered_rate(np.repeat(happened, 5), np.repeat(np.arange(200), 5))
    assert (copies.mean, copies.count) == (alone.mean, 1000)
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.01)


def test_shoppers_that_are_all_alike_are_not_trusted_more_than_trials() -> None:
    opposite = clustered_rate(np.tile([True, False], 50), np.repeat(np.arange(50), 2))  # the variance of clusters is 0
    low, _ = wilson(np.array([0.5]), np.array([100.0]))
    assert opposite.low == pytest.approx(low[0])


def test_nothing_tried_is_refused() -> None:
    with pytest.raises(InputError, match="at least one trial"):
        clustered_rate(np.zeros(0, bool), np.zeros(0))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        tastes = random.beta(1, 9, 60)  # mean .1
        shoppers = random.integers(0, 60, 300)
        found = clustered_rate(random.random(300) < tastes[shoppers], shoppers)
        held += found.low <= 0.1 <= found.high
    assert held / 400 > 0.92
