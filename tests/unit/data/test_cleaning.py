"""The rules of cleaning, each on a hand-made shop, and their sum on the real one where it is at hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from endcap import contracts
from endcap.data.cleaning import RULES, Cleaned, clean

NOON = datetime(2011, 11, 7, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CODES = r"^\d{5}[A-Za-z]*$"
NOTHING = contracts.dataset_event_schema().empty_table()


def event(event_id: str, quantity: float | None = 1.0, hours: int = 0, **values: Any) -> dict[str, Any]:
    defaults = {"type": "purchase", "user_id": "u1", "item_id": "22423", "price": 12.75}
    return {"event_id": event_id, "time": NOON + hours * HOUR, "quantity": quantity} | defaults | values


def run(*rows: dict[str, Any], known: pa.Table = NOTHING, codes: str | None = CODES) -> Cleaned:
    items = [
        {"item_id": code, "title": code, "available_from": NOON, "updated_at": NOON} for code in ("22423", "85123A", "POST")
    ]
    catalog = pa.Table.from_pylist(items, schema=contracts.catalog_schema())
    return clean(pa.Table.from_pylist(list(rows), schema=contracts.event_schema()), catalog, known, code_pattern=codes)


def kept(cleaned: Cleaned) -> list[str]:
    return list(cleaned.events["event_id"].to_pylist())


def only(cleaned: Cleaned, **expected: int) -> bool:
    return cleaned.counts == dict.fromkeys(RULES, 0) | expected


def test_each_rule_drops_its_rows_and_counts_them() -> None:
    cases = {
        "missing_customer": event("x", user_id=None),
        "junk_code": event("x", item_id="POST"),
        "unknown_item": event("x", item_id="99999"),
        "zero_price": event("x", price=0.0),
        "non_positive_quantity": event("x", quantity=0.0),
        "cancellation_unpaired": event("x", quantity=-1.0, item_id="85123A"),
    }
    for rule, row in cases.items():
        cleaned = run(event("good"), row)
        assert kept(cleaned) == ["good"], rule
        assert only(cleaned, **{rule: 1}), (rule, cleaned.counts)


def test_a_row_is_counted_by_the_first_rule_that_takes_it() -> None:
    assert only(run(event("x", user_id=None, item_id="POST", price=0.0)), missing_customer=1)


def test_views_need_neither_price_nor_quantity() -> None:
    assert kept(run(event("v", None, type="view", price=None))) == ["v"]


def test_a_full_return_marks_its_purchase() -> None:
    cleaned = run(event("buy", 6), event("other", 6, user_id="u2"), event("back", -6, hours=2))
    assert cleaned.events["cancelled_at"].to_pylist() == [NOON + 2 * HOUR, None]
    assert only(cleaned, cancellation_paired=1)


def test_a_return_takes_the_newest_purchase_before_it_and_none_twice() -> None:
    bought = [event("a", 6), event("b", 6, hours=1), event("later", 6, hours=9)]
    cleaned = run(*bought, event("back1", -6, hours=2), event("back2", -6, hours=3), event("back3", -6, hours=4))
    when = dict(zip(kept(cleaned), cleaned.events["cancelled_at"].to_pylist(), strict=True))
    assert when == {"b": NOON + 2 * HOUR, "a": NOON + 3 * HOUR, "later": None}
    assert only(cleaned, cancellation_paired=2, cancellation_unpaired=1)


def test_a_partial_return_leaves_the_purchase() -> None:
    cleaned = run(event("buy", 6), event("back", -2, hours=1))
    assert cleaned.events["cancelled_at"].to_pylist() == [None]
    assert only(cleaned, cancellation_partial=1)


def test_a_return_finds_purchases_of_earlier_versions() -> None:
    before = run(event("old", 6), event("gone", 3))
    cleaned = run(event("back", -6, hours=24), known=before.events)
    assert cleaned.cancelled.to_pylist() == [{"event_id": "old", "time": NOON, "cancelled_at": NOON + 24 * HOUR}]
    assert kept(cleaned) == []
    index = before.events.schema.get_field_index("cancelled_at")
    undone = before.events.set_column(index, "cancelled_at", pa.array([NOON] * 2, pa.timestamp("us", tz="UTC")))
    assert only(run(event("again", -6, hours=25), known=undone), cancellation_unpaired=1)


def test_duplicate_lines_are_kept_and_reported() -> None:
    cleaned = run(event("a"), event("b"), event("c", quantity=2.0))
    assert kept(cleaned) == ["a", "b", "c"]
    assert only(cleaned, duplicate_line=1)


def test_the_catalogue_loses_junk_codes() -> None:
    assert run().catalog["item_id"].to_pylist() == ["22423", "85123A"]


def test_without_a_pattern_every_code_is_an_item() -> None:
    cleaned = run(event("x", item_id="POST"), codes=None)
    assert kept(cleaned) == ["x"]
    assert "POST" in cleaned.catalog["item_id"].to_pylist()


def test_what_was_taken_out_of_the_basket_is_not_learnt() -> None:
    assert only(run(event("x", -1, type="cart")), non_positive_quantity=1)


def test_the_result_fits_the_dataset() -> None:
    cleaned = run(event("b", hours=1), event("a"))
    assert cleaned.events.schema.equals(contracts.dataset_event_schema())
    assert kept(cleaned) == ["a", "b"]
    assert only(run())
