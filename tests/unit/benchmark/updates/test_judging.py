"""Slates of a week by hand: what is listed, what is new, what was popular."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.benchmark_files import write

from endcap.benchmark.baselines import Baseline, Ladder
from endcap.benchmark.updates.judging import POPULAR_METRIC, choose_knobs, measure_week, popular_at, slates_of
from endcap.benchmark.updates.shop import WeeklyShop, from_files
from endcap.data.features import Interactions
from endcap.errors import TrainingError
from endcap.models.history import Floats, History

START = datetime(2011, 2, 7, tzinfo=UTC)


class Fixed:
    """Gives everybody the same scores."""

    def __init__(self, item_ids: Sequence[str], scores: Sequence[float]) -> None:
        self.item_ids, self.scores = item_ids, np.array(scores, np.float32)

    def fit(self, interactions: Interactions, as_of: datetime) -> Fixed:
        return self

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        return np.repeat(self.scores[None, :], len(histories), axis=0)


@pytest.fixture
def shop(tmp_path: Path) -> WeeklyShop:
    """Ann had mugs and a cup; in the week she takes a mug again, and a jug that was new to the shop."""
    days = [-5, -4, -3, 1, 2]
    events = write(
        tmp_path / "e.parquet", user=["ann"] * 5, item=["mug", "mug", "cup", "mug", "jug"],
        timestamp=[START + timedelta(days=day) for day in days],
    )  # fmt: skip
    return from_files(events, None, START, 1)


def named(shop: WeeklyShop, slate: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[str]:
    return [str(shop.events.item_ids[code]) for code in slate if code >= 0]


def test_slates_hold_what_the_scorer_lists_and_new_ones_only_what_is_new(shop: WeeklyShop) -> None:
    slates = slates_of(Fixed(["mug", "cup"], [1, 2]), shop, shop.cases(START))
    assert (named(shop, slates[0, 0]), named(shop, slates[1, 0])) == (["cup", "mug"], [])
    slates = slates_of(Fixed(["jug", "mug", "cup"], [0, 1, 2]), shop, shop.cases(START))
    assert (named(shop, slates[0, 0]), named(shop, slates[1, 0])) == (["cup", "mug", "jug"], ["jug"])


def test_measures_by_hand(shop: WeeklyShop) -> None:
    cases = shop.cases(START)
    slates = slates_of(Fixed(["mug", "cup"], [1, 2]), shop, cases)
    values = measure_week(slates, cases, popular_at(shop, START))
    assert values["recall@10"].tolist() == [0.5]  # the mug, not the jug, which was not listed
    assert values["ndcg@10"][0] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert values["recall@20_new"].tolist() == [0]
    assert values[POPULAR_METRIC].tolist() == [1]
    nothing = measure_week(slates, cases, np.zeros(3, np.bool_))
    assert np.isnan(nothing[POPULAR_METRIC]).all()


def test_popular_are_the_most_taken_before_the_start(shop: WeeklyShop) -> None:
    assert named(shop, np.flatnonzero(popular_at(shop, START))) == ["mug"]


def test_a_score_that_is_no_number_is_told(shop: WeeklyShop) -> None:
    with pytest.raises(TrainingError, match="no number"):
        slates_of(Fixed(["mug", "cup"], [1, np.nan]), shop, shop.cases(START))


def test_knobs_are_chosen_before_the_first_week_alone(tmp_path: Path) -> None:
    """Before the start mugs sell, from it on only cups: whoever looks ahead would choose cups."""
    days = [-10, -8, -3, 1, 2]
    events = write(
        tmp_path / "e.parquet", user=["ann", "bob", "ann", "ann", "bob"], item=["cup", "mug", "mug", "cup", "cup"],
        timestamp=[START + timedelta(days=day) for day in days],
    )  # fmt: skip
    shop = from_files(events, None, START, 1)
    filler = [f"x{number:02d}" for number in range(25)]
    items = ["cup", "mug"]
    baseline = Baseline(lambda mug: Fixed(items, [0, mug]), {"mug": Ladder((-1, 1), -1)})
    assert choose_knobs(shop, baseline, lambda _: None) == {"mug": 1}
    assert choose_knobs(shop, Baseline(lambda: Fixed(filler, [])), lambda _: None) == {}
