"""What a second-stage ranker knows of each item, counted as of one moment. Shapes: I items, N events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from endcap.data.features import Interactions, to_microseconds
from endcap.models.history import MICROSECONDS_PER_DAY, Floats, HistoryBatch, Ints

WINDOWS_DAYS = (7, 14, 28, 84)
ITEM_FACTS = (
    *(f"item_taken_{days}" for days in WINDOWS_DAYS), "item_taken", "item_again", "item_first", "item_last",
    "item_trend", "item_season", "item_pieces_28", "item_quantity", "item_price", "item_price_now",
)  # fmt: skip
PRICE_NOW_DAYS, PIECES_DAYS = 14, 28
AGAIN_PRIOR = (1.0, 5.0)  # shoppers who took it again, and who took it, before anybody did


@dataclass(frozen=True, slots=True, eq=False)
class ItemFacts:
    """The columns of `values` are ITEM_FACTS.

    item_taken_<d>: pairs (shopper, day) on which it was taken in the last d days; item_taken: ever. item_again: the share
    of its shoppers who took it on a second day, smoothed. item_first, item_last: days since (NaN: never taken).
    item_trend: log of this week against the month's mean week; item_season: of this month against the quarter's.
    item_pieces_28: log of 1 + pieces of the last 28 days. item_quantity: log of the median pieces of a line; item_price: log of
    the median price of a piece (NaN: never told); item_price_now: log of the last 14 days' median price.
    """

    values: Floats  # (I, len(ITEM_FACTS))

    @property
    def recent(self) -> Floats:
        """(I,) pairs (shopper, day) of the last 28 days: what is popular now."""
        return self.column("item_taken_28")

    def column(self, name: str) -> Floats:
        """(I,) one of ITEM_FACTS."""
        return np.asarray(self.values[:, ITEM_FACTS.index(name)])

    def spent(self, batch: HistoryBatch) -> npt.NDArray[np.float64]:
        """(E,) pieces times price of each event; the item's usual price where none was told, 1 where there is none."""
        prices = batch.prices.astype(np.float64)
        usual = np.exp(self.column("item_price").astype(np.float64))[batch.codes] if len(self.values) else prices
        paid = np.where(np.isnan(prices), usual, prices)
        return np.asarray(batch.quantities * np.nan_to_num(paid, nan=1.0))


def item_facts(interactions: Interactions, as_of: datetime) -> ItemFacts:
    """Count what was known at `as_of`."""
    known = interactions.known_at(as_of).targets()
    items = len(known.item_ids)
    age = (to_microseconds(as_of) - known.times_us) // MICROSECONDS_PER_DAY
    amounts = _amounts(known, age, items)
    pair = known.users * max(items, 1) + known.items
    order = np.lexsort((age, pair))
    pair, age, item = pair[order], age[order], known.items[order]
    fresh = np.r_[True, (np.diff(pair) != 0) | (np.diff(age) != 0)][: len(pair)]  # one a shopper, item and day
    pair, age, item = pair[fresh], age[fresh], item[fresh]
    taken = [np.bincount(item[age < days], minlength=items) for days in WINDOWS_DAYS]
    values = np.stack(
        [
            *taken,
            np.bincount(item, minlength=items),
            share_again(pair, item, items),
            _extreme(item, age, items, np.maximum, -np.inf),
            _extreme(item, age, items, np.minimum, np.inf),
            np.log((taken[0] + 1) / (taken[2] / 4 + 1)),
            np.log((taken[2] + 1) / (taken[3] / 3 + 1)),
            *amounts,
        ],
        axis=1,
    )
    return ItemFacts(values.astype(np.float32))


def _amounts(taken: Interactions, age: Ints, items: int) -> list[npt.NDArray[np.float64]]:
    """The last four of ITEM_FACTS."""
    prices, now = np.log(taken.prices.astype(np.float64)), age < PRICE_NOW_DAYS
    lately = age < PIECES_DAYS
    return [
        np.log1p(np.bincount(taken.items[lately], taken.quantities[lately], items)),
        grouped_median(taken.items, np.log(taken.quantities.astype(np.float64)), items),
        grouped_median(taken.items, prices, items),
        grouped_median(taken.items[now], prices[now], items),
    ]


def grouped_median(groups: Ints, values: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """(size,) the median of each group's values but for NaN; NaN for a group without any.

    >>> grouped_median(np.array([0, 0, 2, 2, 2]), np.array([1.0, 2.0, 9.0, 7.0, np.nan]), 3)
    array([1.5, nan, 8. ])
    """
    real = ~np.isnan(values)
    groups, values = groups[real], values[real]
    values = values[np.lexsort((values, groups))]
    counts = np.bincount(groups, minlength=size)
    first, some = np.cumsum(counts) - counts, counts > 0
    result = np.full(size, np.nan)
    low, high = (first + (counts - 1) // 2)[some], (first + counts // 2)[some]
    result[some] = (values[low] + values[high]) / 2
    return result


def share_again(pair: Ints, item: Ints, items: int) -> npt.NDArray[np.float64]:
    """(I,) (shoppers with two days or more + 1) / (shoppers + 5), of lines sorted by pair, one a day."""
    _pairs, first, days = np.unique(pair, return_index=True, return_counts=True)
    shoppers = np.bincount(item[first], minlength=items)
    again = np.bincount(item[first[days > 1]], minlength=items)
    return np.asarray((again + AGAIN_PRIOR[0]) / (shoppers + AGAIN_PRIOR[1]))


def _extreme(item: Ints, age: Ints, items: int, extreme: np.ufunc, start: float) -> npt.NDArray[np.float64]:
    result = np.full(items, start)
    extreme.at(result, item, age)
    return np.where(np.isfinite(result), result, np.nan)
