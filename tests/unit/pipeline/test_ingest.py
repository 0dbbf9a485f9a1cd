"""Batches from arrival to version: nothing lost, nothing twice, and a bad one changes nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fixtures.poison import poisoned

from endcap import contracts
from endcap.config import Settings
from endcap.data.events import EventLog
from endcap.data.partitions import read_events, read_exposures
from endcap.data.versions import DatasetRepository
from endcap.errors import BatchRejected, InputError
from endcap.pipeline import ingest, quarantine
from endcap.pipeline.landing import land_file, land_tables, state_of

START = datetime(2011, 11, 7, tzinfo=UTC)
DAY = timedelta(days=1)
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
CODES = r"\d{5}"
ITEMS = [f"{22000 + n}" for n in range(5)]


def catalog() -> pa.Table:
    rows = [{"item_id": i, "title": f"ITEM {i}", "price": 2.0, "available_from": START, "updated_at": START} for i in ITEMS]
    return pa.Table.from_pylist([*rows, rows[0] | {"item_id": "POST", "title": "POSTAGE"}], schema=contracts.catalog_schema())


def row(event_id: str, at: datetime, **values: Any) -> dict[str, Any]:
    defaults = {"type": "purchase", "user_id": "0" * 16, "item_id": ITEMS[0], "quantity": 1.0, "price": 2.0, "country": "EIRE"}
    return {"event_id": event_id, "time": at} | defaults | values


def week(first: int = 0, start: datetime = START, count: int = 40) -> pa.Table:
    rows = [
        row(f"e-{first + n}", start + n * timedelta(hours=4), user_id=f"{n % 7:016x}", item_id=ITEMS[n % 5])
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=contracts.event_schema())


def take(source: str = "log", start: datetime = START, end: datetime = START + 7 * DAY) -> dict[str, Any]:
    """All steps, as the DAG runs them."""
    batch = ingest.collect_batch(start.isoformat(), end.isoformat(), source)["batch_id"]
    if not ingest.validate_batch(batch)["passed"]:
        quarantine.quarantine_batch(batch)
    cleaned = ingest.clean_batch(batch)
    return {"batch": batch, "cleaned": cleaned} | ingest.version_dataset(batch)


def dataset(settings: Settings, folder: Path) -> pa.Table:
    DatasetRepository(settings.paths, settings.dvc_remote_url).checkout("latest", folder / "checkout")
    return read_events(folder / "checkout")


@pytest.fixture
def log(settings: Settings) -> EventLog:
    log = EventLog(settings.event_log_url)
    log.create()
    log.upsert_catalog(catalog())
    return log


def test_a_file_of_history_becomes_the_first_version(settings: Settings, tmp_path: Path) -> None:
    landed = land_tables(week(), catalog(), source="history", settings=settings, code_pattern=CODES)
    made = take(landed["batch_id"])
    assert (made["dataset_version"], made["events"], made["skipped"]) == ("dataset-1", 40, False)
    assert dataset(settings, tmp_path).num_rows == 40
    assert len(EventLog(settings.event_log_url).history("0" * 16, 100)) == 6  # serving knows the histories
    card = DatasetRepository(settings.paths, settings.dvc_remote_url).latest()
    assert (card.users, card.items, card.interval_start, card.interval_end) == (7, 5, START, START + 7 * DAY)
    assert card.validation["passed"]
    assert (settings.paths.reports / card.validation["report"]).exists()


def test_a_week_from_the_log_is_added_and_its_returns_reach_back(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    log.append(week())
    assert take()["dataset_version"] == "dataset-1"
    later = [row("r-1", START + 8 * DAY, item_id=ITEMS[0], quantity=-1.0), row("n-1", START + 8 * DAY, item_id=ITEMS[1])]
    log.append([*later, row("late", START + DAY)])
    made = take(start=START + 7 * DAY, end=START + 14 * DAY)
    assert (made["dataset_version"], made["events"]) == ("dataset-2", 2)
    assert made["cleaned"]["cancellation_paired"] == 1
    events = dataset(settings, tmp_path).to_pandas().set_index("event_id")
    assert len(events) == 42
    assert events["cancelled_at"].notna().sum() == 1
    assert events.loc["e-35", "cancelled_at"] == START + 8 * DAY  # the newest purchase before it
    assert made["cleaned"]["events"] == 2


def slate(request_id: str, at: datetime, items: list[str]) -> list[dict[str, Any]]:
    about = {"request_id": request_id, "user_id": "0" * 16, "surface": "home", "time": at, "score": 0.5, "propensity": 1.0}
    about |= {"policy": "greedy", "model_version": "3", "fallback": False}
    return [about | {"item_id": item, "rank": rank} for rank, item in enumerate(items, start=1)]


def exposed(settings: Settings, folder: Path) -> list[str]:
    """The requests of the newest version."""
    DatasetRepository(settings.paths, settings.dvc_remote_url).checkout("latest", folder / "checkout")
    return sorted(set(read_exposures(folder / "checkout")["request_id"].to_pylist()))


def test_what_was_shown_goes_into_the_version_with_its_batch(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    log.append(week())
    log.append_exposures(slate("r1", START + DAY, ITEMS[:3]) + slate("r2", START + 8 * DAY, ITEMS[:2]))
    take()
    assert exposed(settings, tmp_path) == ["r1"]
    log.append_exposures(slate("late", START + 2 * DAY, ITEMS[:1]))
    take(land_tables(week(50, START + 7 * DAY), source="a file", settings=settings)["batch_id"])  # files carry them as well
    assert exposed(settings, tmp_path) == ["late", "r1", "r2"]
    card = DatasetRepository(settings.paths, settings.dvc_remote_url).latest()
    assert (card.exposures, card.added_events) == (6, 40)


def test_what_was_shown_waits_for_a_batch_that_makes_a_version(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    log.append_exposures(slate("r1", START + DAY, ITEMS[:3]))
    assert take()["dataset_version"] is None  # no event came
    log.append([*week(start=START + 7 * DAY).to_pylist(), row("x", START + 8 * DAY, price=200_000.0)])
    with pytest.raises(BatchRejected):
        take(start=START + 7 * DAY, end=START + 14 * DAY)
    log.append(week(100, START + 14 * DAY))
    take(start=START + 14 * DAY, end=START + 21 * DAY)
    assert exposed(settings, tmp_path) == ["r1"]


def test_a_version_of_a_shop_that_shows_nothing_is_as_before(settings: Settings, tmp_path: Path) -> None:
    take(land_tables(week(), catalog(), source="history", settings=settings)["batch_id"])
    assert exposed(settings, tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "checkout").iterdir()) == ["catalog.parquet", "dataset.json", "events"]


def test_the_same_interval_again_gives_the_same_and_adds_nothing(settings: Settings, log: EventLog) -> None:
    log.append(week())
    first = take()
    log.append([row("late", START + DAY)])
    assert take() == first | {"skipped": True}  # the dataset is not announced again
    assert len(DatasetRepository(settings.paths, settings.dvc_remote_url).versions()) == 1


def test_an_empty_interval_makes_no_version(settings: Settings, log: EventLog) -> None:
    made = take()
    assert made == {**made, "dataset_version": None, "events": 0, "skipped": True}
    log.append(week(start=START + 7 * DAY))
    take(start=START + 7 * DAY, end=START + 14 * DAY)
    assert take(start=START + 14 * DAY, end=START + 15 * DAY)["dataset_version"] == "dataset-1"


def test_a_catalogue_alone_makes_a_version_but_moves_no_clock(settings: Settings) -> None:
    take(land_tables(week(), catalog(), source="history", settings=settings, code_pattern=CODES)["batch_id"])
    new = catalog().slice(0, 1).to_pandas().assign(item_id="23000", title="NEW")
    table = pa.Table.from_pandas(new, schema=contracts.catalog_schema(), preserve_index=False)
    made = take(land_tables(None, table, source="news", start=START, end=START + 30 * DAY, settings=settings)["batch_id"])
    assert (made["dataset_version"], made["events"]) == ("dataset-2", 0)
    card = DatasetRepository(settings.paths, settings.dvc_remote_url).latest()
    assert (card.items, card.added_events) == (6, 0)
    assert card.interval_end < START + 7 * DAY


def test_the_same_file_is_taken_once(settings: Settings) -> None:
    first = land_tables(week(), catalog(), source="history", settings=settings)
    assert land_tables(week(), catalog(), source="history", settings=settings)["state"] == "waiting"
    made = take(first["batch_id"])
    again = land_tables(week(), catalog(), source="history", settings=settings)
    assert (again["state"], again["batch_id"]) == ("taken", first["batch_id"])
    assert take(first["batch_id"])["dataset_version"] == made["dataset_version"]


def test_events_that_came_before_are_not_taken_twice(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    log.append(week(count=10))  # by HTTP, not yet collected
    made = take(land_tables(week(count=12), source="an overlapping file", settings=settings)["batch_id"])
    assert (made["events"], made["cleaned"]["already_known"]) == (2, 10)
    assert take(end=START + 9 * DAY)["events"] == 10
    assert dataset(settings, tmp_path).num_rows == 12


def test_a_poisoned_batch_is_quarantined_whole_and_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    take(land_tables(week(), catalog(), source="history", settings=settings)["batch_id"])
    frame = poisoned(week(first=100), pd.Timestamp.now(tz="UTC"))
    landed = land_tables(frame, source="poisoned", settings=settings)
    with pytest.raises(BatchRejected) as caught:
        take(landed["batch_id"])
    for word in ("missing country", "a dozen", "occurs once", "from the future", "in cents"):
        assert word in str(caught.value), word
    folder = settings.paths.quarantine / landed["batch_id"]
    assert {"raw.parquet", "batch.json", "problems.json", "reason.json", "validation.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not (settings.paths.batches / landed["batch_id"]).exists()
    reason = json.loads((folder / "reason.json").read_text())
    page = settings.paths.reports / "validation" / landed["batch_id"] / "events.html"
    assert reason["report_url"].endswith(str(page.relative_to(settings.paths.reports)))
    assert "Rejected" in page.read_text()
    assert dataset(settings, tmp_path).num_rows == 40
    assert EventLog(settings.event_log_url).batch_event_ids(landed["batch_id"]) == []
    assert land_tables(frame, source="poisoned", settings=settings)["state"] == "quarantined"
    for again in (lambda: take(landed["batch_id"]), lambda: quarantine.quarantine_batch(landed["batch_id"])):
        with pytest.raises(BatchRejected, match="rejected whole"):
            again()


def test_a_mended_suite_may_judge_a_batch_again(settings: Settings, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append([*week().to_pylist(), row("x", START, price=200_000.0)])
    with pytest.raises(BatchRejected, match=r"at most params.yaml: ingest.max_price"):
        take()
    params = ingest.load_params()
    raised = params.model_copy(update={"ingest": params.ingest.model_copy(update={"max_price": 1e6})})
    monkeypatch.setattr(ingest, "load_params", lambda: raised)
    quarantine.release_batch("log-20111107T000000-20111114T000000")
    assert take()["events"] == 41
    with pytest.raises(InputError, match="not in quarantine"):
        quarantine.release_batch("log-20111107T000000-20111114T000000")


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("yesterday", "2011-11-07T00:00:00+00:00", "interval_start: is no time"),
        ("2011-11-07T00:00:00", "2011-11-08T00:00:00+00:00", "no time zone"),
        ("2011-11-08T00:00:00+00:00", "2011-11-07T00:00:00+00:00", "not before interval_end"),
    ],
)
def test_a_wrong_interval_is_named(settings: Settings, start: str, end: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ingest.collect_batch(start, end)


def test_a_batch_that_nobody_landed_names_those_waiting(settings: Settings) -> None:
    waiting = land_tables(week(), source="history", settings=settings)["batch_id"]
    with pytest.raises(InputError, match=f"no such file batch.*{waiting}"):
        take("file-nothere")
    with pytest.raises(InputError, match="Run collect_batch first"):
        ingest.validate_batch("file-nothere")
    ingest.collect_batch(START.isoformat(), (START + DAY).isoformat(), waiting)
    with pytest.raises(InputError, match="Run validate_batch first"):
        ingest.clean_batch(waiting)


def test_a_shop_s_own_csv_lands_without_raw_ids(settings: Settings, tmp_path: Path) -> None:
    path, mapping = tmp_path / "orders.csv", tmp_path / "mapping.yaml"
    path.write_text("id,sku,at,who,qty,price\n1,22000,2011-11-07T10:00:00,customer-4711,2,1.5\n")
    columns = "{event_id: id, item_id: sku, time: at, user_id: who, quantity: qty, price: price}"
    mapping.write_text(f"columns: {columns}\nconstants: {{type: purchase}}\n")
    landed = land_file(path, mapping)
    assert (landed["state"], landed["events"]) == ("landed", 1)
    assert land_file(path, mapping)["state"] == "waiting"
    assert all(b"4711" not in file.read_bytes() for file in settings.home.rglob("*") if file.is_file())
    mapping.write_text(mapping.read_text().replace("sku", "skuu"))
    with pytest.raises(InputError, match="skuu"):
        land_file(path, mapping)
    assert land_file(path, mapping, strict=False)["problems"]


EVENTS = "columns: {event_id: id, item_id: sku, time: at}\nconstants: {type: purchase}\n"
CATALOG = "kind: catalog\ncolumns: {item_id: sku, title: name}\n"


@pytest.mark.parametrize(
    ("text", "name", "mapping"),
    [("id,sku,at\n", "events.csv", EVENTS), ("", "events.parquet", EVENTS), ("sku,name\n", "catalog.csv", CATALOG)],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_file_without_rows_is_refused(
    settings: Settings, tmp_path: Path, text: str, name: str, mapping: str, strict: bool
) -> None:
    (tmp_path / "mapping.yaml").write_text(mapping)
    (tmp_path / name).write_text(text)
    if name.endswith(".parquet"):
        pq.write_table(pa.table({column: pa.array([], pa.string()) for column in ("id", "sku", "at")}), tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: has no rows"):
        land_file(tmp_path / name, tmp_path / "mapping.yaml", strict=strict)
    assert not settings.paths.landing.exists() or not any(settings.paths.landing.iterdir())


@pytest.mark.parametrize(
    ("start", "end"), [(START + 30 * DAY, None), (START + DAY, START), (START, START), (None, START - DAY)]
)
def test_an_interval_that_ends_before_it_starts_is_refused(
    settings: Settings, start: datetime | None, end: datetime | None
) -> None:
    with pytest.raises(InputError, match=r"start: is not before the end; got '2011-.*ends at 2011-"):
        land_tables(week(), source="reversed", start=start, end=end, settings=settings)
    assert not settings.paths.landing.exists() or not any(settings.paths.landing.iterdir())


def test_a_file_from_the_future_lands_to_be_rejected(settings: Settings) -> None:
    future = week(start=datetime.now(UTC) + 30 * DAY)
    landed = land_tables(future, source="future", settings=settings)["batch_id"]
    with pytest.raises(BatchRejected, match="time"):
        take(landed)


ODD = ["SKU-1", "tea for two", "a/b/c", "žlutý kůň 🐎", "x" * 128]


def test_another_shop_s_codes_are_items(settings: Settings, tmp_path: Path) -> None:
    rows = [row(f"e-{n}", START + n * timedelta(hours=1), item_id=ODD[n % 5]) for n in range(10)]
    items = [{"item_id": i, "title": f"ITEM {i}", "available_from": START, "updated_at": START} for i in ODD]
    events, listed = (
        pa.Table.from_pylist(r, schema=s()) for r, s in ((rows, contracts.event_schema), (items, contracts.catalog_schema))
    )
    made = take(land_tables(events, listed, source="odd", settings=settings)["batch_id"])
    assert (made["events"], made["cleaned"]["junk_code"]) == (10, 0)
    assert sorted(dataset(settings, tmp_path)["item_id"].unique().to_pylist()) == sorted(ODD)


def test_the_shop_s_pattern_holds_for_later_batches_without_one(settings: Settings, log: EventLog) -> None:
    take(land_tables(week(), catalog(), source="history", settings=settings, code_pattern=CODES)["batch_id"])
    log.append([*week(50, START + 7 * DAY).to_pylist(), row("p", START + 8 * DAY, item_id="POST")])
    made = take(start=START + 7 * DAY, end=START + 14 * DAY)
    assert (made["events"], made["cleaned"]["junk_code"]) == (40, 1)


def test_a_batch_that_cleaning_would_mostly_drop_is_quarantined(settings: Settings) -> None:
    landed = land_tables(week(), catalog(), source="history", settings=settings, code_pattern=r"SKU-\d+")
    with pytest.raises(BatchRejected, match=r"max_dropped_share.*100.00 %.*such as dropped"):
        take(landed["batch_id"])
    assert not (settings.home / "shop").exists()  # a rejected delivery says nothing of the shop


@pytest.mark.parametrize("kinds", [["view", "click", "cart", "purchase"], ["view"]])
def test_views_and_clicks_are_ingested(settings: Settings, log: EventLog, tmp_path: Path, kinds: list[str]) -> None:
    sold = {"quantity": 1.0, "price": 2.0}
    bare = dict.fromkeys(sold)
    rows = [row(f"e-{n}", START + n * timedelta(hours=1), type=kinds[n % len(kinds)]) for n in range(40)]
    log.append([one | (sold if one["type"] == "purchase" else bare) for one in rows])
    assert take()["events"] == 40
    assert set(dataset(settings, tmp_path)["type"].to_pylist()) == set(kinds)


def test_orders_may_come_before_the_catalogue(settings: Settings, tmp_path: Path) -> None:
    first = take(land_tables(week(), source="orders", settings=settings)["batch_id"])
    assert (first["events"], first["dataset_version"]) == (40, "dataset-1")
    more = pa.Table.from_pylist([row("new", START + 7 * DAY, item_id="SKU-9")], schema=contracts.event_schema())
    landed = land_tables(more, source="more orders", settings=settings)["batch_id"]
    ingest.collect_batch(START.isoformat(), (START + 8 * DAY).isoformat(), landed)
    assert any("derived from the events" in warning for warning in ingest.validate_batch(landed)["warnings"])
    assert take(landed)["events"] == 1
    titles = {i["item_id"]: i["title"] for i in EventLog(settings.event_log_url).read_catalog().to_pylist()}
    assert titles[ITEMS[0]] == ITEMS[0]
    assert titles["SKU-9"] == "SKU-9"
    take(land_tables(None, catalog(), source="products", settings=settings)["batch_id"])
    item = next(i for i in EventLog(settings.event_log_url).read_catalog().to_pylist() if i["item_id"] == ITEMS[1])
    assert (item["title"], item["available_from"]) == (f"ITEM {ITEMS[1]}", START)
    unknown = pa.Table.from_pylist([row("x", START + 7 * DAY, item_id="SKU-10")], schema=contracts.event_schema())
    with pytest.raises(BatchRejected, match="nine in ten"):
        take(land_tables(unknown, source="unlisted", settings=settings)["batch_id"])


def test_a_version_whose_maker_was_killed_is_announced_by_the_next_run(settings: Settings) -> None:
    made = take(land_tables(week(), catalog(), source="history", settings=settings)["batch_id"])
    (settings.paths.batches / made["batch"] / "version.json").unlink()  # killed right after the commit
    assert ingest.version_dataset(made["batch"]) == {"dataset_version": "dataset-1", "events": 40, "skipped": False}
    assert ingest.version_dataset(made["batch"])["skipped"]


def test_a_run_killed_before_it_announced_its_version_announces_it(settings: Settings) -> None:
    landed = land_tables(week(), catalog(), source="history", settings=settings)["batch_id"]
    batch = ingest.collect_batch(START.isoformat(), (START + 7 * DAY).isoformat(), landed)["batch_id"]
    ingest.validate_batch(batch)
    ingest.clean_batch(batch)
    made = ingest.version_dataset(batch, "run-1")
    assert ingest.version_dataset(batch, "run-1") == made == {"dataset_version": "dataset-1", "events": 40, "skipped": False}
    assert ingest.version_dataset(batch, "run-2")["skipped"]
    assert ingest.version_dataset(batch)["skipped"]


@pytest.mark.parametrize("broken", ["title", "available_from", "item_id"])
def test_a_broken_catalogue_is_quarantined(settings: Settings, broken: str) -> None:
    rows = catalog().to_pylist()
    rows[1][broken] = None
    mixed = pa.Table.from_pylist(rows, schema=pa.schema([field.with_nullable(True) for field in contracts.catalog_schema()]))
    with pytest.raises(BatchRejected, match=broken):
        take(land_tables(week(), mixed, source="history", settings=settings)["batch_id"])
    assert EventLog(settings.event_log_url).read_catalog().num_rows == 0


def test_a_catalogue_of_other_types_is_quarantined(settings: Settings) -> None:
    prices = pa.array(["two pounds"] * catalog().num_rows)
    typed = catalog().set_column(catalog().column_names.index("price"), "price", prices)
    with pytest.raises(BatchRejected, match="price"):
        take(land_tables(week(), typed, source="history", settings=settings)["batch_id"])


def test_one_odd_event_does_not_hold_back_a_quiet_interval(settings: Settings, log: EventLog) -> None:
    log.append([row("a", START), row("b", START + DAY, item_id="nobody sells this"), row("c", START + DAY, price=0.0)])
    made = take()
    assert (made["events"], made["cleaned"]["unknown_item"], made["cleaned"]["zero_price"]) == (1, 1, 1)


def test_an_interval_without_events_is_warned_of_once_there_were_some(settings: Settings, log: EventLog) -> None:
    log.append(week())
    before = ingest.collect_batch((START - 7 * DAY).isoformat(), START.isoformat())["batch_id"]
    assert ingest.validate_batch(before)["warnings"] == []
    take()
    empty = ingest.collect_batch((START + 7 * DAY).isoformat(), (START + 8 * DAY).isoformat())["batch_id"]
    judged = ingest.validate_batch(empty)
    assert judged["passed"]
    assert "still sending" in judged["warnings"][0]


def test_a_batch_of_the_log_is_named_by_its_instants(settings: Settings, log: EventLog) -> None:
    log.append(week())
    first = ingest.collect_batch("2011-11-07T00:00:30+00:00", "2011-11-14T00:00:00+00:00")
    again = ingest.collect_batch("2011-11-07T02:00:30+02:00", "2011-11-14T02:00:00+02:00")
    assert first == again
    assert first["batch_id"] == "log-20111107T000030-20111114T000000"
    assert ingest.collect_batch("2011-11-07T00:00:31+00:00", "2011-11-14T00:00:00+00:00")["batch_id"] != first["batch_id"]


def test_a_rejected_batch_of_the_log_is_mended_by_a_file(settings: Settings, log: EventLog, tmp_path: Path) -> None:
    log.append([*week().to_pylist(), row("x", START, price=200_000.0)])
    with pytest.raises(BatchRejected):
        take()
    rejected = "log-20111107T000000-20111114T000000"
    kept = settings.paths.quarantine / rejected / "events.parquet"
    mended = pd.read_parquet(kept)
    mended.loc[mended["event_id"] == "x", "price"] = 2.0
    mended.to_parquet(tmp_path / "mended.parquet")
    landed = land_file(tmp_path / "mended.parquet", EXAMPLES / "mapping_contract.yaml")
    made = take(landed["batch_id"])
    assert (made["events"], made["cleaned"]["already_known"]) == (41, 0)
    assert dataset(settings, tmp_path).num_rows == 41
    quarantine.release_batch(rejected)  # judged once more, it has nothing left of its own
    params = ingest.load_params()
    assert params.ingest.max_price < 200_000
    log.append([row("y", START)])
    assert take(land_tables(week(count=3), source="again", settings=settings)["batch_id"])["cleaned"]["already_known"] == 3


def test_a_delivery_of_events_and_items_has_one_page_for_both(settings: Settings) -> None:
    landed = land_tables(week(), catalog(), source="history", settings=settings)["batch_id"]
    ingest.collect_batch(START.isoformat(), (START + 7 * DAY).isoformat(), landed)
    url = ingest.validate_batch(landed)["report_url"]
    page = settings.paths.reports / url.removeprefix(settings.reports_url + "/")
    for name in ("catalog.html", "events.html"):
        assert f'href="{name}"' in page.read_text()
        assert (page.parent / name).exists()


def _take_and_hang_after(renames: int) -> None:
    """Take the batch, and hang at the n-th rename of a file or folder, for the parent to kill."""
    done = 0
    replace, rename = Path.replace, Path.rename

    def counting(move: Any) -> Any:
        def call(self: Path, target: Any) -> Any:
            nonlocal done
            done += 1
            if done == renames:
                (Path(os.environ["ENDCAP_HOME"]) / "hanging").touch()
                time.sleep(60)
            return move(self, target)

        return call

    Path.replace, Path.rename = counting(replace), counting(rename)  # type: ignore[method-assign]
    take(next(Path(os.environ["ENDCAP_HOME"], "landing").glob("file-*")).name)


@pytest.mark.parametrize("renames", [1, 3, 5, 8])
def test_a_killed_run_is_finished_by_the_next(settings: Settings, tmp_path: Path, renames: int) -> None:
    batch = land_tables(week(), catalog(), source="history", settings=settings)["batch_id"]
    worker = multiprocessing.get_context("fork").Process(target=_take_and_hang_after, args=(renames,))
    worker.start()
    while not (settings.home / "hanging").exists() and worker.is_alive():
        time.sleep(0.02)
    assert worker.is_alive(), "the run ended before it was killed"
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    assert state_of(settings.paths, batch) in ("waiting", "taken")
    assert take(batch)["events"] == 40
    assert dataset(settings, tmp_path).num_rows == 40
    assert len(DatasetRepository(settings.paths, settings.dvc_remote_url).versions()) == 1
