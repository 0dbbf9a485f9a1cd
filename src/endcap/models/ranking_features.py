"""What a second-stage ranker is told of a (shopper, item) pair: of the two together, of each alone, and how alike they are.

All of it is counted from the shopper's history and from facts of one moment; days are spans of 24 hours before the request.
Shapes: B shoppers, I items, P candidate pairs, T pairs that were taken before, L lines (a pair on one day).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from endcap.models.history import Floats, HistoryBatch, Ints
from endcap.models.item_facts import ITEM_FACTS, ItemFacts, grouped_median
from endcap.models.signals import LIKENESS

WINDOWS_DAYS = (14, 28, 84)
DECAYS_DAYS = (10.0, 40.0, 120.0)
PAIR = (
    "days", *(f"days_{days}" for days in WINDOWS_DAYS), *(f"decayed_{days:.0f}" for days in DECAYS_DAYS), "lines",
    "since", "age", "gap", "due", "share_of_visits", "visits_since", "looked",
    "pieces", "last_pieces", "last_to_item", "spent", "share_of_spending", "price_to_last",
)  # fmt: skip
SHOPPER = (
    "visits", *(f"visits_{days}" for days in WINDOWS_DAYS), "last_visit", "first_visit", "visit_gap",
    "items", "basket", "repeats", "looks", "usual_pieces", "usual_price", "spent_a_visit",
)  # fmt: skip
FITS = ("pieces_to_usual", "price_to_usual")  # the item beside what the shopper usually takes
FEATURES = (*PAIR, *SHOPPER, *ITEM_FACTS, *FITS, *LIKENESS, "ease_rank")
DAY_BITS = 20
LOOKED_DAYS = 10.0

Numbers = npt.NDArray[np.float64]


def features(
    batch: HistoryBatch, targets: npt.NDArray[np.bool_], facts: ItemFacts, rows: Ints, codes: Ints, dense: dict[str, Floats]
) -> Floats:
    """(P, len(FEATURES)) of the candidate pairs (rows, codes); NaN where a number has no meaning, such as the days since never.

    Args:
        batch: the shoppers' histories.
        targets: one flag a type code: which events count as taking an item; all others are looks.
        facts: of the items.
        rows, codes: (P,) distinct pairs, in any order.
        dense: LIKENESS by name, each (B, I).
    """
    items = len(facts.values)
    taken, looks = batch.of_types(targets), batch.of_types(~targets)
    visits = _Visits.of(taken)
    amounts = _Amounts.of(taken, facts)
    likeness = [dense[name][rows, codes] for name in LIKENESS]
    result = np.empty((len(rows), len(FEATURES)), np.float32)
    columns = [
        *_pair(taken, visits, rows, codes, items),
        _looked(looks, rows * items + codes, items),
        *amounts.of_pairs(rows, codes, facts, items),
        *(column[rows] for column in (*_shopper(taken, looks, visits, items), *amounts.usual)),
        *facts.values[codes].T,
        *amounts.fits(rows, codes, facts),
        *likeness,
        places(dense["ease"], rows, codes),
    ]
    for place, column in enumerate(columns):
        result[:, place] = column
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Visits:
    """The days with target events of each shopper, ascending by shopper, then the newest first."""

    keys: Ints  # (V,) shopper << DAY_BITS | days ago
    first: Ints  # (B,) where a shopper's visits begin
    count: Ints  # (B,)

    @classmethod
    def of(cls, taken: HistoryBatch) -> _Visits:
        keys = np.unique(taken.rows << DAY_BITS | days_ago(taken))
        bounds = np.searchsorted(keys, np.arange(taken.size + 1) << DAY_BITS)
        return cls(keys, bounds[:-1], np.diff(bounds))

    @property
    def days(self) -> Ints:
        return self.keys & ((1 << DAY_BITS) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Amounts:
    """What was spent, in logarithms: pieces, prices of a piece, pieces times price."""

    taken: HistoryBatch
    spent: Numbers  # (E,) not a logarithm
    usual: tuple[Numbers, Numbers, Numbers]  # (B,) each: median pieces and price of a line, median spending of a visit

    @classmethod
    def of(cls, taken: HistoryBatch, facts: ItemFacts) -> _Amounts:
        spent = facts.spent(taken)
        visit, where = np.unique(taken.rows << DAY_BITS | days_ago(taken), return_inverse=True)
        a_visit = np.log(np.bincount(where, spent, len(visit)))
        usual = (
            grouped_median(taken.rows, np.log(taken.quantities.astype(np.float64)), taken.size),
            grouped_median(taken.rows, np.log(taken.prices.astype(np.float64)), taken.size),
            grouped_median(visit >> DAY_BITS, a_visit, taken.size),
        )
        return cls(taken, spent, usual)

    def of_pairs(self, rows: Ints, codes: Ints, facts: ItemFacts, items: int) -> list[Numbers]:
        """The last columns of PAIR; NaN for an item that the shopper never took."""
        taken = self.taken
        pairs, where = np.unique(taken.rows * items + taken.codes, return_inverse=True)
        newest = np.zeros(len(pairs), np.int64)
        newest[where] = np.arange(len(where))  # events lie by time: the last assignment is the newest
        last, price = np.log(taken.quantities[newest].astype(np.float64)), np.log(taken.prices[newest].astype(np.float64))
        spent = np.bincount(where, self.spent, len(pairs))
        of_all = np.bincount(taken.rows, self.spent, taken.size)[pairs // max(items, 1)]
        code = pairs % max(items, 1)
        columns = [
            np.log(np.bincount(where, taken.quantities, len(pairs))),
            last,
            last - facts.column("item_quantity")[code],
            np.log(spent),
            np.log(spent / of_all),
            facts.column("item_price_now")[code] - price,
        ]
        return [_look_up(pairs, rows * items + codes, column, np.nan) for column in columns]

    def fits(self, rows: Ints, codes: Ints, facts: ItemFacts) -> list[Numbers]:
        """The columns FITS."""
        pieces, price, _ = self.usual
        return [facts.column("item_quantity")[codes] - pieces[rows], facts.column("item_price")[codes] - price[rows]]


def days_ago(batch: HistoryBatch) -> Ints:
    """(E,) whole days before the request."""
    return np.minimum(np.floor(batch.ages), (1 << DAY_BITS) - 1).astype(np.int64)


def _pair(taken: HistoryBatch, visits: _Visits, rows: Ints, codes: Ints, items: int) -> list[Numbers]:
    """The columns PAIR but the last: what the history says of taking this item."""
    keys = taken.rows * items + taken.codes
    lines = np.unique(keys << DAY_BITS | days_ago(taken))  # by pair, then the newest first
    day = lines & ((1 << DAY_BITS) - 1)
    pairs, first, days = np.unique(lines >> DAY_BITS, return_index=True, return_counts=True)

    def total(weight: npt.NDArray[np.number | np.bool_]) -> Numbers:
        return np.add.reduceat(weight.astype(np.float64), first) if len(first) else np.zeros(0)

    since, age = day[first], day[first + days - 1]
    gap = np.where(days > 1, (age - since) / np.maximum(days - 1, 1), np.nan)
    owner = pairs // max(items, 1)
    later = np.searchsorted(visits.keys, owner << DAY_BITS | since) - visits.first[owner]
    counts = [days, *(total(day < span) for span in WINDOWS_DAYS), *(total(np.exp(-day / span)) for span in DECAYS_DAYS)]
    counts.append(np.bincount(np.searchsorted(pairs, keys), minlength=len(pairs)))
    others = [since, age, gap, since / np.maximum(gap, 1), days / visits.count[owner], later]
    wanted = rows * items + codes
    return [_look_up(pairs, wanted, column, 0) for column in counts] + [
        _look_up(pairs, wanted, column, np.nan) for column in others
    ]


def _look_up(keys: Ints, wanted: Ints, values: npt.NDArray[np.number], missing: float) -> Numbers:
    """The value of each wanted key among the sorted `keys`."""
    if not len(keys):
        return np.full(len(wanted), missing)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], missing).astype(np.float64)


def _looked(looks: HistoryBatch, wanted: Ints, items: int) -> Numbers:
    """Decayed count of the other events (views, clicks, carts) of the pair."""
    keys, where = np.unique(looks.rows * items + looks.codes, return_inverse=True)
    return _look_up(keys, wanted, np.bincount(where, np.exp(-looks.ages / LOOKED_DAYS), len(keys)), 0)


def _shopper(taken: HistoryBatch, looks: HistoryBatch, visits: _Visits, items: int) -> list[Numbers]:
    """The columns SHOPPER, each (B,)."""
    size, day, count = taken.size, visits.days, visits.count
    some = count > 0
    last, oldest = np.full(size, np.nan), np.full(size, np.nan)
    last[some], oldest[some] = day[visits.first[some]], day[visits.first[some] + count[some] - 1]
    owner = visits.keys >> DAY_BITS
    lines = np.unique((taken.rows * items + taken.codes) << DAY_BITS | days_ago(taken)) >> DAY_BITS
    per_shopper = np.bincount(lines // max(items, 1), minlength=size)
    distinct = np.bincount(np.unique(lines) // max(items, 1), minlength=size)
    columns = [
        count,
        *(np.bincount(owner[day < span], minlength=size) for span in WINDOWS_DAYS),
        last,
        oldest,
        np.where(count > 1, (oldest - last) / np.maximum(count - 1, 1), np.nan),
        distinct,
        np.where(some, per_shopper / np.maximum(count, 1), np.nan),
        np.where(some, 1 - distinct / np.maximum(per_shopper, 1), np.nan),
        np.bincount(looks.rows, minlength=size),
    ]
    return [column.astype(np.float64) for column in columns]


def places(values_BI: Floats, rows: Ints, codes: Ints) -> Numbers:
    """(P,) how many items of the shopper have a higher value than each pair; NaN for the place of NaN.

    >>> places(np.array([[1.0, 5.0, 2.0]]), np.array([0, 0]), np.array([0, 1])).tolist()
    [2.0, 0.0]
    """
    wanted = values_BI[rows, codes]
    result = np.full(len(rows), np.nan)
    order = np.argsort(rows, kind="stable")
    bounds = np.searchsorted(rows[order], np.arange(len(values_BI) + 1))
    for values, first, last in zip(np.sort(values_BI, axis=1), bounds[:-1], bounds[1:], strict=True):
        own = order[first:last]
        result[own] = len(values) - np.searchsorted(values, wanted[own], side="right")
    return np.where(np.isnan(wanted), np.nan, result)
