"""EASE against the textbook formula."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from tests.unit.models.test_baselines import NOW, shop

from endcap.errors import TrainingError
from endcap.models import ease
from endcap.models.ease import Ease, solve
from endcap.models.history import History


@pytest.mark.parametrize("block", [4, 1024])
def test_the_weights_are_those_of_the_paper(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "BLOCK", block)
    taken = (np.random.default_rng(3).random((40, 11)) < 0.3).astype(np.float32)
    inverse = np.linalg.inv(taken.T @ taken + 2.5 * np.eye(11))
    expected = np.eye(11) - inverse / np.diag(inverse)[None, :]
    np.testing.assert_allclose(solve(taken.T @ taken, 2.5), expected, atol=1e-5)


def test_items_beyond_the_columns_score_nothing_and_strangers_are_ignored() -> None:
    rows = [("u", "a", 9), ("u", "b", 8), ("v", "a", 9), ("v", "b", 3), ("w", "c", 5), ("w", "b", 5), ("x", "b", 4)]
    scorer = Ease(1.0, max_columns=2).fit(shop(rows), NOW)
    scores = scorer.score([History(["a", "?", "c"], [NOW] * 3), History.empty()], NOW)
    assert scores[0, 1] > 0
    assert scores[0, 2] == 0
    assert not scores[1].any()


def test_nothing_known_scores_nothing() -> None:
    scorer = Ease().fit(shop([("u", "a", 9), ("u", "b", 8)]), datetime(2000, 1, 1, tzinfo=UTC) - timedelta(days=1))
    assert scorer.score([History(["a"], [NOW])], NOW).tolist() == [[0, 0]]


@pytest.mark.parametrize("block", [2, 1024])
def test_the_nearest_are_the_largest_weights_above_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "BLOCK", block)
    rng = np.random.default_rng(1)
    rows = [(f"u{user}", f"i{item}", 9) for user in range(30) for item in rng.choice(7, 3, replace=False)]
    scorer = Ease(1.0, max_columns=6).fit(shop(rows), NOW)
    near = scorer.nearest(2).toarray()
    whole = np.zeros_like(near)
    whole[np.ix_(scorer.columns, scorer.columns)] = scorer.weights
    assert near.shape == (7, 7)
    for row, found in enumerate(near):
        expected = np.where(whole[row] >= np.sort(whole[row])[-2], whole[row], 0).clip(min=0)
        np.testing.assert_array_equal(found, expected)
    assert (near > 0).any()


def test_nobody_is_near_without_columns() -> None:
    scorer = Ease().fit(shop([("u", "a", 9), ("u", "b", 8)]), datetime(2000, 1, 1, tzinfo=UTC))
    assert scorer.nearest(5).toarray().tolist() == [[0, 0], [0, 0]]


def test_a_matrix_without_inverse_is_told() -> None:
    with pytest.raises(TrainingError, match="EASE has no solution"):
        solve(np.ones((2, 2), np.float32), 0.0)
