"""Features of (shopper, item) pairs, by hand for two shoppers, and in odd shops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from endcap.data.features import TYPE_CODES, TYPES
from endcap.models.history import HistoryBatch
from endcap.models.item_facts import ITEM_FACTS, ItemFacts
from endcap.models.ranking_features import FEATURES, FITS, LIKENESS, features, places

ITEMS = 4
BUY, VIEW = TYPE_CODES["purchase"], TYPE_CODES["view"]
TARGETS = np.array([name == "purchase" for name in TYPES])
FACTS = ItemFacts(np.arange(ITEMS * len(ITEM_FACTS), dtype=np.float32).reshape(ITEMS, -1))


def batch(*events: tuple[float, ...], size: int = 2) -> HistoryBatch:
    """Events (row, code, days ago, type, 1 or pieces, nothing or a price), by row, then the oldest first."""
    whole = [(*event, 1.0, np.nan)[:6] if len(event) == 4 else event for event in events]
    rows, codes, ages, types, pieces, prices = np.array(sorted(whole, key=lambda e: (e[0], -e[2]))).reshape(-1, 6).T
    return HistoryBatch(
        size=size,
        rows=rows.astype(int),
        codes=codes.astype(int),
        ages=ages.astype(np.float32),
        types=types.astype(int),
        now_us=0,
        quantities=pieces.astype(np.float32),
        prices=prices.astype(np.float32),
        surfaces=np.zeros(len(rows), np.int64),
        countries=np.zeros(len(rows), np.int64),
    )


def likeness(size: int = 2, items: int = ITEMS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(size, items)).astype(np.float32) for name in LIKENESS}


# Shopper 0 bought item 1 forty, twenty (twice) and five days ago, item 2 twenty and two days ago; shopper 1 only looked.
HISTORY = batch(
    (0, 1, 40.5, BUY), (0, 1, 20.6, BUY), (0, 1, 20.4, BUY), (0, 2, 20.4, BUY), (0, 1, 5.5, BUY), (0, 2, 2.5, BUY),
    (0, 3, 10.0, VIEW), (1, 0, 1.0, VIEW),
)  # fmt: skip
ROWS, CODES = np.repeat([0, 1], ITEMS), np.tile(np.arange(ITEMS), 2)


def named(table: np.ndarray, row: int) -> dict[str, float]:
    return dict(zip(FEATURES, table[row].tolist(), strict=True))


def test_a_repeat_buyer_by_hand() -> None:
    pair = named(features(HISTORY, TARGETS, FACTS, ROWS, CODES, likeness()), 1)
    assert (pair["days"], pair["lines"]) == (3, 4)
    assert [pair[f"days_{span}"] for span in (14, 28, 84)] == [1, 2, 3]
    np.testing.assert_allclose(pair["decayed_10"], np.exp([-0.5, -2.0, -4.0]).sum(), rtol=1e-5)
    assert (pair["since"], pair["age"], pair["gap"]) == (5, 40, 17.5)
    np.testing.assert_allclose(pair["due"], 5 / 17.5, rtol=1e-6)
    assert pair["share_of_visits"] == 0.75  # visits 40, 20, 5 and 2 days ago
    assert pair["visits_since"] == 1
    assert pair["looked"] == 0
    assert [pair[name] for name in ("visits", "visits_14", "visits_28", "last_visit", "first_visit")] == [4, 2, 3, 2, 40]
    np.testing.assert_allclose(pair["visit_gap"], 38 / 3, rtol=1e-6)
    assert (pair["items"], pair["basket"], pair["looks"]) == (2, 5 / 4, 1)
    np.testing.assert_allclose(pair["repeats"], 1 - 2 / 5, rtol=1e-6)
    assert [pair[name] for name in ITEM_FACTS] == FACTS.values[1].tolist()


def test_what_was_only_looked_at_is_not_taken() -> None:
    table = features(HISTORY, TARGETS, FACTS, ROWS, CODES, likeness())
    looked, stranger = named(table, 3), named(table, 4)
    np.testing.assert_allclose([looked["looked"], stranger["looked"]], np.exp([-1.0, -0.1]), rtol=1e-5)
    assert (looked["days"], looked["lines"]) == (0, 0)
    assert np.isnan([looked["since"], looked["gap"], looked["share_of_visits"]]).all()
    assert (stranger["visits"], stranger["looks"]) == (0, 1)
    assert np.isnan([stranger["last_visit"], stranger["basket"], stranger["repeats"]]).all()


def facts_of(**columns: list[float]) -> ItemFacts:
    values = np.zeros((ITEMS, len(ITEM_FACTS)), np.float32)
    for name, column in columns.items():
        values[:, ITEM_FACTS.index(name)] = column
    return ItemFacts(values)


def test_what_was_spent_by_hand() -> None:
    # Two of item 1 for 3 each, later six for 2 each on the day of one item 2 for 8; nobody told the price of item 3.
    history = batch((0, 1, 9.0, BUY, 2, 3.0), (0, 1, 4.0, BUY, 6, 2.0), (0, 2, 4.0, BUY, 1, 8.0), (0, 3, 1.0, BUY, 2, np.nan))
    prices, now, pieces = (np.log(column).tolist() for column in ([1, 3, 8, 5], [1, 4, 8, 5], [1, 3, 1, 1]))
    known = facts_of(item_price=prices, item_price_now=now, item_quantity=pieces)
    table = features(history, TARGETS, known, ROWS, CODES, likeness())
    never, often, _, unpriced = (named(table, row) for row in range(4))
    spending = 2 * 3 + 6 * 2 + 8 + 2 * 5  # an unknown price is the item's usual one
    wanted = {
        "pieces": np.log(8), "last_pieces": np.log(6), "last_to_item": np.log(6 / 3), "spent": np.log(18),
        "share_of_spending": np.log(18 / spending), "price_to_last": np.log(4 / 2),
        "usual_pieces": np.log(2), "usual_price": np.log(3), "spent_a_visit": np.log(10),
        "pieces_to_usual": np.log(3 / 2), "price_to_usual": 0.0,
    }  # fmt: skip
    np.testing.assert_allclose([often[name] for name in wanted], list(wanted.values()), rtol=1e-5, atol=1e-6)
    assert np.isnan([never[name] for name in ("pieces", "spent", "price_to_last")]).all()
    np.testing.assert_allclose(unpriced["spent"], np.log(10), rtol=1e-5)
    assert np.isnan(unpriced["price_to_last"])


def test_without_any_price_pieces_are_what_is_spent() -> None:
    history = batch((0, 1, 9.0, BUY, 2, np.nan), (0, 2, 4.0, BUY, 6, np.nan))
    told = facts_of(item_price=[np.nan] * ITEMS, item_price_now=[np.nan] * ITEMS)
    pair = named(features(history, TARGETS, told, ROWS, CODES, likeness()), 1)
    np.testing.assert_allclose(pair["share_of_spending"], np.log(2 / 8), rtol=1e-5)
    assert np.isnan([pair["usual_price"], pair["price_to_usual"], pair["price_to_last"]]).all()


def test_the_order_of_pairs_and_the_other_shoppers_do_not_matter() -> None:
    dense = likeness()
    table = features(HISTORY, TARGETS, FACTS, ROWS, CODES, dense)
    order = np.random.default_rng(1).permutation(len(ROWS))
    np.testing.assert_array_equal(features(HISTORY, TARGETS, FACTS, ROWS[order], CODES[order], dense), table[order])
    alone = HISTORY.rows == 1
    only = replace(
        HISTORY, size=1, rows=HISTORY.rows[alone] - 1, codes=HISTORY.codes[alone], ages=HISTORY.ages[alone],
        types=HISTORY.types[alone], quantities=HISTORY.quantities[alone], prices=HISTORY.prices[alone],
        surfaces=HISTORY.surfaces[alone],
        countries=HISTORY.countries[alone],
    )  # fmt: skip
    second = {name: values[1:] for name, values in dense.items()}
    np.testing.assert_array_equal(features(only, TARGETS, FACTS, ROWS[:ITEMS], CODES[:ITEMS], second), table[ITEMS:])


@pytest.mark.parametrize(("size", "items"), [(1, 1), (2, 3), (0, 2)], ids=["one item", "no history", "no shopper"])
def test_empty_histories_have_features(size: int, items: int) -> None:
    rows, codes = np.repeat(np.arange(size), items), np.tile(np.arange(items), size)
    table = features(batch(size=size), TARGETS, ItemFacts(FACTS.values[:items]), rows, codes, likeness(size, items))
    assert table.shape == (size * items, len(FEATURES))
    assert (table[:, : FEATURES.index("since")] == 0).all()
    beside_usual = [FEATURES.index(name) for name in FITS]  # nothing is usual yet
    assert np.isnan(table[:, beside_usual]).all()
    assert np.isfinite(np.delete(table, beside_usual, axis=1)[:, FEATURES.index("item_taken_7") :]).all()


def test_a_place_is_among_all_items_of_the_shopper() -> None:
    values = np.array([[1, 2, 0, 2], [3, 3, 4, 0]], np.float32)
    rows, codes = np.array([0, 1, 0, 1, 0]), np.array([1, 2, 3, 1, 2])
    assert places(values, rows, codes).tolist() == [0, 0, 0, 1, 3]  # equal values share a place


def test_what_nobody_said_has_no_place() -> None:
    assert np.isnan(places(np.full((1, 3), np.nan, np.float32), np.array([0, 0]), np.array([2, 0]))).all()
