"""Facts of items, counted by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from endcap.data.features import Interactions, interactions_from_events
from endcap.models.item_facts import ITEM_FACTS, item_facts

NOW = datetime(2011, 11, 7, tzinfo=UTC)


def shop(*lines: tuple[str, str, float, str], items: tuple[str, ...] = ("cup", "hat", "pen")) -> Interactions:
    """Events (shopper, item, days before NOW, type)."""
    frame = pd.DataFrame(lines, columns=["user_id", "item_id", "ago", "type"])
    frame["time"] = [NOW - timedelta(days=ago) for ago in frame["ago"]]
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    return interactions_from_events(frame, items)


LINES = (
    ("ann", "cup", 100.5, "purchase"), ("ann", "cup", 20.5, "purchase"),
    ("ann", "cup", 3.4, "purchase"), ("ann", "cup", 3.2, "purchase"),
    ("bob", "cup", 10.5, "purchase"), ("bob", "hat", 2.5, "view"), ("bob", "hat", 50.5, "purchase"),
)  # fmt: skip


def test_facts_of_three_items_by_hand() -> None:
    values = item_facts(shop(*LINES), NOW).values
    cup, hat, pen = (dict(zip(ITEM_FACTS, row.tolist(), strict=True)) for row in values)
    assert [cup[f"item_taken_{days}"] for days in (7, 14, 28, 84)] == [1, 2, 3, 3]  # twice on one day counts once
    assert cup["item_taken"] == 4
    np.testing.assert_allclose(cup["item_again"], (1 + 1) / (2 + 5), rtol=1e-6)
    assert (cup["item_first"], cup["item_last"]) == (100, 3)
    np.testing.assert_allclose(cup["item_trend"], np.log((1 + 1) / (3 / 4 + 1)), rtol=1e-6)
    np.testing.assert_allclose(cup["item_season"], np.log((3 + 1) / (3 / 3 + 1)), rtol=1e-6)
    assert (hat["item_taken"], hat["item_last"]) == (1, 50)  # the view does not count
    assert pen["item_taken"] == 0
    assert item_facts(shop(*LINES), NOW).recent.tolist() == [3, 0, 0]
    assert np.isnan([pen["item_first"], pen["item_last"]]).all()


def test_pieces_and_prices_of_items() -> None:
    frame = pd.DataFrame(
        {
            "user_id": "ann", "type": "purchase", "item_id": ["cup", "cup", "cup", "hat"],
            "time": pd.to_datetime([NOW - timedelta(days=ago) for ago in (40, 20, 5, 5)], utc=True),
            "quantity": [8.0, 4.0, 2.0, None], "price": [1.0, 2.0, 4.0, None],
        }
    )  # fmt: skip
    cup, hat = (
        dict(zip(ITEM_FACTS, row.tolist(), strict=True)) for row in item_facts(interactions_from_events(frame), NOW).values
    )
    np.testing.assert_allclose(cup["item_pieces_28"], np.log1p(4 + 2), rtol=1e-6)
    np.testing.assert_allclose([cup["item_quantity"], cup["item_price"], cup["item_price_now"]], np.log([4, 2, 4]), rtol=1e-6)
    assert hat["item_quantity"] == 0  # one piece where nothing is said
    assert np.isnan([hat["item_price"], hat["item_price_now"]]).all()


def test_nothing_after_the_moment_counts() -> None:
    before = NOW - timedelta(days=15)
    known = shop(*(line for line in LINES if line[2] > 15))
    np.testing.assert_array_equal(item_facts(shop(*LINES), before).values, item_facts(known, before).values)


def test_a_shop_without_events_has_facts() -> None:
    values = item_facts(shop(), NOW).values
    assert values.shape == (3, len(ITEM_FACTS))
    np.testing.assert_allclose(values[:, ITEM_FACTS.index("item_again")], 0.2, rtol=1e-6)
