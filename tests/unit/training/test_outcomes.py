"""What counts as the outcome of a shown item."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from endcap.errors import TrainingError
from endcap.training.outcomes import label_exposures

T = datetime(2025, 3, 3, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def _shown(*rows: tuple[str, str | None, str, float]) -> pd.DataFrame:
    """request, user, item, hours after T."""
    table = pd.DataFrame(
        [
            {"request_id": r, "user_id": u, "item_id": i, "time": T + timedelta(hours=h), "rank": 1, "surface": "home"}
            for r, u, i, h in rows
        ]
    )
    return table.assign(rank=table.groupby("request_id").cumcount() + 1)


def _acts(*rows: tuple[str, str, str, float, str | None], **more: Any) -> pd.DataFrame:
    """type, user, item, hours after T, request."""
    names = ["type", "user_id", "item_id", "hours", "request_id"]
    table = pd.DataFrame(list(rows), columns=names)
    return table.assign(time=[T + timedelta(hours=hours) for hours in table["hours"]], **more)


def _label(shown: pd.DataFrame, acts: pd.DataFrame, until: datetime = T + 9 * DAY) -> dict[tuple[str, str], tuple[bool, bool]]:
    rows = label_exposures(shown, acts, DAY, until)
    return {(row.request_id, row.item_id): (row.clicked, row.purchased) for row in rows.itertuples()}


def test_a_named_request_counts_alone() -> None:
    shown = _shown(("r1", "ann", "cup", 0), ("r2", "ann", "cup", 1))
    assert _label(shown, _acts(("click", "ann", "cup", 2, "r1"))) == {
        ("r1", "cup"): (True, False),
        ("r2", "cup"): (False, False),
    }


def test_without_a_name_the_last_slate_that_showed_the_item_counts() -> None:
    shown = _shown(("r1", "ann", "cup", 0), ("r2", "ann", "cup", 1), ("r3", "ann", "cup", 3), ("r4", "bob", "cup", 1))
    found = _label(shown, _acts(("purchase", "ann", "cup", 2, None)))
    assert found == {
        ("r1", "cup"): (False, False),
        ("r2", "cup"): (True, True),
        ("r3", "cup"): (False, False),
        ("r4", "cup"): (False, False),
    }


def test_an_act_is_not_given_to_an_older_slate_because_the_newer_ones_time_is_not_up() -> None:
    shown = _shown(("r1", "ann", "cup", 0), ("r2", "ann", "cup", 10))
    acts = _acts(("click", "ann", "cup", 11, None))
    assert _label(shown, acts, T + timedelta(hours=25)) == {("r1", "cup"): (False, False)}
    assert _label(shown, acts) == {("r1", "cup"): (False, False), ("r2", "cup"): (True, False)}


@pytest.mark.parametrize("request_id", ["r1", None])
@pytest.mark.parametrize(("hours", "counts"), [(-0.5, False), (0, True), (24, True), (24.5, False)])
def test_only_what_follows_within_the_window_counts(hours: float, counts: bool, request_id: str | None) -> None:
    found = _label(_shown(("r1", "ann", "cup", 0)), _acts(("click", "ann", "cup", hours, request_id)))
    assert found == {("r1", "cup"): (counts, False)}


def test_a_cart_is_a_click_and_a_view_is_nothing() -> None:
    shown = _shown(("r1", "ann", "cup", 0), ("r1", "ann", "lamp", 0))
    found = _label(shown, _acts(("cart", "ann", "cup", 1, "r1"), ("view", "ann", "lamp", 1, "r1")))
    assert found == {("r1", "cup"): (True, False), ("r1", "lamp"): (False, False)}


def test_slates_whose_time_is_not_up_are_left_out() -> None:
    shown = _shown(("r1", "ann", "cup", 0), ("r2", "ann", "cup", 10))
    assert set(_label(shown, _acts(("click", "ann", "cup", 1, "r1")), T + DAY)) == {("r1", "cup")}


def test_returns_and_undone_purchases_do_not_count() -> None:
    shown = _shown(("r1", "ann", "cup", 0), ("r1", "ann", "lamp", 0), ("r1", "ann", "sock", 0))
    acts = _acts(
        ("purchase", "ann", "cup", 1, "r1"), ("purchase", "ann", "lamp", 1, "r1"), ("purchase", "ann", "sock", 1, "r1"),
        quantity=[-1.0, 1.0, 1.0], cancelled_at=pd.to_datetime([None, T + timedelta(hours=2), T + 5 * DAY], utc=True),
    )  # fmt: skip
    assert [purchased for _, purchased in _label(shown, acts).values()] == [False, False, True]


def test_a_stranger_is_answered_for_by_name() -> None:
    shown = _shown(("r1", None, "cup", 0), ("r2", None, "cup", 0))
    assert _label(shown, _acts(("click", "ann", "cup", 1, "r2"))) == {
        ("r1", "cup"): (False, False),
        ("r2", "cup"): (True, False),
    }


def test_no_exposures_say_so() -> None:
    with pytest.raises(TrainingError, match="exposures"):
        label_exposures(_shown(("r1", "ann", "cup", 0)), _acts(), DAY, T)
