"""What a second-stage ranker knows of each item, counted as of one moment. Shapes: I items, N events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from endcap.data.features import Interactions
from endcap.models.history import MICROSECONDS_PER_DAY, Floats, Ints, microseconds

WINDOWS_DAYS = (7, 14, 28, 84)
ITEM_FACTS = (
    *(f"item_taken_{days}" for days in WINDOWS_DAYS), "item_taken", "item_again", "item_first", "item_last",
    "item_trend", "item_season",
)  # fmt: skip
AGAIN_PRIOR = (1.0, 5.0)  # shoppers who took it again, and who took it, before anybody did


@dataclass(frozen=True, slots=True, eq=False)
class ItemFacts:
    """The columns of `values` are ITEM_FACTS.

    item_taken_<d>: pairs (shopper, day) on which it was taken in the last d days; item_taken: ever. item_again: the share
    of its shoppers who took it on a second day, smoothed. item_first, item_last: days since (NaN: never taken).
    item_trend: log of this week against the month's mean week; item_season: of this month against the quarter's.
    """

    values: Floats  # (I, len(ITEM_FACTS))

    @property
    def recent(self) -> Floats:
        """(I,) pairs (shopper, day) of the last 28 days: what is popular now."""
        return np.asarray(self.values[:, ITEM_FACTS.index("item_taken_28")])


def item_facts(interactions: Interactions, as_of: datetime) -> ItemFacts:
    """Count what was known at `as_of`."""
    known = interactions.known_at(as_of).targets()
    items = len(known.item_ids)
    age = (microseconds(as_of) - known.times_us) // MICROSECONDS_PER_DAY
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
        ],
        axis=1,
    )
    return ItemFacts(values.astype(np.float32))


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
