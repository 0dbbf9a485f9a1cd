"""Baselines on shops small enough to count by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from endcap.data.features import Interactions, interactions_from_events
from endcap.models import collaborative
from endcap.models.collaborative import ItemKnn
from endcap.models.history import History
from endcap.models.popularity import Popularity
from endcap.models.repeats import OwnCounts

if TYPE_CHECKING:
    import pytest

NOW = datetime(2011, 10, 31, tzinfo=UTC)


def shop(rows: list[tuple[str, str, int]], **columns: object) -> Interactions:
    """Purchases given as (user, item, days ago)."""
    times = [NOW - timedelta(days=days) for _, _, days in rows]
    frame = pd.DataFrame({"user_id": [row[0] for row in rows], "item_id": [row[1] for row in rows], "time": times})
    return interactions_from_events(frame.assign(type="purchase", quantity=1.0, **columns))


ROWS = [("u", "a", 40), ("u", "b", 40), ("v", "a", 39), ("v", "b", 10), ("w", "c", 5), ("w", "b", 5)]


def test_popularity_counts_and_forgets() -> None:
    assert Popularity().fit(shop(ROWS), NOW).counts.tolist() == [2, 3, 1]
    assert Popularity(28).fit(shop(ROWS), NOW).counts.tolist() == [0, 2, 1]


def test_nothing_after_the_moment_is_known() -> None:
    assert Popularity().fit(shop(ROWS), NOW - timedelta(days=20)).counts.tolist() == [2, 1, 0]


def test_a_cancelled_purchase_counts_until_it_was_cancelled() -> None:
    cancelled = [NOW - timedelta(days=1), *[pd.NaT] * 5]
    shopping = shop(ROWS, cancelled_at=cancelled)
    assert Popularity().fit(shopping, NOW).counts.tolist() == [1, 3, 1]
    assert Popularity().fit(shopping, NOW - timedelta(days=2)).counts.tolist() == [2, 3, 1]


def test_own_counts_first_then_recent_popularity() -> None:
    scorer = OwnCounts(28).fit(shop(ROWS), NOW)
    history = History(["c", "c", "a"], [NOW - timedelta(days=day) for day in (9, 8, 7)])
    order = np.argsort(-scorer.score([history], NOW)[0])
    assert [scorer.item_ids[code] for code in order] == ["c", "a", "b"]
    assert scorer.item_ids[int(scorer.score([History.empty()], NOW)[0].argmax())] == "b"


def test_item_knn_is_the_cosine_of_shopper_sets() -> None:
    scores = ItemKnn().fit(shop(ROWS), NOW).score([History(["a"], [NOW])], NOW)
    np.testing.assert_allclose(scores[0], [0, 2 / np.sqrt(2 * 3), 0], atol=1e-6)


def test_likeness_by_blocks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = [(f"u{user}", f"i{item}", 9) for user in range(30) for item in rng.choice(7, 3, replace=False)]
    whole = ItemKnn().fit(shop(rows), NOW).similarity.toarray()
    monkeypatch.setattr(collaborative, "BLOCK", 3)
    np.testing.assert_allclose(ItemKnn().fit(shop(rows), NOW).similarity.toarray(), whole, atol=1e-6)
    assert (whole > 0).any()
    assert not whole.diagonal().any()


def test_item_knn_keeps_the_nearest() -> None:
    similarity = ItemKnn(neighbours=1).fit(shop(ROWS), NOW).similarity.toarray()
    assert (similarity > 0).sum(axis=1).tolist() == [1, 1, 1]
    assert similarity[1].argmax() == 0  # b is nearer to a (two shoppers) than to c (one)


def test_one_item_one_shopper() -> None:
    shopping = shop([("u", "a", 3)])
    for scorer in (Popularity(), OwnCounts(), ItemKnn()):
        assert scorer.fit(shopping, NOW).score([History(["a"], [NOW])], NOW).shape == (1, 1)
