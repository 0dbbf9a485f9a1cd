"""What a scorer knows of a shopper at one moment, and a batch of such histories as flat arrays.

Every scorer takes `Sequence[History]` and a moment. Items that a vocabulary does not hold are dropped here, in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from endcap.data.features import (
    POSITIVE_TYPES,
    SURFACE_CODES,
    TYPE_CODES,
    TYPES,
    Interactions,
    country_codes,
    surface_codes,
    to_microseconds,
    usable_prices,
    usable_quantities,
)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """One shopper's events, oldest first. Any sequence is accepted and normalised to numpy arrays of one length.

    `times` may be datetimes (aware ones are turned to UTC, naive ones are taken as UTC), numpy datetimes or pandas timestamps.
    """

    item_ids: npt.NDArray[Any]  # (N,) text
    times: npt.NDArray[np.datetime64]  # (N,) datetime64[us], UTC
    types: npt.NDArray[Any]  # (N,) text, see contracts.EventType
    quantities: npt.NDArray[np.float64]  # (N,) NaN: not given
    prices: npt.NDArray[np.float64]  # (N,) of one piece, shop currency; NaN: not given
    surfaces: npt.NDArray[Any]  # (N,) text, see contracts.Surface; "": not given
    countries: Ints  # (N,) data.features.country_codes of the names that are given; 0: not given

    def __init__(
        self,
        item_ids: Any,
        times: Any,
        types: Any = "purchase",
        quantities: Any = 1.0,
        prices: Any = np.nan,
        surfaces: Any = "",
        countries: Any = "",
    ) -> None:
        items = np.asarray(item_ids, dtype=object)
        count = len(items)
        object.__setattr__(self, "item_ids", items)
        object.__setattr__(self, "times", _as_times(times))
        for name, texts in (("types", types), ("surfaces", surfaces)):
            object.__setattr__(
                self, name, np.full(count, texts, object) if isinstance(texts, str) else np.asarray(texts, object)
            )
        for name, given in (("quantities", quantities), ("prices", prices)):
            numbers = np.full(count, given) if np.isscalar(given) else np.asarray(given, dtype=np.float64)
            object.__setattr__(self, name, numbers)
        object.__setattr__(self, "countries", _as_country_codes(countries, count))
        lengths = {len(getattr(self, name)) for name in self.__slots__}
        if len(lengths) > 1:
            raise ValueError(f"History: {', '.join(self.__slots__)} differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.item_ids)

    @classmethod
    def empty(cls) -> History:
        """The history of a shopper nobody has seen."""
        return cls([], [], [], [], [], [], [])

    @classmethod
    def from_events(cls, events: Sequence[Mapping[str, Any]]) -> History:
        """From event records, oldest first; `quantity`, `price`, `surface` and `country` may be missing or None."""
        pieces, prices = ([event.get(name) for event in events] for name in ("quantity", "price"))
        return cls(
            [event["item_id"] for event in events],
            [event["time"] for event in events],
            [str(event.get("type", "purchase")) for event in events],
            [np.nan if number is None else float(number) for number in pieces],
            [np.nan if number is None else float(number) for number in prices],
            [event.get("surface") or "" for event in events],
            [event.get("country") for event in events],
        )

    def part(self, rows: slice | npt.NDArray[Any]) -> History:
        """Some of the events, in the order asked for."""
        return History(*(getattr(self, name)[rows] for name in self.__slots__))


def histories_of(events: Interactions, first: Ints, last: Ints) -> list[History]:
    """A history each of the rows [first, last); `events` lie by shopper, then by time."""
    items, names = events.item_ids[events.items], np.asarray(TYPES, object)[events.types]
    surfaces = np.asarray(list(SURFACE_CODES), object)[events.surfaces]
    times = events.times_us.astype("datetime64[us]")
    columns = (items, times, names, events.quantities, events.prices, surfaces, events.countries)
    return [History(*(column[a:b] for column in columns)) for a, b in zip(first, last, strict=True)]


class Scorer(Protocol):
    """Anything that scores every item of its vocabulary for a batch of histories."""

    @property
    def item_ids(self) -> Sequence[str]: ...

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        """(B, I) float32: the higher, the sooner shown. Finite everywhere."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HistoryBatch:
    """Histories of B shoppers as flat arrays of E known, positive events, ordered by row, then by time."""

    size: int  # B
    rows: Ints  # (E,) which shopper
    codes: Ints  # (E,) item code in the vocabulary
    ages: Floats  # (E,) days before `now`, >= 0
    types: Ints  # (E,) data.features.TYPE_CODES
    now_us: int  # microseconds since the epoch
    quantities: Floats  # (E,) pieces; 1 where not given
    prices: Floats  # (E,) of one piece; NaN where not given
    surfaces: Ints  # (E,) data.features.SURFACE_CODES
    countries: Ints  # (E,) data.features.country_codes
    asked_on: int = 0  # SURFACE_CODES of the slate that is asked for; 0: not told

    def of_types(self, wanted: npt.NDArray[np.bool_]) -> HistoryBatch:
        """Only the events for which `wanted` (one flag a type code) is true."""
        keep = wanted[self.types]
        return replace(
            self,
            rows=self.rows[keep],
            codes=self.codes[keep],
            ages=self.ages[keep],
            types=self.types[keep],
            quantities=self.quantities[keep],
            prices=self.prices[keep],
            surfaces=self.surfaces[keep],
            countries=self.countries[keep],
        )


