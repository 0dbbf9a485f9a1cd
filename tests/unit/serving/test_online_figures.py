"""Live figures over a real event log, compared with counts by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from endcap.config import Settings
from endcap.data.events import EventLog
from endcap.errors import ServiceUnavailable
from endcap.serving.log_watch import LogWatch
from endcap.serving.metrics import Metrics
from endcap.serving.online_figures import OnlineFigures

DAY = timedelta(days=1)
Row = tuple[str, str, str, float]


def show(log: EventLog, number: int, items: str, ago: timedelta, **more: Any) -> None:
    """Slate r<number> of the items (one letter each), so long ago."""
    time = datetime.now(UTC) - ago
    about = {"request_id": f"r{number}", "user_id": f"u{number}", "surface": "home", "time": time, "score": 1.0}
    about |= {"propensity": 1.0, "policy": "greedy", "model_version": "7", "fallback": False, **more}
    log.append_exposures([{**about, "item_id": item, "rank": rank} for rank, item in enumerate(items, start=1)])


def act(log: EventLog, kind: str, number: int, item: str, ago: timedelta, *, named: bool = True) -> None:
    event = {"event_id": f"{kind}-{number}-{item}", "type": kind, "user_id": f"u{number}", "item_id": item}
    more = {"time": datetime.now(UTC) - ago, "quantity": 1.0, "price": 2.0, "request_id": f"r{number}" if named else None}
    assert log.append([event | more]).accepted == 1


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def figures_of(log: EventLog, **more: Any) -> OnlineFigures:
    return OnlineFigures(log, LogWatch(log, Metrics()), DAY, **more)


def check_against_hand_count(log: EventLog) -> None:
    log.create()
    show(log, 1, "ab", minutes(50))  # a clicked and bought
    show(log, 2, "ab", minutes(40))  # b put in the cart: a click
    show(log, 3, "ab", minutes(30), user_id="u2")  # the same shopper, nothing
    show(log, 4, "ab", minutes(20), model_version="8")  # bought without naming the request
    show(log, 5, "ab", minutes(10), model_version="none", policy="fallback-popularity", fallback=True)
    show(log, 6, "a", minutes(90))  # before the hour
    act(log, "click", 1, "a", minutes(49))
    act(log, "purchase", 1, "a", minutes(48))
    act(log, "cart", 2, "b", minutes(39))
    act(log, "view", 3, "a", minutes(29))
    act(log, "purchase", 4, "a", minutes(19), named=False)
    act(log, "click", 5, "z", minutes(9))  # was not on the slate
    found = figures_of(log).of("hour")
    assert (found.slates, found.fallbacks, found.cut) == (5, 1, False)
    seven, *_ = (one for one in found.models if one.name == "7")
    assert (seven.slates, seven.shoppers, seven.fallbacks) == (3, 2, 0)
    assert seven.clicks.mean == pytest.approx(2 / 3)
    assert seven.purchases.mean == pytest.approx(1 / 3)
    assert seven.purchases.low < 1 / 3 < seven.purchases.high
    eight, *_ = (one for one in found.models if one.name == "8")
    assert (eight.clicks.mean, eight.purchases.mean) == (1.0, 1.0)
    assert eight.purchases.low < 0.3  # one slate is not sure of anything
    assert {one.name: one.slates for one in found.policies} == {"greedy": 4, "fallback-popularity": 1}
    assert sum(bar.slates for bar in found.bars) == 5
    assert [bar.clicked for bar in found.bars if bar.slates] == [1, 1, 0, 1, 0]
    assert figures_of(log).of("day").slates == 6


def test_figures_equal_a_hand_count(log: EventLog) -> None:
    check_against_hand_count(log)


@pytest.mark.postgres
def test_figures_equal_a_hand_count_in_postgresql(postgres_url: str) -> None:
    log = EventLog(postgres_url)
    check_against_hand_count(log)
    log.close()


def test_a_place_of_a_rule_counts_for_that_rule_alone(log: EventLog) -> None:
    show(log, 1, "a", minutes(5))
    rows = log.request("r1")
    log.append_exposures([{**rows[0], "item_id": "p", "rank": 2, "policy": "pinned"}])
    act(log, "click", 1, "p", minutes(4))
    found = figures_of(log).of("hour")
    assert {one.name: one.clicks.mean for one in found.policies} == {"greedy": 0.0, "pinned": 1.0}
    assert [(one.slates, one.clicks.mean) for one in found.models] == [(1, 1.0)]


def test_every_slate_of_a_stranger_is_a_shopper_of_its_own(log: EventLog) -> None:
    for number in range(8):
        show(log, number, "a", minutes(20 - number), user_id=None if number else "u0")
    act(log, "click", 1, "a", minutes(18))
    (strangers,) = figures_of(log).of("hour").models
    assert (strangers.slates, strangers.shoppers) == (8, 8)
    assert strangers.clicks.mean == 1 / 8


def test_an_empty_log_has_no_figures(log: EventLog) -> None:
    found = figures_of(log).of("week")
    assert (found.slates, found.models, found.policies, found.bars, found.newest) == (0, (), (), (), None)


def test_more_than_is_read_is_cut_at_a_whole_slate_and_says_so(log: EventLog) -> None:
    for number in range(6):
        show(log, number, "abc", minutes(30 - number))
    found = figures_of(log, most=10).of("hour")  # ten rows: three slates and a part
    assert (found.slates, found.cut) == (3, True)
    assert found.since > datetime.now(UTC) - minutes(30)


def test_slates_that_may_have_led_to_more_acts_than_are_read_are_left_out(log: EventLog) -> None:
    show(log, 1, "abcde", minutes(50))
    show(log, 2, "fghij", minutes(3))
    for place, item in enumerate("abcde"):
        act(log, "click", 1, item, minutes(49 - place))
    for item in "fghijklmno":
        act(log, "click", 2, item, minutes(2))
    found = figures_of(log, most=12).of("hour")
    assert (found.slates, found.cut, found.models[0].clicks.mean) == (1, True, 1.0)


def test_a_replay_is_seen_from_its_newest_slate(log: EventLog) -> None:
    show(log, 1, "ab", timedelta(days=900))
    show(log, 2, "ab", timedelta(days=900) - minutes(30))
    act(log, "click", 2, "b", timedelta(days=900) - minutes(31))
    assert figures_of(log).of("week").slates == 0
    found = figures_of(log).of("hour", newest=True)
    assert (found.slates, found.models[0].clicks.mean) == (2, 0.5)
    assert found.until - found.newest == timedelta(microseconds=1)


def test_figures_are_kept_for_a_while(log: EventLog) -> None:
    now = [100.0]
    figures = figures_of(log, clock=lambda: now[0])
    assert figures.of("hour").slates == 0
    show(log, 1, "ab", minutes(1))
    assert figures.of("hour").slates == 0
    now[0] += 6
    assert figures.of("hour").slates == 1


def test_without_an_event_log_it_says_so(settings: Settings) -> None:
    with pytest.raises(ServiceUnavailable, match="event log"):
        figures_of(EventLog("postgresql://nobody@127.0.0.1:9/nothing")).of("hour")


def test_reading_goes_by_the_index_of_time(log: EventLog) -> None:
    import sqlalchemy as sa

    seen: list[str] = []
    sa.event.listen(log._engine, "before_cursor_execute", lambda *call: seen.append(_explained(log, call[2], call[3])))
    figures_of(log).of("week")
    assert any("exposures_by_time" in plan for plan in seen)
    assert any("events_by_time" in plan for plan in seen)
    assert not any(plan.startswith("SCAN") and "USING" not in plan for plan in seen), seen


def _explained(log: EventLog, statement: str, values: Any) -> str:
    if not statement.startswith("SELECT"):
        return ""
    connection = log._engine.raw_connection()
    try:
        return " ".join(row[3] for row in connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", values))
    finally:
        connection.close()
