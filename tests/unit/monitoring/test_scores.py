"""Whose histories the champion is asked about, and when its scores have moved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from tests.fixtures import steady_shop as shop

from endcap.models.history import Floats, History
from endcap.monitoring.scores import check_scores, top_scores
from endcap.monitoring.windows import choose_windows

WINDOWS = choose_windows(shop.week(20), shop.week(19), interval_days=7, reference_days=28, first_event=shop.week(0))


class Remembers:
    """Keeps what it is asked; scores are the lengths of histories."""

    item_ids: Sequence[str] = ["a", "b"]

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, Sequence[History]]] = []

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        self.asked.append((now, histories))
        return np.array([[len(history)] * 2 for history in histories], np.float32)


def test_a_history_is_one_shoppers_events_before_the_interval_oldest_first() -> None:
    events, model = shop.events(), Remembers()
    scores = top_scores(model, events, WINDOWS)
    assert [now for now, _ in model.asked] == [*WINDOWS.block_starts, WINDOWS.start]
    now, histories = model.asked[-1]
    past = events[(events["time"] < now) & (events["time"] >= now - WINDOWS.lookback)]
    came = events.loc[(events["time"] >= now) & (events["time"] < WINDOWS.end), "user_id"].unique()
    expected = past[past["user_id"].isin(came)].groupby("user_id", sort=True)["item_id"].apply(list)
    assert sorted(list(history.item_ids) for history in histories) == sorted(expected)
    assert all((np.diff(history.times.astype(int)) >= 0).all() for history in histories)
    assert scores[-1].tolist() == [len(history) for history in histories]


def test_histories_are_cut_to_the_newest() -> None:
    events, model = shop.events().assign(user_id="u"), Remembers()
    top_scores(model, events, WINDOWS)
    now, (history,) = model.asked[0]
    newest = events[events["time"] < now].tail(200)
    assert list(history.item_ids) == list(newest["item_id"])


def test_scores_that_double_have_moved_and_equal_ones_have_not() -> None:
    rng = np.random.default_rng(0)
    steady = [rng.normal(10, 1, 200) for _ in range(9)]
    limits = {"psi_threshold": 0.1, "unusual_ratio": 1.5}
    same = check_scores(steady, **limits)
    moved = check_scores([*steady[:-1], steady[-1] * 2], **limits)
    assert same
    assert moved
    assert (same.drifted, moved.drifted) == (False, True)


def test_nobody_to_ask_is_no_check() -> None:
    empty = np.zeros(0)
    assert check_scores([empty, empty, empty], psi_threshold=0.1, unusual_ratio=1.5) is None


def test_a_shop_without_histories_is_not_asked() -> None:
    young = choose_windows(shop.week(4), shop.week(3), interval_days=7, reference_days=14, first_event=shop.week(0))
    events = shop.events()
    newcomers = events[events["time"] >= young.reference_start + timedelta(days=21)]
    assert all(len(scores) == 0 for scores in top_scores(Remembers(), newcomers, young))
