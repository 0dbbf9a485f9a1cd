"""The contracts: a good batch passes every suite, and each kind of poison is named by its own check."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from endcap import contracts
from endcap.config import Params
from endcap.contracts import DatasetVersion
from endcap.data import batch_checks
from endcap.data.validation import Validation, ValidationContext, validate
from endcap.errors import ConfigError, InputError

SUITES = Path(__file__).resolve().parents[3] / "expectations"
START = datetime(2011, 11, 7, tzinfo=UTC)
DAY = timedelta(days=1)
END = START + 7 * DAY
ROWS = 100


def catalog(price: float = 2.0) -> pa.Table:
    rows = [
        {"item_id": f"{22000 + n}", "title": f"ITEM {n}", "price": price + n / 10, "available_from": START, "updated_at": START}
        for n in range(10)
    ]
    return pa.Table.from_pylist(rows, schema=contracts.catalog_schema())


def events() -> pd.DataFrame:
    number = np.arange(ROWS)
    frame = pd.DataFrame(
        {
            "event_id": [f"e-{n}" for n in number],
            "type": "purchase",
            "user_id": [f"{n % 20:016x}" for n in number],
            "item_id": [f"{22000 + n % 10}" for n in number],
            "time": pd.Timestamp(START) + pd.to_timedelta(number, unit="h"),
            "quantity": 1.0,
            "price": 2.0 + (number % 10) / 10,
        }
    )
    return frame.assign(request_id=None, surface=None, country="EIRE")


def exposures() -> pd.DataFrame:
    frame = pd.DataFrame(
        {"request_id": [f"req-{n // 10:032x}" for n in range(ROWS)], "rank": [n % 10 + 1 for n in range(ROWS)]}
    )
    frame["item_id"] = [f"{22000 + n % 10}" for n in range(ROWS)]
    fixed = {"user_id": "0" * 16, "surface": "home", "time": START, "score": 0.5, "propensity": 1.0, "policy": "greedy"}
    return frame.assign(**fixed, model_version="3", fallback=False)


def judge(suite: str, frame: pd.DataFrame, tmp_path: Path, params: Params, **changes: Any) -> Validation:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    seen = batch_checks.catalog_frame(table, catalog()) if suite == "catalog" else batch_checks.event_frame(table, catalog())
    values = batch_checks.parameters(params.ingest, START, END, []) | changes
    return validate(suite, seen, ValidationContext(SUITES, tmp_path, "batch-1", values))


GOOD = {
    "events": events,
    "exposures": exposures,
    "catalog": lambda: catalog().to_pandas(),
    "training_features": lambda: events()[["user_id", "item_id", "time", "quantity"]],
}


@pytest.mark.parametrize("suite", GOOD)
def test_a_good_batch_passes_every_check(suite: str, tmp_path: Path, params: Params) -> None:
    result = judge(suite, GOOD[suite](), tmp_path, params)
    assert [check for check in result.checks if not check.passed] == []
    assert result.passed
    page = result.report.read_text()
    assert "Accepted" in page
    assert "Failed" not in page


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.json")), ids=lambda path: path.stem)
def test_every_expectation_says_what_it_protects_and_how_much_it_counts(path: Path) -> None:
    for one in json.loads(path.read_text())["expectations"]:
        assert one["severity"] in ("critical", "warning")
        assert one["notes"].endswith(".")


def put(column: str, value: Any, rows: int = ROWS) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].astype(object)
        values.iloc[:rows] = value
        return frame.assign(**{column: values.infer_objects()})

    return change


POISONS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing column": ("events", lambda f: f.drop(columns="quantity"), "Every column.*missing quantity"),
    "unreadable value": (
        "events",
        lambda f: f.assign(unreadable=None).pipe(put("unreadable", "quantity='x'", 1)),
        "quantity='x'",
    ),
    "duplicate ids": ("events", put("event_id", "e-1", 2), "id occurs once"),
    "no event id": ("events", put("event_id", None, 1), "has an id"),
    "unknown type": ("events", put("type", "stolen", 1), "type is one"),
    "raw user id": ("events", put("user_id", "17850", 1), "raw id never gets in.*17850"),
    "unknown items": ("events", put("item_id", "99999", 20), "nine in ten.*99999"),
    "future": ("events", put("time", pd.Timestamp(END + timedelta(minutes=6)), 1), "from the future"),
    "wrong unit of time": ("events", put("time", pd.Timestamp("1970-01-16", tz="UTC"), 1), "older than online shops"),
    "infinite price": ("events", put("price", float("inf"), 1), "Prices are finite.*inf"),
    "minus infinite price": ("events", put("price", float("-inf"), 1), "minus"),
    "no prices": ("events", put("price", None, 2), "99 % of the purchases have a price"),
    "no quantities": ("events", put("quantity", None, 2), "99 % of the purchases have a quantity"),
    "event id too long": ("events", put("event_id", "2" * 50_000, 1), "Event ids have at most 128 .*1.00 %"),
    "event id with a zero byte": ("events", put("event_id", "e\x00", 1), r"Event ids have.*'e\\x00'"),
    "blank event id": ("events", put("event_id", "\u3000", 1), "Event ids have.*not blank"),
    "empty item id": ("events", put("item_id", "", 1), "Item ids have.*not blank"),
    "request id too long": ("events", put("request_id", "2" * 129, 1), "Request ids have at most 128"),
    "request id with a line break": ("events", put("request_id", "req\n1", 1), "Request ids have.*control"),
    "country too long": ("events", put("country", "E" * 50_000, 1), "Countries have at most 64"),
    "country with a control character": ("events", put("country", "EIRE\x7f", 1), "Countries have"),
    "unknown surface": ("events", put("surface", "moon", 1), "surface is one.*moon"),
    "item id too long": ("events", put("item_id", "2" * 129, 1), "at most 128 characters"),
    "item id with a zero byte": ("catalog", put("item_id", "2\x00", 1), "control character"),
    "mostly given away": ("events", put("price", 0.0, 61), "better part.*61.00 %.*such as dropped"),
    "learnt after the split": ("training_features", put("time", pd.Timestamp(END + DAY), 1), "leak from the future"),
    "infinite quantity": ("events", put("quantity", float("inf"), 1), "human size"),
    "cents": ("events", lambda f: f.assign(price=f["price"] * 100), "in cents.*Found 100, allowed"),
    "catalogue in cents": ("catalog", lambda f: f.assign(price=f["price"] * 100), "known catalogue's currency"),
    "duplicate items": ("catalog", put("item_id", "22001", 3), "item occurs once"),
    "no title": ("catalog", put("title", None, 1), "has a title"),
    "rank shown twice": ("exposures", put("rank", 1, 3), "one item at a rank"),
    "zero propensity": ("exposures", put("propensity", 0.0, 1), "above zero"),
    "return learnt": ("training_features", put("quantity", -1.0, 1), "Returns are not learnt"),
}


@pytest.mark.parametrize("poison", POISONS)
def test_poison_blocks_and_is_named(poison: str, tmp_path: Path, params: Params, caplog: pytest.LogCaptureFixture) -> None:
    suite, change, words = POISONS[poison]
    result = judge(suite, change(GOOD[suite]()), tmp_path, params)
    assert not result.passed
    assert any(pd.Series([reason]).str.contains(words).all() for reason in result.reasons), result.reasons
    assert all(len(reason) < 1000 for reason in result.reasons)
    page = result.report.read_text()
    assert "Rejected" in page
    assert caplog.text == ""  # the library says there what it could not render
    assert "http" not in page.split("</style>")[1]  # it needs no network


MILD = {
    "few unknown items": (put("item_id", "99999", 5), "dropped by cleaning"),
    "a negative price": (put("price", -5.0, 1), "No price is negative"),
    "mostly strangers": (put("user_id", None, 60), "say who it was"),
    "nothing of the interval": (lambda f: f.assign(time=f["time"] - timedelta(days=30)), "fresh"),
}


@pytest.mark.parametrize("case", MILD)
def test_a_warning_does_not_block(case: str, tmp_path: Path, params: Params) -> None:
    change, words = MILD[case]
    result = judge("events", change(events()), tmp_path, params)
    assert result.passed
    assert any(words in warning for warning in result.warnings), result.warnings
    assert "Failed" not in result.report.read_text()


def test_views_need_neither_quantity_nor_price(tmp_path: Path, params: Params) -> None:
    for rows in (ROWS, 99):  # with 99 of 100 a view, the one purchase must have both
        viewed = events().pipe(put("type", "view", rows)).pipe(put("price", None, rows)).pipe(put("quantity", None, rows))
        assert judge("events", viewed.astype({"price": float, "quantity": float}), tmp_path, params).passed
    bare = viewed.assign(price=np.nan).astype({"quantity": float})
    assert any("purchases have a price" in reason for reason in judge("events", bare, tmp_path, params).reasons)


def test_unknown_shoppers_do_not_count_as_dropped(tmp_path: Path, params: Params) -> None:
    given = events().pipe(put("price", 0.0, 61)).pipe(put("user_id", None, 61))
    assert judge("events", given, tmp_path, params).passed


def test_codes_that_are_none_of_the_shop_s_are_named() -> None:
    table = pa.Table.from_pandas(events().pipe(put("item_id", "POST", 5)), preserve_index=False)
    seen = batch_checks.event_frame(table, catalog(), r"\d{5}")
    assert seen["junk_item_id"].dropna().unique().tolist() == ["POST"]
    assert (seen["cleaning"] == "dropped").sum() == 5
    assert "junk_item_id" not in batch_checks.event_frame(table, catalog())


def test_without_a_catalogue_items_come_from_their_events() -> None:
    nothing = catalog().slice(0, 0)
    table = pa.Table.from_pandas(events(), preserve_index=False)
    derived = batch_checks.known_items(nothing, table)
    first = derived.to_pylist()[0]
    assert (derived.num_rows, first["title"], first["price"], first["available_from"]) == (10, "22000", 2.0, START)
    assert not batch_checks.is_listed(derived)
    assert batch_checks.known_items(catalog().slice(0, 9), table).num_rows == 9  # a shop with a catalogue must list its items


def version(number: int, rows: int) -> DatasetVersion:
    times = {"created_at": END, "interval_start": START, "interval_end": END}
    counts = {"events": rows, "users": 1, "items": 1, "added_events": rows}
    return DatasetVersion(f"dataset-{number}", parent=None, batch_id="b", digest="", code_commit="", **times, **counts)  # type: ignore[arg-type]


def test_volume_is_compared_with_the_last_versions(tmp_path: Path, params: Params) -> None:
    ratio = (0.5, 2.0)
    assert batch_checks.expected_rows([], 7, ratio) == (1, 10**12)
    assert batch_checks.expected_rows([version(1, 7_000), version(2, 700), version(3, 0)], 7, ratio) == (1925, 7701)
    low, high = batch_checks.expected_rows([version(1, 7_000)], 7, ratio)
    few = judge("events", events(), tmp_path, params, min_rows=low, max_rows=high)
    assert any("As many events a day" in reason and "allowed at least 3500" in reason for reason in few.reasons)


def test_an_empty_frame_and_an_unknown_suite_are_errors(tmp_path: Path, params: Params) -> None:
    with pytest.raises(InputError, match="no rows"):
        judge("events", events().head(0), tmp_path, params)
    with pytest.raises(ConfigError, match="orders"):
        judge("orders", events(), tmp_path, params)
    context = ValidationContext(SUITES, tmp_path, "batch-1", {})
    with pytest.raises(ConfigError, match="min_rows"):
        validate("events", events(), context)


def test_merging_catalogues_keeps_the_first_listing() -> None:
    later = catalog(9.0).slice(0, 1).to_pandas().assign(available_from=END, title="NEW NAME")
    merged = batch_checks.merge_catalogs(catalog(), pa.Table.from_pandas(later, schema=contracts.catalog_schema()))
    first = merged.to_pylist()[0]
    assert merged.num_rows == 10
    assert (first["title"], first["price"], first["available_from"]) == ("NEW NAME", 9.0, START)
