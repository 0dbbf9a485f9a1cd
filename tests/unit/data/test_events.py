"""The event log on both databases: stored once, claimed once, fast to read back."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from endcap import contracts
from endcap.data.database import open_engine
from endcap.data.events import Appended, EventLog
from endcap.errors import InputError, ServiceUnavailable

NOON = datetime(2011, 11, 7, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/deep/events.db"


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    log = EventLog(url)
    log.create()
    yield log
    log.close()


def event(event_id: str, time: datetime = NOON, **values: Any) -> dict[str, Any]:
    defaults = {"type": "purchase", "user_id": "u1", "item_id": "22423", "quantity": 2.0, "price": 12.75}
    return {"event_id": event_id, "time": time} | defaults | values


def catalog(*rows: dict[str, Any]) -> pa.Table:
    defaults = dict.fromkeys(contracts.catalog_schema().names)
    return pa.Table.from_pylist([defaults | row for row in rows], schema=contracts.catalog_schema())


def item(item_id: str, listed: datetime = NOON, title: str = "CAKESTAND", price: float | None = None) -> dict[str, Any]:
    return {"item_id": item_id, "title": title, "price": price, "available_from": listed, "updated_at": listed}


def test_an_event_is_stored_once(log: EventLog) -> None:
    assert log.append([event("a"), event("b"), event("b")]) == Appended(2, 1)
    assert log.append([event("b", price=99.0), event("c")]) == Appended(1, 1)
    log.claim("log-1", NOON + DAY)
    assert log.read_batch("log-1").to_pydict()["event_id"] == ["a", "b", "c"]
    assert log.read_batch("log-1").to_pydict()["price"] == [12.75] * 3


def test_a_table_comes_back_as_it_went_in(log: EventLog) -> None:
    rows = [
        event("a", NOON.replace(microsecond=7), request_id="req-1", surface="home", country="France"),
        event("b", user_id=None),
    ]
    table = pa.Table.from_pylist(rows, schema=contracts.event_schema())
    assert log.append(table, batch_id="file-1") == Appended(2, 0)
    assert log.read_batch("file-1").sort_by("event_id").equals(table)
    assert log.batch_event_ids("file-1") == ["a", "b"]
    assert log.read_batch("unknown").equals(table.slice(0, 0))


def test_all_or_nothing_when_a_row_is_incomplete(log: EventLog) -> None:
    with pytest.raises(InputError, match="required column"):
        log.append([event("a"), event("b", item_id=None)])
    assert log.claim("log-1", NOON + DAY) == 0


def test_items_that_are_not_listed_are_named(log: EventLog) -> None:
    assert log.unlisted(["a", "b"]) == []  # there is no catalogue yet
    log.upsert_catalog(catalog(item("a")))
    assert log.unlisted(["b", "a", "c"]) == ["b", "c"]


def test_shows_are_counted_within_their_budget(log: EventLog) -> None:
    assert [log.count_shows("lights", shows, 5) for shows in (3, 3, 2, -4, 1)] == [True, False, True, True, True]
    assert log.count_shows("others", 9)
    assert log.promotion_shows() == {"lights": 2, "others": 9}


def test_a_time_without_zone_is_refused(log: EventLog) -> None:
    with pytest.raises(ValueError, match="no zone"):
        log.append([event("a", NOON.replace(tzinfo=None))])


def test_late_events_go_to_a_later_batch_and_never_to_two(log: EventLog) -> None:
    log.append([event("a"), event("tomorrow", NOON + DAY)])
    assert log.claim("log-1", NOON + DAY) == 1
    log.append([event("late", NOON - DAY)])
    assert log.claim("log-1", NOON + DAY) == 1  # a rerun reads the same rows
    assert log.claim("log-2", NOON + 2 * DAY) == 2
    assert log.read_batch("log-1").to_pydict()["event_id"] == ["a"]
    assert log.read_batch("log-2").to_pydict()["event_id"] == ["late", "tomorrow"]


def test_an_empty_claim_is_remembered(log: EventLog) -> None:
    assert log.claim("log-1", NOON + DAY) == 0
    log.append([event("a")])
    assert log.claim("log-1", NOON + DAY) == 0


def test_an_event_from_the_future_is_claimed_now(log: EventLog) -> None:
    future = datetime.now(UTC) + timedelta(days=3650)
    log.append([event("a", future), event("b", datetime.now(UTC) + timedelta(minutes=1))])
    assert log.claim("log-1", NOON, skew=timedelta(minutes=5)) == 1
    assert log.read_batch("log-1").to_pydict()["event_id"] == ["a"]


def test_history_is_the_newest_oldest_first(log: EventLog) -> None:
    log.append([event(f"e{i}", NOON + i * DAY, item_id=str(i)) for i in range(5)])
    log.append([event("shown", NOON + 9 * DAY, type="impression"), event("other", user_id="u2")])
    log.append([event("searched", NOON + 9 * DAY, type="search")])
    history = log.history("u1", limit=3)
    assert [row["item_id"] for row in history] == ["2", "3", "4"]
    newest = {"event_id": "e4", "item_id": "4", "type": "purchase", "time": NOON + 4 * DAY, "quantity": 2.0}
    assert history[-1] == {**newest, "price": event("e4")["price"], "surface": None, "country": event("e4").get("country")}
    assert log.history("nobody", limit=3) == []


def test_history_as_of_a_moment_is_as_long_as_today_s(log: EventLog) -> None:
    log.append([event(f"e{i}", NOON + i * DAY, item_id=str(i)) for i in range(9)])
    assert [row["item_id"] for row in log.history("u1", 3, NOON + 4 * DAY)] == ["2", "3", "4"]
    before = NOON + 4 * DAY - timedelta(microseconds=1)
    assert [row["item_id"] for row in log.history("u1", 3, before)] == ["1", "2", "3"]
    assert log.history("u1", 3, NOON - DAY) == []


def shown(request_id: str, time: datetime = NOON, items: str = "ab") -> list[dict[str, Any]]:
    about = {"request_id": request_id, "user_id": None, "surface": "home", "time": time, "score": 0.5, "propensity": 1.0}
    about |= {"policy": "greedy", "model_version": "3", "fallback": False}
    return [about | {"item_id": item_id, "rank": rank} for rank, item_id in enumerate(items, start=1)]


def test_exposures_are_stored_once_and_read_by_time(log: EventLog) -> None:
    rows = shown("req-1")[::-1]
    log.append_exposures(rows)
    log.append_exposures(rows)
    log.append_exposures([])
    table = log.exposures(NOON, NOON + DAY)
    assert table.schema.equals(contracts.exposure_schema())
    assert table.to_pydict()["item_id"] == ["a", "b"]
    assert log.exposures(NOON + timedelta(microseconds=1), NOON + DAY).num_rows == 0
    assert [row["item_id"] for row in log.request("req-1")] == ["a", "b"]
    assert log.request("req-1")[0]["time"] == NOON
    assert log.request("req-2") == []


def test_a_slate_goes_to_one_batch_and_a_late_one_to_the_next(log: EventLog) -> None:
    log.append_exposures(shown("req-1") + shown("req-2", NOON + DAY))
    first = log.claim_exposures("log-1", NOON + DAY)
    assert first.schema.equals(contracts.exposure_schema())
    assert first.to_pydict()["request_id"] == ["req-1", "req-1"]
    log.append_exposures(shown("late", NOON - DAY))
    assert log.claim_exposures("log-2", NOON + 2 * DAY).to_pydict()["request_id"] == ["late", "late", "req-2", "req-2"]
    assert log.claim_exposures("log-1", NOON + DAY).equals(first)
    assert log.claim_exposures("log-3", NOON + 2 * DAY).num_rows == 0
    assert "batch_id" not in log.request("req-1")[0]


def test_exposures_of_an_older_log_can_be_claimed(url: str, log: EventLog) -> None:
    log.append_exposures(shown("req-1"))
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX exposures_of_batch")
        connection.exec_driver_sql("ALTER TABLE exposures DROP COLUMN batch_id")
    engine.dispose()
    log.create()
    log.create()
    assert log.claim_exposures("log-1", NOON + DAY).to_pydict()["item_id"] == ["a", "b"]


def test_the_catalogue_keeps_the_first_listing(log: EventLog) -> None:
    log.upsert_catalog(catalog(item("a"), item("b")))
    log.upsert_catalog(catalog(item("a", NOON + DAY, "CAKESTAND 3 TIER", price=10.0), item("c", NOON - DAY)))
    rows = log.read_catalog().to_pylist()
    assert [row["item_id"] for row in rows] == ["a", "b", "c"]
    assert (rows[0]["title"], rows[0]["price"]) == ("CAKESTAND 3 TIER", 10.0)
    assert (rows[0]["available_from"], rows[0]["updated_at"]) == (NOON, NOON + DAY)


def test_popularity_counts_purchases_of_listed_items(log: EventLog) -> None:
    log.upsert_catalog(catalog(item("a"), item("b"), item("c")))
    log.append([event(f"a{i}", item_id="a") for i in range(2)] + [event("b0", item_id="b")])
    log.append([event(f"p{i}", item_id="POST") for i in range(9)] + [event("return", item_id="b", quantity=-1.0)])
    log.append([event(f"old{i}", NOON - 30 * DAY, item_id="c") for i in range(9)] + [event("view", item_id="b", type="view")])
    assert log.recent_popularity(NOON - DAY, NOON + DAY, limit=10) == [("a", 2), ("b", 1)]
    assert log.recent_popularity(NOON - DAY, NOON + DAY, limit=1) == [("a", 2)]


def test_a_shop_without_purchases_counts_what_shoppers_wanted(log: EventLog) -> None:
    log.upsert_catalog(catalog(item("a"), item("b")))
    rows = [event(f"v{i}", item_id="a", type=kind, quantity=None) for i, kind in enumerate(("view", "click", "cart"))]
    log.append(
        [*rows, event("d", item_id="b", type="dismiss", quantity=None), event("out", item_id="b", type="cart", quantity=-1.0)]
    )
    assert log.recent_popularity(NOON - DAY, NOON + DAY, limit=10) == [("a", 3)]
    log.append([event("old", NOON - 30 * DAY, item_id="b")])
    assert log.recent_popularity(NOON - DAY, NOON + DAY, limit=10) == []  # it does sell, only not now


def test_a_mended_delivery_replaces_only_the_rejected_batch_s_rows(log: EventLog) -> None:
    log.append([event("a", price=1.0)])
    log.claim("log-bad", NOON + DAY)
    log.append([event("b", price=1.0)], batch_id="file-good")
    mended = [event("a", price=2.0), event("b", price=2.0), event("c", price=2.0)]
    assert log.append(mended, "file-mended", replacing=["log-bad"]) == Appended(2, 1)
    assert log.batch_event_ids("file-mended") == ["a", "c"]
    assert log.read_batch("file-mended")["price"].to_pylist() == [2.0, 2.0]
    assert log.batch_event_ids("log-bad") == []


def _work(url: str, worker: int) -> None:
    log = EventLog(url)
    log.create()
    for i in range(20):
        log.append([event(f"{worker}-{i}"), event(f"shared-{i}")])
        log.claim(f"log-{worker}-{i}", NOON + DAY)
    log.close()


def test_processes_at_once_lose_and_double_nothing(url: str) -> None:
    workers = [multiprocessing.get_context("spawn").Process(target=_work, args=(url, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    log = EventLog(url)
    taken = [i for n in range(2) for j in range(20) for i in log.batch_event_ids(f"log-{n}-{j}")]
    log.close()
    assert len(taken) == len(set(taken)) == 60


def test_a_database_that_is_away_says_so() -> None:
    with pytest.raises(ServiceUnavailable, match=r"ENDCAP_EVENT_LOG_URL") as caught:
        EventLog("postgresql+psycopg://shop:hush@127.0.0.1:1/none").history("u1", 1)
    assert "hush" not in str(caught.value)


def test_a_full_disk_leaves_the_log_whole(tmp_path: Path) -> None:
    log = EventLog(f"sqlite:///{tmp_path}/events.db")
    log.create()
    log.append([event("a")])
    with log._engine.connect() as connection:  # SQLite's own way to meet its end of space
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(ServiceUnavailable, match="full"):
        log.append([event(f"e{i}", item_id="x" * 500) for i in range(1000)])
    log.claim("log-1", NOON + DAY)
    assert log.batch_event_ids("log-1") == ["a"]
    log.close()