def encode(histories: Sequence[History], index: Mapping[str, int], now: datetime, surface: str = "") -> HistoryBatch:
    """Histories as flat arrays: unknown items, returns (quantity <= 0), weightless types and later events are left out.

    `surface` is what the slate is asked for; "": not told.
    """
    now_us, asked_on = to_microseconds(now), SURFACE_CODES.get(surface, 0)
    found: list[tuple[npt.NDArray[Any], ...]] = []
    for row, history in enumerate(histories):
        if not len(history):
            continue
        code = np.fromiter(map(index.get, history.item_ids.tolist(), repeat(-1)), np.int64, len(history))
        kind = np.fromiter(map(TYPE_CODES.get, history.types.tolist(), repeat(-1)), np.int64, len(history))
        time = history.times.astype(np.int64)
        known = (code >= 0) & (kind >= 0) & POSITIVE_TYPES[kind] & ~(history.quantities <= 0) & (time <= now_us)
        kept = np.flatnonzero(known)
        if len(kept) > 1 and (np.diff(time[kept]) < 0).any():
            kept = kept[np.argsort(time[kept], kind="stable")]
        surfaces = surface_codes(history.surfaces, len(history))
        columns = (code, time, kind, history.quantities, history.prices, surfaces, history.countries)
        found.append((np.full(len(kept), row, np.int64), *(column[kept] for column in columns)))
    if not found:
        none, no_numbers = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return HistoryBatch(
            size=len(histories), rows=none, codes=none, ages=no_numbers, types=none, now_us=now_us, quantities=no_numbers,
            prices=no_numbers, surfaces=none, countries=none, asked_on=asked_on,
        )  # fmt: skip
    rows, codes, times, types, quantities, prices, surfaces, countries = (
        np.concatenate(column) for column in zip(*found, strict=True)
    )
    ages = ((now_us - times) / MICROSECONDS_PER_DAY).astype(np.float32)
    return HistoryBatch(
        size=len(histories), rows=rows, codes=codes, ages=ages, types=types, now_us=now_us,
        quantities=usable_quantities(quantities), prices=usable_prices(prices), surfaces=surfaces,
        countries=countries, asked_on=asked_on,
    )  # fmt: skip


def held(batch: HistoryBatch, items: int) -> sparse.csr_matrix:
    """(B, I) ones where a shopper's history holds an item."""
    own = sparse.csr_matrix((np.ones(len(batch.codes), np.float32), (batch.rows, batch.codes)), shape=(batch.size, items))
    own.sum_duplicates()
    own.data[:] = 1
    return own


def _as_country_codes(countries: Any, count: int) -> Ints:
    """Codes as they are, names as their codes; one name stands for all."""
    given = np.full(count, countries, object) if isinstance(countries, str) else np.asarray(countries)
    return given if np.issubdtype(given.dtype, np.integer) else country_codes(given, len(given))


def _as_times(times: Any) -> npt.NDArray[np.datetime64]:
    if isinstance(times, np.ndarray) and np.issubdtype(times.dtype, np.datetime64):
        return times.astype("datetime64[us]")
    if all(getattr(time, "tzinfo", None) for time in times):  # every request pays for this
        seconds = np.fromiter((time.timestamp() for time in times), np.float64, len(times))
        return np.asarray(np.round(seconds * 1e6).astype("datetime64[us]"))
    naive = [time.astimezone(UTC).replace(tzinfo=None) if getattr(time, "tzinfo", None) else time for time in times]
    return np.array(naive, dtype="datetime64[us]")
