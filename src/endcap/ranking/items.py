"""What the shop knows of the items a model can score, as arrays in the model's order, and which of them pass a filter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a shopper narrowed the shelf to. Empty means everything; prices are in shop currency, both ends included."""

    categories: frozenset[str] = frozenset()
    brands: frozenset[str] = frozenset()
    price_min: float | None = None
    price_max: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """Titles, categories, brands and prices of I items, in the order in which the model scores them."""

    item_ids: Sequence[str]
    titles: Sequence[str]
    categories: npt.NDArray[Any]  # (I,) text; "" where the shop gives none
    brands: npt.NDArray[Any]  # (I,) text; "" where the shop gives none
    prices: npt.NDArray[np.float64]  # (I,) NaN where unknown
    listed_from: npt.NDArray[np.float64]  # (I,) seconds since 1970; -inf where the shop does not say
    index: Mapping[str, int] = field(repr=False)

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], item_ids: Sequence[str] | None = None) -> ItemTable:
        """From catalogue rows. `item_ids` sets the order (and may hold items without a row); default: the order of the rows."""
        by_id = {str(row["item_id"]): row for row in rows}
        ids = [str(item) for item in (by_id if item_ids is None else item_ids)]
        found: list[Mapping[str, Any]] = [by_id.get(item, {}) for item in ids]
        return cls(
            item_ids=ids,
            titles=[str(row.get("title") or item) for row, item in zip(found, ids, strict=True)],
            categories=np.array([row.get("category") or "" for row in found], dtype=object),
            brands=np.array([row.get("brand") or "" for row in found], dtype=object),
            prices=np.array([np.nan if row.get("price") is None else row["price"] for row in found], dtype=np.float64),
            listed_from=np.array([_seconds(row.get("available_from")) for row in found], dtype=np.float64),
            index={item: position for position, item in enumerate(ids)},
        )

    def __len__(self) -> int:
        return len(self.item_ids)

    def positions(self, item_ids: Collection[str]) -> list[int]:
        """Where these items stand; unknown ones are left out."""
        return [self.index[item] for item in item_ids if item in self.index]

    def passing(self, filters: Filters, now: datetime) -> Mask:
        """(I,) true where the item is listed by now and passes. An item of unknown price does not pass a price filter."""
        allowed = self.listed_from <= now.timestamp()
        if filters.categories:
            allowed &= np.isin(self.categories, list(filters.categories))
        if filters.brands:
            allowed &= np.isin(self.brands, list(filters.brands))
        if filters.price_min is not None:
            allowed &= self.prices >= filters.price_min
        if filters.price_max is not None:
            allowed &= self.prices <= filters.price_max
        return allowed


def _seconds(listed: datetime | None) -> float:
    return -np.inf if listed is None else listed.timestamp()
