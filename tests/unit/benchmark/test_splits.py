"""What is trained on, what chooses and what judges, by hand; and never a look into the future."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.benchmark.splits import COMMON_END, WEEK, Cases, Split, by_time, leave_one_out, sample
from endcap.benchmark.tables import EventTable
from endcap.data.features import TYPE_CODES, Interactions, to_microseconds
from endcap.errors import InputError

DAY = 86_400_000_000


def table(rows: list[tuple[str, str, int]], positions: list[int] | None = None) -> EventTable:
    """Purchases given as (user, item, day)."""
    users, items, days = zip(*rows, strict=True)
    return EventTable(
        np.array(users, object), np.array(items, object), np.array(days, np.int64) * DAY,
        None if positions is None else np.array(positions, float), np.full(len(rows), TYPE_CODES["purchase"]),
        np.ones(len(rows), np.float32), np.full(len(rows), np.nan, np.float32), *np.zeros((2, len(rows)), np.int64), {}, (),
    )  # fmt: skip


def pairs(shop: Interactions) -> set[tuple[str, str]]:
    return {(str(shop.user_ids[u]), str(shop.item_ids[i])) for u, i in zip(shop.users, shop.items, strict=True)}


def wanted(cases: Cases, item_ids: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {str(user): [] for user in cases.user_ids}
    for row, code in zip(cases.wanted_rows, cases.wanted_codes, strict=True):
        found[str(cases.user_ids[row])].append(item_ids[code])
    return found


ITEMS = list("abcde")
ROWS = [("u", "a", 1), ("v", "e", 2), ("u", "c", 3), ("u", "b", 2), ("w", "a", 1), ("w", "b", 9), ("u", "d", 3)]


def test_the_last_is_the_test_and_the_one_before_it_the_validation() -> None:
    split = leave_one_out(table(ROWS), ITEMS)
    assert wanted(split.test, ITEMS) == {"u": ["d"]}  # a tie on day 3: the file's order
    assert wanted(split.validation, ITEMS) == {"u": ["c"]}
    assert pairs(split.train) == {("u", "a"), ("u", "b"), ("v", "e"), ("w", "a"), ("w", "b")}  # too few events: learnt whole
    assert pairs(split.known) == pairs(split.train) | {("u", "c")}
    assert split.test.histories[0].item_ids.tolist() == ["a", "b", "c"]
    assert split.validation.histories[0].item_ids.tolist() == ["a", "b"]
    assert split.fit_until == split.validation_start == COMMON_END - 2 * WEEK
    assert split.horizon_days == 7
    assert [ITEMS[code] for code in np.flatnonzero(split.cold)] == ["c", "d"]


def test_positions_count_before_times() -> None:
    split = leave_one_out(table(ROWS, positions=[4, 0, 2, 3, 0, 1, 1]), ITEMS)
    assert wanted(split.test, ITEMS) == {"u": ["a"]}
    assert split.test.histories[0].item_ids.tolist() == ["d", "c", "b"]


def test_a_user_of_100_000_events_stands() -> None:
    count = 100_000
    rows = [("u", ITEMS[step % 5], 1) for step in range(count)]  # all at one time: the file's order
    split = leave_one_out(table(rows), ITEMS)
    assert (len(split.train), len(split.test.histories[0])) == (count - 2, count - 1)
    assert wanted(split.test, ITEMS) == {"u": [ITEMS[(count - 1) % 5]]}
    own = split.test.histories[0]
    assert own.item_ids[:5].tolist() == ITEMS
    assert (np.diff(own.times.astype(np.int64)) > 0).all()
    assert (COMMON_END.replace(tzinfo=None) - own.times[0].item()).days < 366 * 120  # ages stay numbers of days


def test_nobody_with_three_events_is_refused() -> None:
    with pytest.raises(InputError, match="no user can be judged"):
        leave_one_out(table([("u", "a", 1), ("u", "b", 2), ("v", "a", 1)]), ITEMS)


def test_time_cuts_at_a_moment_and_counts_distinct_items_of_everybody() -> None:
    rows = [("u", "a", 1), ("u", "b", 9), ("u", "b", 9), ("new", "e", 10), ("v", "a", 5), ("v", "a", 8)]
    split = by_time(table(rows), ITEMS, datetime(1970, 1, 10, tzinfo=UTC), validation_days=2)
    assert wanted(split.test, ITEMS) == {"new": ["e"], "u": ["b"]}
    assert [len(history) for history in split.test.histories] == [0, 1]
    assert wanted(split.validation, ITEMS) == {"v": ["a"]}
    assert pairs(split.train) == {("u", "a"), ("v", "a")}
    assert split.fit_until == split.test_start
    assert [ITEMS[code] for code in np.flatnonzero(split.cold)] == ["b", "c", "d", "e"]


def test_a_model_by_time_must_do_until_the_last_event() -> None:
    assert by_time(table(ROWS), ITEMS, datetime(1970, 1, 4, tzinfo=UTC), 28).horizon_days == 6  # from day 3 to day 9
    assert by_time(table(ROWS), ITEMS, datetime(1970, 1, 10, tzinfo=UTC), 28).horizon_days == 1  # never less than a day


def test_time_takes_the_newest_tenth_unless_told() -> None:
    split = by_time(table([("u", "a", day) for day in range(100)]), ITEMS, None, 10)
    assert split.test_start == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=89)
    assert split.validation_start == split.test_start - timedelta(days=10)


@pytest.mark.parametrize("at", [0, 5, 7, 1000])
def test_a_cut_with_one_side_empty_is_refused(at: int) -> None:
    rows = [("u", "a", 5)] * 20 + [("v", "a", 6)]
    with pytest.raises(InputError, match="one side of the split is empty"):
        by_time(table(rows), ITEMS, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=at), 28)
    with pytest.raises(InputError, match="one side of the split is empty"):
        by_time(table(rows), ITEMS, None, 28)


def test_one_moment_cannot_be_cut_and_leave_one_out_is_advised() -> None:
    rows = [("u", item, 5) for item in "abc"]
    for at in (None, datetime(1970, 1, 6, tzinfo=UTC)):
        with pytest.raises(
            InputError, match=r"timestamp: all events are of one moment; got '1970-01-06.*--protocol leave-one-out"
        ):
            by_time(table(rows), ITEMS, at, 28)
    assert wanted(leave_one_out(table(rows), ITEMS).test, ITEMS) == {"u": ["c"]}


def test_time_needs_times() -> None:
    events = table(ROWS)
    without = replace(events, times_us=None)
    with pytest.raises(InputError, match="leave-one-out, which needs only an order"):
        by_time(without, ITEMS, None, 28)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from(ITEMS), st.integers(0, 30)), min_size=3, max_size=40),
    st.booleans(),
)
def test_nothing_learnt_lies_in_the_future_of_what_is_judged(rows: list[tuple[str, str, int]], loo: bool) -> None:
    try:
        split: Split = leave_one_out(table(rows), ITEMS) if loo else by_time(table(rows), ITEMS, None, 7)
    except InputError:
        return
    assert (split.train.times_us < to_microseconds(split.validation_start)).all()
    assert (split.known.times_us < to_microseconds(split.test_start)).all()
    assert len(split.train) <= len(split.known) < len(rows)
    for cases in (split.validation, split.test):
        for history in cases.histories:
            assert (history.times.astype(np.int64) < to_microseconds(cases.moment)).all()
    days: dict[str, list[int]] = {}
    for user, _, day in rows:
        days.setdefault(user, []).append(day)
    for user, history in zip(split.test.user_ids, split.test.histories, strict=True):
        expected = len(days[user]) - 1 if loo else sum(day * DAY < to_microseconds(split.test_start) for day in days[user])
        assert len(history) == expected


def test_a_sample_keeps_users_whole() -> None:
    rows = [(f"u{user}", ITEMS[(user + step) % 5], step) for user in range(20) for step in range(4)]
    split = leave_one_out(table(rows), ITEMS)
    some = sample(split.test, 5)
    assert len(some) == 5
    assert wanted(some, ITEMS).items() <= wanted(split.test, ITEMS).items()
    assert np.bincount(some.history_rows).tolist() == [3] * 5
    assert sample(split.test, None) is split.test
