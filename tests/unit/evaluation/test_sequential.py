"""Confidence sequences: closed forms worked by hand, coverage at all looks at once, and refusals."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endcap.errors import InputError
from endcap.evaluation import sequential
from endcap.evaluation.sequential import Tally, difference, multiplier, relative_difference


def rates(shoppers: int, requests: float, share: float) -> Tally:
    """Shoppers with as many requests each, of which this share counts."""
    each = share * requests
    return Tally(
        shoppers, shoppers * requests, shoppers * each, shoppers * requests**2, shoppers * requests * each, shoppers * each**2
    )


def test_the_examples_hold() -> None:
    found = doctest.testmod(sequential)
    assert found.attempted > 0
    assert found.failed == 0


@given(v=st.floats(1e-6, 1e3), spread=st.floats(1e-3, 1e2), alpha=st.floats(1e-6, 0.5))
def test_the_bound_is_where_the_mixture_likelihood_ratio_reaches_one_over_alpha(v: float, spread: float, alpha: float) -> None:
    effect, between = float(multiplier(v, spread, alpha)) * np.sqrt(v), spread**2
    logarithm = 0.5 * np.log(v / (v + between)) + between * effect**2 / (2 * v * (v + between))
    assert logarithm == pytest.approx(np.log(1 / alpha), rel=1e-6)


def test_the_mixture_is_the_mean_likelihood_ratio_over_the_drawn_effects() -> None:
    v, spread, alpha = 0.5, 1.5, 0.1
    estimate = float(multiplier(v, spread, alpha)) * np.sqrt(v)
    effects = np.linspace(-12, 12, 200_001)
    density = np.exp(-(effects**2) / (2 * spread**2)) / (spread * np.sqrt(2 * np.pi))
    ratio = np.exp(effects * estimate / v - effects**2 / (2 * v))
    assert float((density * ratio).sum() * (effects[1] - effects[0])) == pytest.approx(1 / alpha, rel=1e-6)


def test_more_shoppers_narrow_both_intervals_and_less_error_widens_them() -> None:
    counts = np.array([10.0, 100.0, 1000.0, 10_000.0])
    for compare in (difference, relative_difference):
        low, high = compare(rates(counts, 3, 0.4), rates(counts, 3, 0.5), 1.0, 0.1, 0.05)  # type: ignore[arg-type]
        width = high - low
        assert (np.diff(width) < 0).all() or np.isinf(width[0])
        assert width[-1] < width[-2]
        narrow = compare(rates(1000, 3, 0.4), rates(1000, 3, 0.5), 1.0, 0.1, 0.2)
        wide = compare(rates(1000, 3, 0.4), rates(1000, 3, 0.5), 1.0, 0.1, 0.01)
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_variance_of_single_requests_is_that_of_a_mean() -> None:
    values = np.random.default_rng(1).random(40)
    tally = Tally.of(values, np.arange(40), 1.0)
    assert float(tally.variance(0.0)) == pytest.approx(values.var(ddof=1) / 40)


def test_requests_of_one_shopper_count_together() -> None:
    values = np.random.default_rng(1).integers(0, 2, 50).astype(float)
    single = Tally.of(values, np.arange(50), 1.0)
    four = Tally.of(np.repeat(values, 4), np.repeat(np.arange(50), 4), 1.0)
    assert float(four.mean) == pytest.approx(float(single.mean))
    assert float(four.variance(1.0)) == pytest.approx(float(single.variance(1.0)))


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 5)), min_size=1, max_size=40), st.randoms())
def test_a_tally_does_not_depend_on_the_order_of_requests(rows: list[tuple[float, int]], random: object) -> None:
    mixed = rows.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    one, other = (Tally.of([v for v, _ in some], np.array([s for _, s in some]), 5.0) for some in (rows, mixed))
    assert one.total_squared == pytest.approx(other.total_squared)
    assert (one.shoppers, one.requests) == (other.shoppers, other.requests)


def test_a_metric_that_never_occurred_is_not_surely_zero() -> None:
    low, high = difference(rates(100, 3, 0.0), rates(100, 3, 0.0), 1.0, 0.05, 0.05)
    assert high == -low
    assert high > 3 / 100  # the rule of three, for shoppers, with one look


def test_a_candidate_that_nobody_clicks_is_surely_worse() -> None:
    low, high = relative_difference(rates(500, 3, 0.0), rates(500, 3, 0.3), 1.0, 0.05, 0.01)
    assert low == -1.0
    assert high < -0.9


@pytest.mark.parametrize("champion", [rates(0, 3, 0.3), rates(1, 3, 0.3), rates(2, 3, 0.3), rates(500, 3, 0.0)])
def test_nothing_is_known_of_a_ratio_to_what_may_be_zero(champion: Tally) -> None:
    assert relative_difference(rates(500, 3, 0.3), champion, 1.0, 0.05, 0.05) == (-1.0, np.inf)


@pytest.mark.parametrize("few", [rates(0, 3, 0.3), rates(1, 3, 0.3)])
def test_nothing_is_known_of_fewer_than_two_shoppers(few: Tally) -> None:
    assert difference(few, rates(500, 3, 0.3), 1.0, 0.05, 0.05) == (-np.inf, np.inf)
    assert difference(rates(500, 3, 0.3), few, 1.0, 0.05, 0.05) == (-np.inf, np.inf)


def running(values_RC: np.ndarray, requests_RC: np.ndarray, looks: np.ndarray) -> Tally:
    """(R, looks) tallies as shoppers come, all requests of one at once."""

    def upto(numbers: np.ndarray) -> np.ndarray:
        return np.asarray(np.cumsum(numbers, axis=1)[:, looks - 1])

    n, y = requests_RC.astype(float), values_RC.astype(float)
    parts = (np.ones_like(n), n, y, n * n, n * y, y * y)
    return Tally(*map(upto, parts))


def test_the_truth_is_held_at_all_looks_at_once_where_an_interval_for_one_look_fails() -> None:
    rng, runs, shoppers, alpha = np.random.default_rng(3), 400, 3000, 0.1
    looks = np.arange(50, shoppers + 1, 5)

    def arm(share: float) -> Tally:
        requests = 1 + rng.poisson(2, (runs, shoppers))
        likes = rng.beta(10 * share, 10 * (1 - share), (runs, shoppers))
        return running(rng.binomial(requests, likes), requests, looks)

    candidate, champion = arm(0.27), arm(0.3)
    for compare, truth in ((difference, -0.03), (relative_difference, -0.1)):
        low, high = compare(candidate, champion, 1.0, 0.1, alpha)
        held = ((low <= truth) & (truth <= high)).all(axis=1).mean()
        assert held >= 1 - alpha
    gap = candidate.mean - champion.mean + 0.03
    plain = 1.645 * np.sqrt(candidate.variance(0.0) + champion.variance(0.0))
    assert (np.abs(gap) <= plain).all(axis=1).mean() < 0.65


def test_shoppers_who_come_again_and_again_are_one_each() -> None:
    rng, runs, shoppers, alpha = np.random.default_rng(1), 150, 300, 0.1

    def arms() -> tuple[Tally, Tally]:
        likes, often = rng.beta(0.4, 0.8, (runs, shoppers, 1)), rng.gamma(1, 0.7, (runs, shoppers, 1))
        visits = rng.poisson(often, (runs, shoppers, 50))
        n, y = (np.cumsum(one, axis=2).astype(float) for one in (visits, rng.binomial(visits, likes)))
        sums = [one.sum(axis=1) for one in (n > 0, n, y, n * n, n * y, y * y)]
        return Tally(*sums), Tally(sums[1], sums[1], sums[2], sums[1], sums[2], sums[2])

    def held(candidate: Tally, champion: Tally, compare: Callable[..., tuple[np.ndarray, np.ndarray]]) -> float:
        low, high = compare(candidate, champion, 1.0, 0.1, alpha)
        return float(((low <= 0) & (high >= 0)).all(axis=1).mean())

    (candidate, candidate_requests), (champion, champion_requests) = arms(), arms()
    for compare in (difference, relative_difference):
        assert held(candidate, champion, compare) >= 1 - alpha
        assert held(candidate_requests, champion_requests, compare) < 0.6


@pytest.mark.parametrize(
    ("values", "shoppers", "says"),
    [
        ([0.0, np.nan], ["ann", "bob"], r"values: is no measured value; got nan\. Give values"),
        ([0.0, -1.0], ["ann", "bob"], r"values: is no measured value; got -1\.0"),
        ([0.0], ["ann", "bob"], r"rows differ; got \(1, 2\)\. Give one shopper"),
    ],
)
def test_values_that_are_none_are_refused(values: list[float], shoppers: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Tally.of(values, np.array(shoppers), 1.0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_sums_that_are_none_are_refused(wrong: float) -> None:
    with pytest.raises(InputError, match=r"product: is no sum of such values; got .*Give finite sums"):
        Tally(2.0, 2.0, 1.0, 2.0, wrong, 1.0)


@pytest.mark.parametrize(("spread", "alpha", "says"), [(0.0, 0.05, "spread"), (1.0, 0.0, "alpha"), (1.0, 1.0, "alpha")])
def test_a_bound_out_of_range_is_refused(spread: float, alpha: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        multiplier(1.0, spread, alpha)
