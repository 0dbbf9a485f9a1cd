"""What sold most, counted from the event log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.conftest import NOW, catalogue

from endcap.data.events import EventLog
from endcap.models.history import History
from endcap.recommender import Request
from endcap.serving.fallback import Fallback

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = EventLog(f"sqlite:///{tmp_path / 'events.db'}")
    log.create()
    log.upsert_catalog(catalogue())
    return log


def sell(log: EventLog, *items: str, at: datetime) -> None:
    names = [f"{at}-{item}-{number}" for number, item in enumerate(items)]
    rows = [
        {"event_id": name, "type": "purchase", "item_id": item, "time": at, "quantity": 1.0}
        for name, item in zip(names, items, strict=True)
    ]
    log.append(rows)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def popular(fallback: Fallback, now: datetime = NOW) -> list[str]:
    return [shown.item_id for shown in fallback.recommender(now).recommend(Request(History.empty(), now))]


def test_recent_sales_count_and_later_ones_do_not(log: EventLog) -> None:
    sell(log, "fork", "fork", "mug", at=NOW - timedelta(days=2))
    sell(log, "bowl", "bowl", "bowl", at=NOW - timedelta(days=100))
    sell(log, "spoon", "spoon", "spoon", at=NOW + timedelta(hours=1))
    assert popular(Fallback(log, 28, ["home"])) == ["fork", "mug"]


def test_a_quiet_shop_shows_what_ever_sold(log: EventLog) -> None:
    sell(log, "bowl", at=NOW - timedelta(days=100))
    assert popular(Fallback(log, 28, ["home"])) == ["bowl"]


def test_it_is_counted_again_after_a_while_and_at_once_on_another_day(log: EventLog) -> None:
    clock = Clock()
    fallback = Fallback(log, 28, ["home"], refresh_seconds=30, clock=clock)
    sell(log, "fork", at=NOW - timedelta(days=2))
    assert popular(fallback) == ["fork"]
    sell(log, "mug", "mug", at=NOW - timedelta(days=1))
    assert popular(fallback) == ["fork"]
    assert popular(fallback, NOW + timedelta(days=1)) == ["mug", "fork"]
    clock.now = 31
    assert popular(fallback) == ["mug", "fork"]


def test_an_empty_shop_is_looked_at_again_soon(log: EventLog) -> None:
    clock = Clock()
    fallback = Fallback(log, 28, ["home"], clock=clock)
    assert popular(fallback) == []
    sell(log, "fork", at=NOW - timedelta(days=1))
    clock.now = 1.1
    assert popular(fallback) == ["fork"]


def test_while_the_log_is_away_the_last_count_stands(log: EventLog, tmp_path: Path) -> None:
    clock = Clock()
    fallback = Fallback(log, 28, ["home"], clock=clock)
    sell(log, "fork", at=NOW - timedelta(days=1))
    popular(fallback)
    log.close()
    for path in tmp_path.glob("events.db*"):
        path.unlink()
    (tmp_path / "events.db").mkdir()
    clock.now = 100
    assert popular(fallback) == ["fork"]
    assert popular(Fallback(log, 28, ["home"])) == []
