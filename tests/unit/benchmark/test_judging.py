"""Ranking all items, and metrics by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pytest

from endcap.benchmark.judging import best_items, length_groups, means, measure, rank, takers_of, users_without_new
from endcap.benchmark.splits import Cases
from endcap.errors import TrainingError
from endcap.evaluation.metrics import top_k
from endcap.models.history import Floats, History

NOW = datetime(2011, 10, 31, tzinfo=UTC)
ITEMS = np.array(["a", "b", "c", "d"], object)


@dataclass
class Fixed:
    """The same scores for everybody."""

    item_ids: Sequence[str]
    scores: list[float]

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        return np.tile(np.array(self.scores, np.float32), (len(histories), 1))


def cases(histories: list[list[int]], wanted: list[list[int]]) -> Cases:
    """Users given by item codes."""
    lengths, counts = [len(own) for own in histories], [len(own) for own in wanted]
    return Cases(
        np.array([f"u{row}" for row in range(len(histories))], object),
        [History([ITEMS[code] for code in own], [NOW] * len(own)) for own in histories],
        np.repeat(np.arange(len(wanted)), counts), np.array([c for own in wanted for c in own], np.int64),
        np.repeat(np.arange(len(histories)), lengths), np.array([c for own in histories for c in own], np.int64), NOW,
    )  # fmt: skip


def test_seen_items_are_masked_and_ties_go_by_the_code() -> None:
    both = cases([[], [0]], [[1], [1]])
    scorer = Fixed(["a", "b", "c", "d"], [3, 1, 1, 2])
    assert rank(scorer, both, ITEMS, places=3).tolist() == [[0, 3, 1], [3, 1, 2]]
    assert rank(scorer, both, ITEMS, places=3, mask_seen=False).tolist() == [[0, 3, 1]] * 2
    assert rank(scorer, both, ITEMS)[1].tolist() == [3, 1, 2, *[-1] * 17]  # no more items


def test_a_scorer_may_have_its_own_order() -> None:
    assert rank(Fixed(["d", "c", "b", "a"], [4, 3, 2, 1]), cases([[]], [[0]]), ITEMS, places=2).tolist() == [[3, 2]]


def test_a_score_that_is_no_number_stops() -> None:
    with pytest.raises(TrainingError, match="no number"):
        rank(Fixed(["a", "b", "c", "d"], [1, float("nan"), 0, 0]), cases([[]], [[0]]), ITEMS)


def test_best_items_agree_with_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 30, (200, 60)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    np.testing.assert_array_equal(best_items(scores, 20), top_k(scores, 20))


def test_metrics_by_hand() -> None:
    slates = np.array([[0, 3, 1], [3, 1, 2], [-1, -1, -1]])
    judged = cases([[], [0], [0]], [[1, 2], [1], [0]])
    got = measure(slates, judged, cold=np.array([False, False, True, False]))
    second = 1 / np.log2(3)
    ideal = 1 + second
    np.testing.assert_allclose(got["recall@10"], [0.5, 1, 0])
    np.testing.assert_allclose(got["ndcg@10"], [0.5 / ideal, second, 0])
    np.testing.assert_allclose(got["mrr@5"], [1 / 3, 1 / 2, 0])
    np.testing.assert_allclose(got["cold.recall@20"], [0, np.nan, np.nan])
    np.testing.assert_allclose(got["warm.recall@20"], [1, 1, 0])
    assert means(got)["cold.recall@20"] == 0
    assert means(measure(slates, judged, cold=np.zeros(4, bool)))["cold.ndcg@5"] is None


def test_users_who_want_only_what_they_had_are_counted() -> None:
    assert users_without_new(cases([[0], [0], [0, 1], []], [[0, 1], [0], [0, 1], [0]])) == 2
    assert users_without_new(cases([], [])) == 0


def test_a_wanted_item_that_was_had_before_counts_only_when_nothing_else_was_wanted() -> None:
    again = cases([[0], [0]], [[0, 1], [0]])
    slates = np.array([[1, 2], [1, 2]])
    assert measure(slates, again, np.zeros(4, bool))["recall@5"].tolist() == [1, 0]
    assert measure(slates, again, np.zeros(4, bool), mask_seen=False)["recall@5"].tolist() == [0.5, 0]


def test_users_are_grouped_by_what_they_had() -> None:
    groups = length_groups(cases([[], [0], [0, 1, 2], [0, 1, 2, 3], [0] * 12], [[0]] * 5))
    assert {name: np.flatnonzero(inside).tolist() for name, inside in groups.items()} == {
        "0": [0],
        "1": [1],
        "3-4": [2, 3],
        "10+": [4],
    }


def test_a_user_takes_an_item_once() -> None:
    assert takers_of(np.array([0, 0, 1]), np.array([2, 2, 2]), 4).tolist() == [0, 0, 2, 0]
