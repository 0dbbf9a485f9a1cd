"""No budget is ever exceeded: not by threads, not by processes, not over restarts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.serving.conftest import in_threads

from endcap.data.events import EventLog
from endcap.errors import ServiceUnavailable
from endcap.ranking.business_rules import Promotion
from endcap.serving.log_watch import LogWatch
from endcap.serving.metrics import Metrics
from endcap.serving.promotion_budgets import MAX_LOT, PromotionBudgets


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/events.db"


class Shop:
    """Service processes over one event log, each with its own connections."""

    def __init__(self, url: str) -> None:
        self.url, self.logs = url, [EventLog(url)]

    def process(self) -> PromotionBudgets:
        log, metrics = EventLog(self.url), Metrics()
        self.logs.append(log)
        return PromotionBudgets(log, LogWatch(log, metrics), threading.Lock(), metrics)

    def shows(self) -> dict[str, int]:
        return self.logs[0].promotion_shows()


@pytest.fixture
def shop(url: str) -> Iterator[Shop]:
    shop = Shop(url)
    yield shop
    for log in shop.logs:
        log.close()


def lights(budget: int, at_most: int = 1) -> Promotion:
    return Promotion(name="lights", items=("mug",), budget=budget, at_most=at_most)


def test_processes_and_threads_together_spend_exactly_the_budget(shop: Shop) -> None:
    rule, used, lock = lights(budget=300, at_most=2), [], threading.Lock()

    def serve() -> None:
        budgets = shop.process()
        budgets.fetch([rule])

        def ask() -> None:
            for _ in range(150):
                lent = budgets.lend([rule])
                with lock:
                    used.append(lent["lights"])
                budgets.settle(lent, lent)
                if budgets.low([rule]):
                    with lock:
                        budgets.fetch([rule])

        for thread in in_threads(ask, 2):
            thread.join()
        budgets.close()

    for thread in in_threads(serve, 3):
        thread.join()
    assert sum(used) == 300
    assert shop.shows() == {"lights": 300}


def test_what_a_slate_does_not_use_comes_back(shop: Shop) -> None:
    budgets, rule = shop.process(), lights(budget=8, at_most=2)
    budgets.fetch([rule])
    held = budgets.lend([rule])
    assert held == {"lights": 2}
    assert budgets.lend([rule]) == {"lights": 0}  # the lot of a small budget is small
    budgets.settle(held, {"lights": 1})
    assert budgets.lend([rule]) == {"lights": 1}


def test_a_stop_gives_back_what_was_not_shown_and_a_restart_goes_on(shop: Shop) -> None:
    first, rule = shop.process(), lights(budget=1000)
    first.fetch([rule])
    assert shop.shows()["lights"] == 126
    lent = first.lend([rule])
    first.settle(lent, lent)
    first.close()
    assert shop.shows() == {"lights": 1}
    second = shop.process()
    second.fetch([rule])
    assert shop.shows()["lights"] == 1 + 999 // 8 + 1


def test_a_kill_never_makes_a_budget_larger(shop: Shop) -> None:
    rule = lights(budget=3)
    for _ in range(5):  # each takes a lot and is gone
        shop.process().fetch([rule])
    assert shop.shows() == {"lights": 3}
    last = shop.process()
    last.fetch([rule])
    assert last.lend([rule]) == {"lights": 0}


def test_a_raised_budget_goes_on_and_a_lowered_one_stops(shop: Shop) -> None:
    budgets = shop.process()
    budgets.fetch([lights(budget=1)])
    budgets.settle(budgets.lend([lights(budget=1)]), {"lights": 1})
    budgets.fetch([lights(budget=1)])
    assert budgets.lend([lights(budget=1)]) == {"lights": 0}
    budgets.fetch([lights(budget=5000)])
    assert shop.shows() == {"lights": 1 + MAX_LOT}
    budgets.fetch([lights(budget=2)])
    assert shop.shows() == {"lights": 1}


def test_a_promotion_that_is_gone_gives_its_lot_back(shop: Shop) -> None:
    budgets = shop.process()
    budgets.fetch([lights(budget=1000)])
    budgets.fetch([])
    assert shop.shows() == {"lights": 0}


def test_while_the_event_log_is_away_nothing_more_is_lent(tmp_path: Path) -> None:
    (tmp_path / "events.db").mkdir()  # what a lost disk looks like
    budgets, rule = Shop(f"sqlite:///{tmp_path}/events.db").process(), lights(budget=10)
    budgets.fetch([rule])
    assert budgets.lend([rule]) == {"lights": 0}


def test_a_process_that_was_not_fast_enough_lends_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    budgets, rule = shop.process(), lights(budget=8)
    shop.logs[0].create()
    shop.logs[0].count_shows("lights", 8)
    monkeypatch.setattr(shop.logs[1], "promotion_shows", dict)  # read just before
    budgets.fetch([rule])
    assert budgets.lend([rule]) == {"lights": 0}


def test_an_event_log_that_goes_away_leaves_the_lot(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise ServiceUnavailable("no")

    budgets, rule = shop.process(), lights(budget=8)
    budgets.fetch([rule])
    monkeypatch.setattr(shop.logs[1], "promotion_shows", away)
    budgets.fetch([rule])
    assert not budgets._watch._up
    assert budgets.lend([rule]) == {"lights": 1}
