"""What is known and listed when a week begins, and nothing later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.benchmark_files import write

from endcap.benchmark.updates.shop import WEEK, WeeklyShop, from_files, online_retail, week_starts
from endcap.errors import InputError

START = datetime(2011, 2, 7, tzinfo=UTC)
DAYS = [START - timedelta(days=3), START - timedelta(days=2), START + timedelta(days=1), START + timedelta(days=8)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    events = write(tmp_path / "e.parquet", user=["ann", "bob", "ann", "bob"], item=["mug", "cup", "jug", "mug"], timestamp=DAYS)
    return events, write(tmp_path / "i.parquet", item=["cup", "mug", "pot"], title=["A cup", "A mug", "A pot"])


def test_an_item_without_text_is_listed_from_its_first_event_on(files: tuple[Path, Path]) -> None:
    shop = from_files(*files, START, 2)
    names = [[str(shop.events.item_ids[code]) for code in shop.listed(week)] for week in shop.weeks]
    assert names == [["cup", "mug", "pot"], ["cup", "jug", "mug", "pot"]]
    assert list(shop.catalog(shop.weeks[1])["item_id"]) == names[1]
    assert shop.text(np.arange(4, dtype=np.float32)[:, None], shop.weeks[0]).ravel().tolist() == [0, 2, 3]
    assert shop.text(None, shop.weeks[1]).tolist() == [[0]] * 4


def test_what_is_known_has_the_vocabulary_of_what_is_listed(files: tuple[Path, Path]) -> None:
    shop = from_files(*files, START, 2)
    for week in (*shop.weeks, shop.weeks[1] + WEEK):
        known = shop.known(week)
        assert list(known.item_ids) == list(shop.catalog(week)["item_id"])
        wanted = shop.events.known_at(week)
        assert [known.item_ids[code] for code in known.items] == [wanted.item_ids[code] for code in wanted.items]


def test_a_week_holds_who_took_something_in_it(files: tuple[Path, Path]) -> None:
    shop = from_files(*files, START, 2)
    first, second = (shop.cases(week) for week in shop.weeks)
    assert (list(first.user_ids), list(second.user_ids)) == (["ann"], ["bob"])
    assert [str(shop.events.item_ids[code]) for code in first.wanted_codes] == ["jug"]
    assert [str(item) for item in second.histories[0].item_ids] == ["cup"]


@pytest.mark.parametrize(("start", "weeks"), [(DAYS[0], 1), (START, 3), (START + timedelta(days=60), 1)])
def test_weeks_outside_the_events_are_named(files: tuple[Path, Path], start: datetime, weeks: int) -> None:
    with pytest.raises(InputError, match="outside the events"):
        from_files(*files, start, weeks)


def test_weeks_need_times_that_differ(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", user=["a", "b"], item=["b", "b"], timestamp=[15_000, 15_000])
    with pytest.raises(InputError, match="timestamp: all events are of one moment; got '2011-01-26"):
        from_files(path, None, START, 1)


def test_weeks_need_times(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weeks need times"):
        from_files(write(tmp_path / "e.csv", user=["a"], item=["b"]), None, START, 1)


def test_weeks_start_in_utc() -> None:
    abroad = datetime.fromisoformat("2011-02-07T03:00:00+05:00")
    assert [week.isoformat() for week in week_starts(abroad, 2)] == ["2011-02-06T22:00:00+00:00", "2011-02-13T22:00:00+00:00"]
    assert week_starts(START.replace(tzinfo=None), 1) == (START,)
    with pytest.raises(InputError, match="beyond the calendar"):
        week_starts(datetime.fromisoformat("0001-01-01T00:00:00+05:00"), 1)


def test_online_retail_is_cleaned_and_named_as_of_each_week(tmp_path: Path) -> None:
    """A cancellation, a nameless customer, a gift, a fee and a giveaway are left out; a later name is not used."""
    rows = [
        ("1", "10001", "MUG", 2, DAYS[0], 1.5, 7.0), ("2", "10002A", "CUP", 1, DAYS[1], 2.0, 8.0),
        ("C3", "10001", "MUG", -2, DAYS[1], 1.5, 7.0), ("4", "10001", "MUG", 1, DAYS[1], 1.5, np.nan),
        ("5", "POST", "POSTAGE", 1, DAYS[1], 9.0, 7.0), ("6", "10001", "MUG", 1, DAYS[1], 0.0, 7.0),
        ("7", "10003", "JUG", 1, DAYS[2], 1.0, 7.0), ("8", "10001", "MUG, NEW", 1, DAYS[3], 1.5, 8.0),
        ("9", "10001", "MUG, NEW", 1, DAYS[3], 1.5, 8.0), ("10", "10001", "MUG, NEW", 1, DAYS[3], 1.5, 9.0),
    ]  # fmt: skip
    names = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"]
    frame = pd.DataFrame(rows, columns=names).assign(Country="France")
    frame["InvoiceDate"] = pd.to_datetime(frame["InvoiceDate"]).dt.tz_localize(None)
    (tmp_path / "online_retail").mkdir()
    frame.to_parquet(tmp_path / "online_retail" / "online_retail.parquet")
    shop: WeeklyShop = online_retail(tmp_path, tmp_path / "cache", START, 2)
    assert list(shop.events.item_ids) == ["10001", "10002A", "10003"]
    assert len(shop.events) == 6
    assert shop.texts == ("MUG", "CUP", "JUG")
    assert [len(shop.listed(week)) for week in shop.weeks] == [2, 3]


def test_weeks_without_a_buyer_or_beyond_the_calendar_are_named(tmp_path: Path) -> None:
    days = [START - timedelta(days=3), START - timedelta(days=2), START + timedelta(days=1)]
    kinds = ["purchase", "purchase", "view"]
    path = write(tmp_path / "e.parquet", user=["ann", "bob", "ann"], item=["mug", "cup", "mug"], timestamp=days, type=kinds)
    with pytest.raises(InputError, match="nobody buys in these weeks"):
        from_files(path, None, START, 1)
    with pytest.raises(InputError, match="beyond the calendar"):
        from_files(path, None, START, 1_000_000)
