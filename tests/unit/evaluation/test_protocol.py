"""The protocol on a shop small enough to rank by hand; nothing of the ranked period may be known to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.tiny_model import START, UNTIL, tiny_catalog, tiny_events, tiny_model

from endcap.evaluation.protocol import make_period, rank_period
from endcap.models.history import Floats, History

NOW = datetime(2011, 10, 31, tzinfo=UTC)


class Fixed:
    """Ranks a, b, c, d for everybody."""

    item_ids: Sequence[str] = ["a", "b", "c", "d"]

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        assert all((history.times < np.datetime64(NOW.replace(tzinfo=None))).all() for history in histories)
        return np.tile(np.array([4, 3, 2, 1], np.float32), (len(histories), 1))


def purchases(*rows: tuple[str, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "day"])
    times = [pd.Timestamp(NOW + timedelta(days=day)) for day in frame.pop("day")]
    return frame.assign(time=times, type="purchase", quantity=1.0, country="France")


EVENTS = purchases(("u", "a", -3), ("u", "a", 1), ("u", "c", 2), ("u", "c", 3), ("v", "new", 1), ("w", "d", 7))


def test_metrics_by_hand() -> None:
    rows = rank_period({"fixed": Fixed()}, EVENTS, None, NOW, NOW + timedelta(days=7), k=2).set_index("user_id")
    assert rows.index.tolist() == ["u", "v"]  # w came after the period
    assert rows.loc["u", "taken"] == 2
    assert rows.loc["u", "recall_at_2"] == 0.5
    assert rows.loc["u", "ndcg_at_2"] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert rows.loc["u", "recall_at_2_new"] == 1  # a is masked: b, c
    assert rows.loc["u", "ndcg_at_2_new"] == pytest.approx(1 / np.log2(3))
    assert rows.loc["v", "recall_at_2"] == 0  # an item no model knows is still missed
    assert rows.loc["u", "top"] == ["a", "b"]
    assert (rows.loc["u", "history_events"], rows.loc["u", "country"]) == (1, "France")


def test_items_not_yet_listed_are_not_ranked() -> None:
    listed = [NOW - timedelta(days=1), NOW + timedelta(days=1), NOW - timedelta(days=1), NOW - timedelta(days=1)]
    catalog = pd.DataFrame({"item_id": ["a", "b", "c", "d"], "available_from": listed})
    rows = rank_period({"fixed": Fixed()}, EVENTS, catalog, NOW, NOW + timedelta(days=7), k=2)
    assert rows["top"].iloc[0] == ["a", "c"]


def test_a_shopper_who_took_nothing_new_has_no_new_metric() -> None:
    events = purchases(("u", "a", -3), ("u", "a", 1))
    rows = rank_period({"fixed": Fixed()}, events, None, NOW, NOW + timedelta(days=7), k=2)
    assert rows["ndcg_at_2_new"].isna().all()


def test_a_cancelled_purchase_is_no_history_afterwards() -> None:
    cancelled = EVENTS.assign(cancelled_at=pd.Series([pd.Timestamp(NOW - timedelta(days=1))] + [pd.NaT] * 5))
    assert len(make_period(cancelled, NOW, NOW + timedelta(days=7)).histories[0]) == 0


def test_a_period_without_shoppers_is_empty() -> None:
    assert rank_period({"fixed": Fixed()}, EVENTS, None, NOW + timedelta(days=30), NOW + timedelta(days=37)).empty


def test_the_future_changes_no_ranking() -> None:
    """Slates of a period are the same whatever happens in it and after it."""
    model, events, catalog = tiny_model(epochs=1), tiny_events(), tiny_catalog()
    start, end = UNTIL - timedelta(days=7), UNTIL
    past = events[events["time"] < pd.Timestamp(start)]
    future = events[events["time"] >= pd.Timestamp(start)]
    other = future.assign(item_id=np.random.default_rng(0).permutation(future["item_id"]))
    one = rank_period({"m": model}, pd.concat([past, future]), catalog, start, end)
    two = rank_period({"m": model}, pd.concat([past, other]), catalog, start, end)
    assert one["top"].tolist() == two["top"].tolist()
    assert start > START
