"""Rates of items: smoothed, and never from the future."""

from __future__ import annotations

import numpy as np

from endcap.models.behaviour.item_rates import ItemRates, running_counts


def test_an_item_never_shown_has_the_mean_of_all() -> None:
    rates = ItemRates.count(["a"] * 10 + ["b"] * 10, np.array([[1, 0]] * 8 + [[0, 0]] * 12))
    assert rates.rates(["new"])[0].tolist() == [0.4, 0.0]
    a, b = rates.rates(["a", "b"])[:, 0]
    assert b < 0.4 < a < 0.8
    assert ItemRates.empty().rates(["new"]).tolist() == [[0.5, 0.5]]


def test_running_counts_are_those_of_a_naive_loop() -> None:
    random = np.random.default_rng(0)
    codes, times = random.integers(0, 4, 60), random.integers(0, 50, 60)
    known = times - 5
    outcomes = random.integers(0, 2, (60, 2)).astype(float)
    counts = running_counts(codes, times, known, outcomes)
    for row in range(60):
        past = (codes == codes[row]) & (times <= known[row])
        assert counts[row].tolist() == [past.sum(), *outcomes[past].sum(axis=0)]
    assert counts[:, 0].max() > 3


def test_a_later_outcome_changes_no_earlier_count() -> None:
    codes, times = np.zeros(10, np.int64), np.arange(10)
    before = running_counts(codes, times, times - 1, np.zeros((10, 2)))
    outcomes = np.zeros((10, 2))
    outcomes[6] = 1
    after = running_counts(codes, times, times - 1, outcomes)
    assert (before[:7] == after[:7]).all()
    assert (before[7:] != after[7:]).any(axis=1).all()
