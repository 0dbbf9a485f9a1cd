"""Interactions of shoppers and items as compact arrays, and what an event of each type is worth.

Here belongs the way from event tables to arrays that models learn from, by what was known at a moment. Not here: scores.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from endcap.contracts import MAX_QUANTITY, EventType, Surface

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

TYPES = [str(kind) for kind in EventType]
TYPE_CODES = {name: code for code, name in enumerate(TYPES)}
# How strongly an event says "I want this"; 0 says nothing of the kind and is not learnt from.
TYPE_WEIGHTS = {"purchase": 1.0, "cart": 0.5, "rating": 0.5, "click": 0.2, "view": 0.1}
WEIGHTS = np.array([TYPE_WEIGHTS.get(name, 0.0) for name in TYPES], np.float32)
POSITIVE_TYPES = WEIGHTS > 0
SURFACE_CODES = {"": 0} | {str(surface): code for code, surface in enumerate(Surface, start=1)}  # 0: not known
COUNTRIES = 127  # codes that all names share: they mean the same to a parent and its updates, without a list of countries
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR_FUTURE = np.iinfo(np.int64).max
MIN_AMOUNT = 1e-6  # pieces or money: what is less is no amount, and 32 bits have no logarithm of it
MAX_PRICE = 1e12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Interactions:
    """Positive events as arrays of one length N, ordered by time (ties: as they came).

    `cancelled_us` is when a purchase was undone (FAR_FUTURE: never): as of T it does not count if `cancelled_us <= T`.
    """

    user_ids: npt.NDArray[Any]  # (U,) text
    item_ids: npt.NDArray[Any]  # (I,) text: the vocabulary
    users: Ints  # (N,) codes into user_ids
    items: Ints  # (N,) codes into item_ids
    times_us: Ints  # (N,) microseconds since the epoch, UTC
    types: Ints  # (N,) TYPE_CODES
    cancelled_us: Ints  # (N,)
    target_types: npt.NDArray[np.bool_]  # one flag a type code: what a recommendation should lead to
    quantities: Floats  # (N,) pieces; 1 where not given
    prices: Floats  # (N,) of one piece, shop currency; NaN where not given
    surfaces: Ints  # (N,) SURFACE_CODES: where in the shop it happened
    countries: Ints  # (N,) country_codes: where the shopper was

    def __len__(self) -> int:
        return len(self.users)

    @property
    def is_target(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the event is of a kind that a recommendation should lead to."""
        return self.target_types[self.types]

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """(N,) how strongly each event says "I want this"."""
        return WEIGHTS[self.types]

    def where(self, mask: npt.NDArray[Any]) -> Interactions:
        """The events that the mask (N,) or index array keeps; the same vocabulary."""
        return replace(
            self,
            users=self.users[mask],
            items=self.items[mask],
            times_us=self.times_us[mask],
            types=self.types[mask],
            cancelled_us=self.cancelled_us[mask],
            quantities=self.quantities[mask],
            prices=self.prices[mask],
            surfaces=self.surfaces[mask],
            countries=self.countries[mask],
        )

    def known_at(self, moment: datetime) -> Interactions:
        """What was known at `moment`: events before it, less purchases already undone by then."""
        at = to_microseconds(moment)
        return self.where((self.times_us < at) & (self.cancelled_us > at))

    def between(self, start: datetime, end: datetime) -> Interactions:
        """The events of [start, end), whether undone later or not."""
        return self.where((self.times_us >= to_microseconds(start)) & (self.times_us < to_microseconds(end)))

    def targets(self) -> Interactions:
        """Only the events of the kinds that a recommendation should lead to."""
        return self.where(self.is_target)


def interactions_from_events(events: Any, item_ids: Sequence[str] = ()) -> Interactions:
    """Interactions of an event table (pyarrow or pandas, the columns of contracts.dataset_event_schema()).

    Returns (negative or zero quantity), events without shopper and types that say nothing of liking are left out.
    The vocabulary is `item_ids` followed by every further item of the events in sorted order.
    """
    frame = as_frame(events)
    types: Ints = frame["type"].map(TYPE_CODES).fillna(-1).to_numpy().astype(np.int64)
    keep = (types >= 0) & POSITIVE_TYPES[types] & frame["user_id"].notna().to_numpy()
    if "quantity" in frame:
        keep &= ~(frame["quantity"].to_numpy(np.float64, na_value=np.nan) <= 0)
    frame, types = frame[keep], types[keep]
    times = column_microseconds(frame["time"])
    order = np.argsort(times, kind="stable")
    frame, types, times = frame.iloc[order], types[order], times[order]
    cancelled = column_microseconds(frame["cancelled_at"]) if "cancelled_at" in frame else np.full(len(frame), FAR_FUTURE)
    users, user_ids = frame["user_id"].factorize(sort=True)
    present = sorted(set(frame["item_id"].unique()) - set(item_ids))
    vocabulary = np.array([*item_ids, *present], dtype=object)
    index = {item: code for code, item in enumerate(vocabulary)}
    items = frame["item_id"].map(index).to_numpy(np.int64)
    return Interactions(
        user_ids=np.asarray(user_ids, object),
        item_ids=vocabulary,
        users=users.astype(np.int64),
        items=items,
        times_us=times,
        types=types,
        cancelled_us=cancelled,
        target_types=choose_targets(types),
        quantities=clean_quantities(frame.get("quantity"), len(frame)),
        prices=clean_prices(frame.get("price"), len(frame)),
        surfaces=surface_codes(frame.get("surface"), len(frame)),
        countries=country_codes(frame.get("country"), len(frame)),
    )


