"""What is trained, what chooses, what judges: two protocols, one shape.

Leave-one-out has no calendar, only each user's order. So it gets one in which the k-th event from a user's end happens k weeks
before one common end: the last week holds everybody's last event (the test), the week before it the validation event, and all
before is training. Everything that asks "what was known then" works as in a shop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from endcap.benchmark.tables import EventTable
from endcap.data.features import FAR_FUTURE, Interactions, choose_targets, to_microseconds
from endcap.errors import InputError
from endcap.models.history import MICROSECONDS_PER_DAY, History, histories_of

Ints = npt.NDArray[np.int64]
COMMON_END = datetime(2020, 1, 6, tzinfo=UTC)  # any Monday: leave-one-out has no dates
WEEK = timedelta(days=7)
MAX_WEEKS = 5_000  # of one user; what is older comes minute by minute, so that a user of a million events still has a calendar
MICROSECONDS_PER_MINUTE = 60_000_000
DEFAULT_QUANTILE = 0.9  # of event times: where the protocol `time` cuts unless told
LEAVE_ONE_OUT, BY_TIME = "leave-one-out", "time"


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """U users at one moment: what was known of each, and the distinct items that each took from then on."""

    user_ids: npt.NDArray[Any]  # (U,)
    histories: Sequence[History]  # (U,) before `moment`
    wanted_rows: Ints  # (M,) ascending
    wanted_codes: Ints  # (M,) codes in the split's vocabulary
    history_rows: Ints  # (E,) the histories again, flat
    history_codes: Ints  # (E,)
    moment: datetime

    def __len__(self) -> int:
        return len(self.user_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """`train` ends where validation starts; `known` also holds the validation events; no test event is in either."""

    protocol: str
    train: Interactions
    known: Interactions
    validation: Cases
    test: Cases
    validation_start: datetime
    test_start: datetime
    learn_validation: bool  # whether a final fit may learn the validation events (`time`), or only choose by them
    horizon_days: float  # how long a model must do: from the start of the test to its end

    @property
    def item_ids(self) -> npt.NDArray[Any]:
        """(I,) every item that is ranked."""
        return self.train.item_ids

    @property
    def fit_until(self) -> datetime:
        """The moment up to which a final fit learns."""
        return self.test_start if self.learn_validation else self.validation_start

    @property
    def cold(self) -> npt.NDArray[np.bool_]:
        """(I,) items without one interaction in what a final fit learns."""
        learnt = self.known if self.learn_validation else self.train
        return np.asarray(np.bincount(learnt.items, minlength=len(self.item_ids)) == 0)


def leave_one_out(events: EventTable, item_ids: Sequence[str]) -> Split:
    """Last event of each user = test, last but one = validation; users with fewer than three events are trained on only.

    Order: position, else time, else the file; ties by the file.

    Raises:
        InputError: nobody has three events.
    """
    keys = events.positions if events.positions is not None else events.times_us
    users, user_ids = _codes(events.users)
    order = np.lexsort((np.arange(len(events)), users if keys is None else keys, users))
    owner = users[order]
    counts = np.bincount(owner)
    from_end = np.searchsorted(owner, owner, side="right") - np.arange(len(owner))  # 1: the last event
    weeks_before = np.where(counts[owner] >= 3, from_end, from_end + 2)
    minutes_more = np.maximum(weeks_before - MAX_WEEKS, 0)
    before_us = np.minimum(weeks_before, MAX_WEEKS) * 7 * MICROSECONDS_PER_DAY + minutes_more * MICROSECONDS_PER_MINUTE
    times = to_microseconds(COMMON_END) - before_us
    if counts.max() < 3:
        action = "Leave-one-out needs users with three events: one to learn, one to choose by, one to judge by."
        raise InputError("no user can be judged", field="interactions per user", value=int(counts.max()), action=action)
    shop = _interactions(events, order, times, user_ids, item_ids)
    return _split(LEAVE_ONE_OUT, shop, COMMON_END - 2 * WEEK, COMMON_END - WEEK, learn_validation=False)


def by_time(events: EventTable, item_ids: Sequence[str], split_at: datetime | None, validation_days: float) -> Split:
    """Everything before `split_at` trains (its newest `validation_days`, at most half of it, choose), the rest is the test.

    `split_at` None: the 90 % quantile of event times.

    Raises:
        InputError: no times, all of one moment, or one side is empty.
    """
    times = events.times_us
    if times is None:
        action = "Give a column timestamp, or use --protocol leave-one-out, which needs only an order."
        raise InputError("the protocol time needs times", field="timestamp", value=None, action=action)
    if times.min() == times.max():
        action = "No moment parts them: use --protocol leave-one-out, which needs only an order (position, or the file's)."
        value = _moment(int(times[0])).isoformat()
        raise InputError("all events are of one moment", field="timestamp", value=value, action=action)
    at = to_microseconds(split_at) if split_at else int(np.quantile(times, DEFAULT_QUANTILE, method="nearest"))
    if not times.min() < at <= times.max():
        spans = [_moment(int(times.min())).isoformat(), _moment(int(times.max())).isoformat()]
        action = f"The events span {spans[0]} to {spans[1]}; give --split-at a moment after the first and not after the last."
        raise InputError("one side of the split is empty", field="split_at", value=_moment(at).isoformat(), action=action)
    _, user_ids = _codes(events.users)
    order = np.argsort(times, kind="stable") if events.positions is None else np.lexsort((events.positions, times))
    shop = _interactions(events, order, times[order], user_ids, item_ids)
    days = (at - int(times.min())) / MICROSECONDS_PER_DAY
    test_start = _moment(at)
    return _split(BY_TIME, shop, test_start - timedelta(days=min(validation_days, days / 2)), test_start, learn_validation=True)


def make_cases(shop: Interactions, start: datetime, end: datetime | None, targets_only: bool) -> Cases:
    """The users with events in [start, end), with their histories before `start`."""
    inside = shop.where(shop.times_us >= to_microseconds(start))
    inside = inside.where(inside.times_us < to_microseconds(end)) if end else inside
    inside = inside.targets() if targets_only else inside
    pairs = np.unique(inside.users * len(shop.item_ids) + inside.items)
    users, rows = np.unique(pairs // max(len(shop.item_ids), 1), return_inverse=True)
    before = shop.known_at(start)
    before = before.where(np.isin(before.users, users))
    before = before.where(np.argsort(before.users, kind="stable"))
    first, last = np.searchsorted(before.users, users), np.searchsorted(before.users, users, side="right")
    return Cases(
        shop.user_ids[users], histories_of(before, first, last), rows.astype(np.int64), pairs % max(len(shop.item_ids), 1),
        np.searchsorted(users, before.users), before.items, start,
    )  # fmt: skip


def part_of(cases: Cases, rows: Ints) -> Cases:
    """The cases of some users; `rows` ascending."""
    wanted, had = np.isin(cases.wanted_rows, rows), np.isin(cases.history_rows, rows)
    return Cases(
        cases.user_ids[rows], [cases.histories[row] for row in rows],
        np.searchsorted(rows, cases.wanted_rows[wanted]), cases.wanted_codes[wanted],
        np.searchsorted(rows, cases.history_rows[had]), cases.history_codes[had], cases.moment,
    )  # fmt: skip


def sample(cases: Cases, users: int | None, seed: int = 1) -> Cases:
    """At most so many users, drawn at random."""
    if users is None or len(cases) <= users:
        return cases
    return part_of(cases, np.sort(np.random.default_rng(seed).choice(len(cases), users, replace=False)))


def _split(protocol: str, shop: Interactions, validation: datetime, test: datetime, *, learn_validation: bool) -> Split:
    targets_only = protocol == BY_TIME
    end = int(shop.times_us.max()) if targets_only else to_microseconds(COMMON_END)
    horizon_days = max((end - to_microseconds(test)) / MICROSECONDS_PER_DAY, 1.0)
    return Split(
        protocol, shop.known_at(validation), shop.known_at(test), make_cases(shop, validation, test, targets_only),
        make_cases(shop, test, None, targets_only), validation, test, learn_validation, horizon_days,
    )  # fmt: skip


def _interactions(
    events: EventTable, order: Ints, times: Ints, user_ids: npt.NDArray[Any], item_ids: Sequence[str]
) -> Interactions:
    """Events in the given order with the given times, then sorted by time. Built directly: long calendars are beyond
    what pandas can count."""
    vocabulary = np.array(item_ids, object)
    index = {item: code for code, item in enumerate(item_ids)}
    items = np.fromiter((index[item] for item in events.items[order]), np.int64, len(order))
    users = np.searchsorted(user_ids, events.users[order]).astype(np.int64)
    by_time = np.argsort(times, kind="stable")
    kinds = events.types[order][by_time]
    return Interactions(
        user_ids=user_ids,
        item_ids=vocabulary,
        users=users[by_time],
        items=items[by_time],
        times_us=times[by_time],
        types=kinds,
        cancelled_us=np.full(len(order), FAR_FUTURE),
        target_types=choose_targets(kinds),
        quantities=events.quantities[order][by_time],
        prices=events.prices[order][by_time],
        surfaces=events.surfaces[order][by_time],
        countries=events.countries[order][by_time],
    )


def _codes(names: npt.NDArray[Any]) -> tuple[Ints, npt.NDArray[Any]]:
    unique, codes = np.unique(names, return_inverse=True)
    return codes.astype(np.int64), unique


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
