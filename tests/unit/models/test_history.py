"""Histories of every form become the same flat arrays; what cannot count is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from endcap.models.history import History, encode

NOW = datetime(2011, 10, 10, tzinfo=UTC)
INDEX = {"a": 0, "b": 1}


def test_times_of_every_kind_mean_the_same_moment() -> None:
    moment = datetime(2011, 10, 9, 12, tzinfo=UTC)
    forms = [
        moment,
        moment.replace(tzinfo=None),
        moment.astimezone(timezone(timedelta(hours=5))),
        np.datetime64("2011-10-09T12:00"),
        pd.Timestamp(moment),
    ]
    ages = [encode([History(["a"], [form])], INDEX, NOW).ages[0] for form in forms]
    assert ages == [0.5] * 5


def test_what_cannot_count_is_left_out() -> None:
    history = History(
        ["a", "unknown", "b", "a", "b"],
        [NOW - timedelta(days=day) for day in (5, 4, 3, 2, -1)],  # the last lies in the future
        ["purchase", "purchase", "impression", "purchase", "purchase"],
        [1, 1, 1, -1, 1],  # the fourth is a return
    )
    batch = encode([History.empty(), history], INDEX, NOW)
    assert (batch.rows.tolist(), batch.codes.tolist(), batch.ages.tolist()) == ([1], [0], [5.0])


def test_events_out_of_order_are_ordered() -> None:
    history = History(["a", "b"], [NOW - timedelta(days=1), NOW - timedelta(days=2)])
    assert encode([history], INDEX, NOW).codes.tolist() == [1, 0]


def test_records_without_quantity_count() -> None:
    events = [{"item_id": "a", "time": NOW, "type": "click", "quantity": None}, {"item_id": "b", "time": NOW}]
    assert encode([History.from_events(events)], INDEX, NOW).codes.tolist() == [0, 1]


def test_countries_are_given_by_name_or_by_code() -> None:
    one = History(["a", "b"], [NOW, NOW], countries="France")
    other = History(["a", "b"], [NOW, NOW], countries=["france", None])
    assert one.countries[0] == one.countries[1] == other.countries[0] > other.countries[1] == 0
    again = History(["a", "b"], [NOW, NOW], countries=other.countries)
    assert again.part(slice(0, 1)).countries.tolist() == [other.countries[0]]
    assert encode([again], INDEX, NOW).countries.tolist() == other.countries.tolist()


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        History(["a", "b"], [NOW])