def clean_quantities(column: pd.Series[Any] | None, count: int) -> Floats:
    """(N,) pieces of each positive event; 1 where the shop does not say."""
    if column is None:
        return np.ones(count, np.float32)
    return usable_quantities(column.to_numpy(np.float64, na_value=np.nan))


def clean_prices(column: pd.Series[Any] | None, count: int) -> Floats:
    """(N,) prices of one piece; NaN where the shop does not say, or gave it away."""
    if column is None:
        return np.full(count, np.nan, np.float32)
    return usable_prices(column.to_numpy(np.float64, na_value=np.nan))


def usable_quantities(given: npt.NDArray[np.float64]) -> Floats:
    """(N,) 1 in the place of what is no number of pieces; for training and requests alike.

    >>> usable_quantities(np.array([3.0, -2.0, np.nan, 1e-300]))
    array([ 3., -2.,  1.,  1.], dtype=float32)
    """
    size = np.abs(given)
    return np.where((size >= MIN_AMOUNT) & (size <= MAX_QUANTITY), given, 1.0).astype(np.float32)


def usable_prices(given: npt.NDArray[np.float64]) -> Floats:
    """(N,) NaN in the place of what is no price: not finite, nothing, less, beyond all; for training and requests alike."""
    return np.where((given >= MIN_AMOUNT) & (given <= MAX_PRICE), given, np.nan).astype(np.float32)


def surface_codes(column: Any, count: int) -> Ints:
    """(N,) SURFACE_CODES of a column or array of names; 0 where the shop does not say, or says something else.

    >>> surface_codes(["email", None, "billboard"], 3)
    array([4, 0, 0])
    """
    if column is None:
        return np.zeros(count, np.int64)
    return np.fromiter(map(SURFACE_CODES.get, column, repeat(0)), np.int64, count)


def country_codes(column: Any, count: int) -> Ints:
    """(N,) 1 … COUNTRIES of a column or array of names, whatever their case; 0 where the shop does not say.

    >>> country_codes(["Cyprus", " CYPRUS", "Germany", None, ""], 5)
    array([ 4,  4, 43,  0,  0])
    """
    if column is None:
        return np.zeros(count, np.int64)
    return np.fromiter(map(country_code, column), np.int64, count)


@functools.lru_cache(maxsize=1024)
def country_code(name: Any) -> int:
    """A stable hash of one name; two of them may share a code."""
    text = name.strip().casefold() if isinstance(name, str) else ""
    return 1 + zlib.crc32(text.encode(errors="replace")) % COUNTRIES if text else 0


def choose_targets(types: Ints) -> npt.NDArray[np.bool_]:
    """Purchases where the shop has them, else carts, else every positive type (a shop that only knows views and clicks)."""
    counts = np.bincount(types, minlength=len(TYPES))
    for name in ("purchase", "cart"):
        if counts[TYPE_CODES[name]]:
            flags = np.zeros(len(TYPES), np.bool_)
            flags[TYPE_CODES[name]] = True
            return flags
    return POSITIVE_TYPES.copy()


def as_frame(table: Any) -> pd.DataFrame:
    """A pandas frame of a pyarrow table; a frame is returned as it is."""
    frame: pd.DataFrame = table.to_pandas() if hasattr(table, "to_pandas") else table
    return frame


def to_microseconds(moment: datetime) -> int:
    """Microseconds since the epoch; a naive moment is taken as UTC.

    >>> to_microseconds(datetime(1970, 1, 2))
    86400000000
    """
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def column_microseconds(column: pd.Series[Any]) -> Ints:
    """A time column (aware, naive UTC, or with gaps = FAR_FUTURE) as microseconds since the epoch."""
    import pandas as pd

    times = pd.to_datetime(column, utc=True).dt.tz_localize(None).to_numpy("datetime64[us]")
    return np.where(np.isnat(times), FAR_FUTURE, times.astype(np.int64))
