"""What the behaviour head looks at: features of (shopper, item, context), all of them known at the moment of the request.

Scores and their parts come from the recommender, the rest from the history, the item table, past exposures and the place shown.
What is not known (an item that the recommender has never heard of, no price) is NaN; the head takes the mean of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from endcap.contracts import EventType, Surface
from endcap.data.features import column_microseconds, to_microseconds
from endcap.models.behaviour.calibration import log_odds
from endcap.models.behaviour.item_rates import STRENGTH, smoothed
from endcap.models.history import MICROSECONDS_PER_DAY, History
from endcap.models.signals import log_share

if TYPE_CHECKING:
    from endcap.models.blend import BlendedRecommender

Floats = npt.NDArray[np.float64]
RANK, LOG_RANK = "rank", "log_rank"
FORGET_DAYS = 30.0
LOOKS = (EventType.VIEW.value, EventType.CLICK.value, EventType.CART.value)
UNKNOWN = -1


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """A table of numbers: `values` (N, F), one column a name; NaN where not known."""

    names: tuple[str, ...]
    values: Floats

    def rows(self, which: npt.NDArray[Any] | slice) -> Features:
        """Some of the rows."""
        return Features(self.names, self.values[which])


@dataclass(frozen=True, slots=True, eq=False)
class ShownSlate:
    """The items shown to (or scored for) one shopper at one moment."""

    item_ids: Sequence[str] | npt.NDArray[Any]  # (K,)
    ranks: npt.NDArray[Any]  # (K,) 1 is first
    history: History  # up to `now`
    now: datetime
    surface: str = "home"


class BehaviourFeatures:
    """Makes the features of slates with one recommender."""

    def __init__(self, model: BlendedRecommender) -> None:
        import pandas as pd

        self.model, items = model, model.items
        self._index = {str(item): code for code, item in enumerate(model.item_ids)}
        price = items["price"].to_numpy(np.float64, na_value=np.nan)
        self._price = np.log(np.where(price > 0, price, np.nan))
        self._category, self._brand = (pd.factorize(items[name])[0] for name in ("category", "brand"))
        median = pd.Series(self._price).groupby(self._category).transform("median").to_numpy(np.float64)
        self._dearer_than_category = self._price - median
        self._listed_us = column_microseconds(items["available_from"])
        self._new = ~items["seen_in_training"].fillna(False).to_numpy(np.bool_)
        self._popular, self._recent = log_share(model.counts.all_time), log_share(model.counts.recent)

    def make(self, slates: Sequence[ShownSlate], counts_N3: Floats, means_2: Floats) -> Features:
        """The features of all shown items, slate after slate.

        Args:
            counts_N3: shown, clicked, purchased of each shown item as known at the request (models/behaviour/item_rates.py).
            means_2: the rates over all items.
        """
        blocks = [self._slate(slate) for slate in slates]
        names = tuple(blocks[0]) if blocks else ()
        table = {name: np.concatenate([block[name] for block in blocks]) for name in names}
        rates = log_odds(smoothed(counts_N3, means_2, STRENGTH))
        table |= {"item_click_rate": rates[:, 0], "item_purchase_rate": rates[:, 1], "item_shown": np.log1p(counts_N3[:, 0])}
        return Features(tuple(table), np.stack(list(table.values()), axis=1))

    def _slate(self, slate: ShownSlate) -> dict[str, Floats]:
        codes = np.array([self._index.get(str(item), UNKNOWN) for item in slate.item_ids], np.int64)
        size, known = len(codes), codes >= 0
        parts = self.model.score_parts([slate.history], slate.now, slate.surface)
        scored = {f"part_{name}": _take(np.asarray(part)[0], codes, known) for name, part in parts.items()}
        total = np.sum(list(scored.values()), axis=0) if scored else np.zeros(size)
        now_us = to_microseconds(slate.now)
        age = (now_us - _take(self._listed_us.astype(np.float64), codes, known)) / MICROSECONDS_PER_DAY
        about_item = {
            "item_popularity": _take(self._popular, codes, known),
            "item_recent": _take(self._recent, codes, known),
            "item_price": _take(self._price, codes, known),
            "dearer_than_category": _take(self._dearer_than_category, codes, known),
            "item_age": np.log1p(np.maximum(age, 0.0)),
            "item_new": np.where(known, self._new[codes], True).astype(np.float64),
        }
        place = context_features(slate.surface, slate.now, size) | place_features(slate.ranks)
        return {"score": total} | scored | self._own(slate.history, codes, known, now_us) | about_item | place

    def _own(self, history: History, codes: npt.NDArray[np.int64], known: npt.NDArray[Any], now_us: int) -> dict[str, Floats]:
        """What the shopper's own past says of each item; the past stops at the request, whatever was handed over."""
        times = history.times.astype(np.int64)
        past = times <= now_us
        theirs = np.array([self._index.get(str(item), UNKNOWN) for item in history.item_ids], np.int64)
        taken = (history.types == EventType.PURCHASE.value) & ~(history.quantities <= 0) & past
        looked = np.isin(history.types, LOOKS) & past
        fade = np.exp(-(now_us - times) / MICROSECONDS_PER_DAY / FORGET_DAYS) * past
        same = (theirs[None, :] == codes[:, None]) & known[:, None]  # (K, E)
        real = theirs[past & (theirs >= 0)]
        days = np.unique((now_us - times[past]) // MICROSECONDS_PER_DAY)
        usual = np.nanmedian(self._price[real]) if np.isfinite(self._price[real]).any() else np.nan
        size = len(codes)
        return {
            "own_bought": np.log1p((same & taken).sum(axis=1)),
            "own_bought_lately": (same * (fade * taken)).sum(axis=1),
            "own_looked": np.log1p((same & looked).sum(axis=1)),
            "own_looked_lately": (same * (fade * looked)).sum(axis=1),
            "category_share": _share(self._category, real, codes, known),
            "brand_share": _share(self._brand, real, codes, known),
            "dearer_than_usual": _take(self._price, codes, known) - usual,
            "history_events": np.full(size, np.log1p(past.sum())),
            "history_days": np.full(size, np.log1p(len(days))),
            "active_lately": np.full(size, float(np.log1p(fade.sum()))),
            "new_shopper": np.full(size, float(not past.any())),
        }


def context_features(surface: str, now: datetime, size: int) -> dict[str, Floats]:
    """Surface, hour and weekday (UTC), the same for all items of a slate."""
    now = now.astimezone(UTC) if now.tzinfo else now
    hour, weekday = (now.hour + now.minute / 60) / 24, now.weekday() / 7
    values = {f"on_{name.value}": float(surface == name.value) for name in Surface}
    values |= {"hour_sin": np.sin(2 * np.pi * hour), "hour_cos": np.cos(2 * np.pi * hour)}
    values |= {"week_sin": np.sin(2 * np.pi * weekday), "week_cos": np.cos(2 * np.pi * weekday)}
    return {name: np.full(size, value) for name, value in values.items()}


def place_features(ranks: npt.NDArray[Any] | float) -> dict[str, Floats]:
    """The place shown, 1 the first: as it is and as a logarithm, since looks fade by either."""
    rank = np.maximum(np.asarray(ranks, np.float64), 1.0)
    return {RANK: rank, LOG_RANK: np.log(rank)}


def _take(values_I: npt.NDArray[Any], codes: npt.NDArray[np.int64], known: npt.NDArray[Any]) -> Floats:
    return np.where(known, np.asarray(values_I, np.float64)[codes], np.nan) if len(values_I) else np.full(len(codes), np.nan)


def _share(
    groups_I: npt.NDArray[np.int64], theirs: npt.NDArray[np.int64], codes: npt.NDArray[np.int64], known: npt.NDArray[Any]
) -> Floats:
    """The share of the shopper's events in each item's own group (category, brand), smoothed; 0 for an item without one."""
    groups = np.where(known, groups_I[codes], UNKNOWN)
    same = (groups_I[theirs][None, :] == groups[:, None]).sum(axis=1) * (groups >= 0)
    return np.asarray(same / (len(theirs) + 3.0))
