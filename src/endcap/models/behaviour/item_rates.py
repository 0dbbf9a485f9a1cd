"""How often each item was shown, acted on and bought: the popularity prior of behaviour, and an input of the head.

rate(i) = (acted_i + s · mean) / (shown_i + s): a beta prior around the mean of all items, worth `s` exposures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
STRENGTH = 50.0  # exposures that the mean of all items is worth
SHOWN, CLICKED, PURCHASED = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class ItemRates:
    """Counts by item as of one moment."""

    item_ids: npt.NDArray[Any]  # (I,) text
    table: Floats  # (I, 3) shown, clicked, purchased

    @classmethod
    def empty(cls) -> ItemRates:
        """Nothing has been shown yet."""
        return cls(np.array([], object), np.zeros((0, 3)))

    @classmethod
    def count(cls, item_ids: Sequence[str] | npt.NDArray[Any], outcomes_N2: npt.NDArray[Any]) -> ItemRates:
        """From N shown items and whether each was clicked and purchased."""
        items, codes = np.unique(np.asarray(item_ids, str), return_inverse=True)
        outcomes = np.asarray(outcomes_N2, np.float64)
        weights = (np.ones(len(codes)), outcomes[:, 0], outcomes[:, 1])
        columns = [np.bincount(codes, weights=column, minlength=len(items)) for column in weights]
        return cls(items.astype(object), np.stack(columns, axis=1))

    def of(self, item_ids: Sequence[str] | npt.NDArray[Any]) -> Floats:
        """(N, 3) the counts of these items; 0 for an item never shown."""
        index = {item: code for code, item in enumerate(self.item_ids)}
        codes = np.array([index.get(str(item), len(self.item_ids)) for item in item_ids], np.int64)
        return np.vstack([self.table, np.zeros((1, 3))])[codes]

    def rates(self, item_ids: Sequence[str] | npt.NDArray[Any], strength: float = STRENGTH) -> Floats:
        """(N, 2) smoothed rates of click and purchase; for an item never shown the mean of all.

        >>> ItemRates.count(["a", "a", "b", "b"], np.array([[1, 1], [1, 0], [0, 0], [0, 0]])).rates(["a", "new"], 2.0).round(3)
        array([[0.75 , 0.375],
               [0.5  , 0.25 ]])
        """
        return smoothed(self.of(item_ids), self.means(), strength)

    def means(self) -> Floats:
        """(2,) rates over all items."""
        total = self.table.sum(axis=0)
        return np.asarray((total[1:] + 0.5) / (total[0] + 1.0)) if total[0] < 1 else np.asarray(total[1:] / total[0])


def smoothed(counts_N3: Floats, means_2: Floats, strength: float) -> Floats:
    """(N, 2) rates of counts, drawn to the means."""
    return np.asarray((counts_N3[:, 1:] + strength * means_2) / (counts_N3[:, :1] + strength))


def running_counts(
    codes_N: npt.NDArray[np.int64], shown_us: npt.NDArray[np.int64], known_us: npt.NDArray[np.int64], outcomes_N2: Floats
) -> Floats:
    """(N, 3) for each shown item its counts up to `known_us` of the row: no outcome of a later moment.

    Args:
        codes_N: which item. shown_us: when, in microseconds. known_us: until when outcomes were known to this row.
    """
    order = np.lexsort((shown_us, codes_N))
    sorted_codes, sorted_times = codes_N[order], shown_us[order]
    totals = np.vstack([np.zeros((1, 3)), np.cumsum(np.column_stack([np.ones(len(order)), outcomes_N2[order]]), axis=0)])
    counts = np.empty((len(codes_N), 3))
    for code in np.unique(codes_N):
        first, last = np.searchsorted(sorted_codes, [code, code + 1])
        rows = order[first:last]
        upto = first + np.searchsorted(sorted_times[first:last], known_us[rows], side="right")
        counts[rows] = totals[upto] - totals[first]
    return counts
