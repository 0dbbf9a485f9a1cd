"""Metrics by hand, ties, and what the bootstrap promises."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.evaluation import metrics, report, significance
from endcap.evaluation.metrics import gini, ndcg_at_k, recall_at_k, top_k
from endcap.evaluation.significance import bootstrap_columns, bootstrap_mean, paired_bootstrap


@pytest.mark.parametrize("module", [metrics, report])
def test_examples_in_the_docs_hold(module: object) -> None:
    found = doctest.testmod(module, extraglobs={"np": np})  # type: ignore[arg-type]
    assert (found.failed, found.attempted > 0) == (0, True)


def test_top_k_is_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (50, 30)).astype(np.float32)  # many ties
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(top_k(scores, 7), expected)
    assert top_k(scores, 99).shape == (50, 30)
    masked = np.full((1, 5), -np.inf, np.float32)
    assert top_k(masked, 3).tolist() == [[0, 1, 2]]


def test_a_perfect_slate_is_one_and_a_later_hit_is_less() -> None:
    perfect, late = np.ones((1, 10), bool), np.zeros((1, 10), bool)
    late[0, 9] = True
    assert ndcg_at_k(perfect, np.array([27]), 10) == pytest.approx(1)
    assert recall_at_k(perfect, np.array([27]), 10) == pytest.approx(1)
    assert ndcg_at_k(late, np.array([1]), 10) == pytest.approx(1 / np.log2(11))


def test_bootstrap_finds_a_difference_and_no_difference() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.random(400)
    assert paired_bootstrap(theirs + 0.05, theirs).low == pytest.approx(0.05)
    noise = paired_bootstrap(theirs + rng.normal(0, 0.1, 400), theirs)
    assert noise.low < 0 < noise.high
    assert paired_bootstrap(theirs, theirs[::-1]) == paired_bootstrap(theirs, theirs[::-1])


def test_bootstrap_covers_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        interval = bootstrap_mean(rng.normal(0, 1, 60), 200, 0.9, 3)
        covered += interval.low <= 0 <= interval.high
    assert 165 <= covered <= 195


def test_pairs_must_match() -> None:
    with pytest.raises(InputError, match="pairs differ in length"):
        paired_bootstrap(np.ones(2), np.ones(3))
    with pytest.raises(InputError, match="nothing to average"):
        significance.bootstrap_mean(np.zeros(0), 10, 0.9, 1)


def test_many_measures_at_once_are_as_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((60, 3))
    values[::3, 1] = np.nan
    values[:, 2] = np.nan
    full, some, none = bootstrap_columns(values, samples=400, seed=1)
    alone = bootstrap_mean(values[:, 0], 400, 0.95, 1)
    assert (full.mean, full.low, full.high) == pytest.approx((alone.mean, alone.low, alone.high))
    assert (some.mean, some.count) == (pytest.approx(np.nanmean(values[:, 1])), 40)
    assert some.low < some.mean < some.high
    assert none.count == 0
    assert np.isnan([none.mean, none.low, none.high]).all()


def test_gini_is_zero_when_all_are_shown_alike_and_grows_with_one() -> None:
    assert gini(np.array([[0, 1], [2, 3]]), 4) == 0
    assert gini(np.array([[0, 1], [0, 3]]), 4) > gini(np.array([[0, 1], [2, 3]]), 4)
    assert gini(np.full((2, 2), -1), 4) == 0
