"""Signals by hand: what is held how freshly, and how alike the rest is to that."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from endcap.models.history import HistoryBatch, held
from endcap.models.signals import HISTORY_DAYS, held_lately, spread

ITEMS = 5


def batch(*events: tuple[int, int, float], size: int) -> HistoryBatch:
    """Events (row, item, age)."""
    table = sorted(events, key=lambda event: (event[0], -event[2]))
    rows, codes, ages = (np.array([event[place] for event in table]) for place in range(3))
    one, zero = np.ones(len(table), np.float32), np.zeros(len(table), np.int64)
    return HistoryBatch(
        size=size,
        rows=rows.astype(np.int64),
        codes=codes.astype(np.int64),
        ages=ages.astype(np.float32),
        types=zero,
        now_us=0,
        quantities=one,
        prices=one,
        surfaces=zero,
        countries=zero,
    )


def test_the_newest_event_with_an_item_counts_against_the_newest_of_all() -> None:
    fresh = held_lately(batch((0, 1, 40.0), (0, 2, 10.0), (0, 1, 10.0 + HISTORY_DAYS), (2, 4, 300.0), size=3), ITEMS)
    expected = np.zeros((3, ITEMS))
    expected[0, 1], expected[0, 2], expected[2, 4] = np.exp(-1), 1, 1
    np.testing.assert_allclose(fresh.toarray(), expected, atol=1e-6)


EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, ITEMS - 1), st.floats(0, 400, width=32)), max_size=12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(EVENTS)
def test_freshness_lies_between_nothing_and_one_and_covers_what_is_held(events: list[tuple[int, int, float]]) -> None:
    histories = batch(*events, size=3)
    fresh = held_lately(histories, ITEMS)
    assert (fresh.toarray() <= 1).all()
    np.testing.assert_array_equal(fresh.indptr, held(histories, ITEMS).indptr)
    newest = fresh.max(axis=1).toarray().ravel()
    assert (newest[np.unique(histories.rows)] == 1).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(EVENTS)
def test_spread_is_the_product_with_likeness(events: list[tuple[int, int, float]]) -> None:
    alike = sparse.random(ITEMS, ITEMS, 0.5, format="csr", dtype=np.float32, random_state=0)
    histories = batch(*events, size=3)
    lately = held_lately(histories, ITEMS)
    ever, fresh = spread(lately, alike)
    np.testing.assert_allclose(ever, (held(histories, ITEMS) @ alike).toarray(), atol=1e-6)
    np.testing.assert_allclose(fresh, (lately @ alike).toarray(), atol=1e-6)
