"""The interactions file of a benchmark: any shop's (user, item, when), read as text ids and microseconds.

Not here: how times are written (`times.py`), the items file (`item_table.py`), what is trained and judged (`splits.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.benchmark.input_files import read_frame
from endcap.benchmark.times import how_many, read_times
from endcap.contracts import MAX_QUANTITY
from endcap.data.features import (
    MAX_PRICE,
    MIN_AMOUNT,
    POSITIVE_TYPES,
    SURFACE_CODES,
    TYPE_CODES,
    TYPES,
    Floats,
    clean_prices,
    clean_quantities,
    country_codes,
    surface_codes,
)
from endcap.errors import InputError

Ints = npt.NDArray[np.int64]

# The names a column may have, the first one found is taken.
NAMES = {
    "user": ("user", "user_id"),
    "item": ("item", "item_id"),
    "position": ("position",),
    "time": ("timestamp", "time"),
    "type": ("type", "event", "event_type"),
    "quantity": ("quantity",),
    "price": ("price", "unit_price"),
    "surface": ("surface",),
    "country": ("country",),
}
# What pieces and prices may be. Beyond, the column holds something else, and the logarithms that models take of it would break.
AMOUNTS = {"quantity": (MIN_AMOUNT, MAX_QUANTITY), "price": (MIN_AMOUNT, MAX_PRICE)}


@dataclass(frozen=True, slots=True, eq=False)
class EventTable:
    """N events that say "I want this", in the file's order."""

    users: npt.NDArray[Any]  # (N,) text
    items: npt.NDArray[Any]  # (N,) text
    times_us: Ints | None  # (N,) microseconds since the epoch, UTC
    positions: npt.NDArray[np.float64] | None  # (N,) the order within a user
    types: Ints  # (N,) data.features.TYPE_CODES
    quantities: Floats  # (N,) pieces; 1 where not given
    prices: Floats  # (N,) of one piece; NaN where not given
    surfaces: Ints  # (N,) data.features.SURFACE_CODES
    countries: Ints  # (N,) data.features.country_codes
    columns: dict[str, str]  # what was read from which column
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.users)


def read_events(path: Path) -> EventTable:
    """Events of a Parquet or CSV file; returns (quantity <= 0) and types that say nothing of liking are left out.

    Columns: user, item; timestamp (datetime, ISO 8601 text, or a number of days, seconds, … since 1970) or position, or
    neither, then the file's order counts; and, where there are, type, quantity, price (of one piece), surface and country.

    Raises:
        InputError: unreadable, a column is missing, ids are null, times cannot be read, or no event is left.
    """
    where, frame = str(path), read_frame(path)
    columns, notes = _find_columns(frame, where)
    types, keep, told = _which_events(frame, columns, where)
    notes += told
    frame = frame[keep]
    times = None
    if "time" in columns:
        times, columns["time_unit"], unlikely = read_times(frame[columns["time"]], f"{where}: {columns['time']}")
        notes += unlikely
    positions = _numbers(frame[columns["position"]], f"{where}: position") if "position" in columns else None
    users, items = (text_ids(frame[columns[role]], f"{where}: {columns[role]}") for role in ("user", "item"))
    quantities = clean_quantities(_amounts(frame, columns, "quantity", notes), len(frame))
    prices = clean_prices(_amounts(frame, columns, "price", notes), len(frame))
    surfaces = _surfaces(frame, columns, notes)
    countries = country_codes(frame[columns["country"]] if "country" in columns else None, len(frame))
    return EventTable(
        users, items, times, positions, types[keep], quantities, prices, surfaces, countries, columns, tuple(notes)
    )


def _find_columns(frame: pd.DataFrame, where: str) -> tuple[dict[str, str], list[str]]:
    """The column of each role, and notes on what is not there or not read."""
    columns = {role: name for role, names in NAMES.items() for name in names[::-1] if name in frame}
    for role in ("user", "item"):
        if role not in columns:
            action = f"Name a column {' or '.join(NAMES[role])}."
            raise InputError("the column is missing", field=f"{where}: {role}", value=list(frame.columns), action=action)
    if frame.empty:
        raise InputError("holds no interactions", field=where, value=0, action="Give at least one event.")
    notes = []
    if unread := [str(name) for name in frame if name not in columns.values()]:
        known = ", ".join(" or ".join(names) for names in NAMES.values())
        notes.append(f"columns that are not read: {', '.join(unread)}; those that could be: {known}")
    if "time" not in columns and "position" not in columns:
        notes.append("neither timestamp nor position: the order of the file is taken for the order of time")
    return columns, notes


def _which_events(frame: pd.DataFrame, columns: dict[str, str], where: str) -> tuple[Ints, npt.NDArray[np.bool_], list[str]]:
    """(N,) type codes, (N,) which events say "I want this", and notes on the others."""
    notes = []
    types, unknown = event_types(frame[columns["type"]] if "type" in columns else None, len(frame))
    if unknown:
        notes.append(f"events of unknown types left out: {', '.join(unknown[:5])}; known: {', '.join(TYPES)}")
    keep = (types >= 0) & POSITIVE_TYPES[types]
    if "quantity" in columns:
        keep &= ~(pd.to_numeric(frame[columns["quantity"]], errors="coerce") <= 0).to_numpy(np.bool_, na_value=False)
    if not keep.all():
        notes.append(f"{int((~keep).sum()):,} of {len(frame):,} events say nothing of liking, or are returns: left out")
    if not keep.any():
        action = "Give purchases, carts, ratings, clicks or views with a positive quantity."
        raise InputError("no event says that a shopper wants an item", field=where, value=len(frame), action=action)
    return types, keep, notes


def _amounts(frame: pd.DataFrame, columns: dict[str, str], role: str, notes: list[str]) -> pd.Series[Any] | None:
    """(N,) numbers, NaN for what is none or of no human size, with a note; None without such a column."""
    if role not in columns:
        return None
    given = frame[columns[role]]
    given = given.mask(given == "")
    numbers = pd.to_numeric(given, errors="coerce").astype(np.float64)
    low, high = AMOUNTS[role]
    usable = numbers.between(low, high)
    odd = ~usable & (numbers != 0) & given.notna()  # nothing is the price of a gift
    if odd.any():
        told = how_many(odd.to_numpy(np.bool_), given)
        notes.append(
            f"{columns[role]}: not between {low:g} and {high:,.0f}: {told}; read as not given: mend them, or leave them empty"
        )
    return numbers.where(usable)


def _surfaces(frame: pd.DataFrame, columns: dict[str, str], notes: list[str]) -> Ints:
    """(N,) surface codes, with a note on names that are none."""
    if "surface" not in columns:
        return surface_codes(None, len(frame))
    given = frame[columns["surface"]]
    names = given.astype("string").str.strip().str.lower().fillna("")
    odd = ~names.isin(list(SURFACE_CODES)).to_numpy(np.bool_)
    if odd.any():
        known = ", ".join(filter(None, SURFACE_CODES))
        notes.append(f"surface: unknown names: {how_many(odd, given)}; read as not given. Known: {known}")
    return surface_codes(names, len(frame))


def text_ids(column: pd.Series[Any], field: str) -> npt.NDArray[Any]:
    """(N,) ids as text; whole numbers that a file stores as floats lose their ".0".

    Raises:
        InputError: an id is null or empty.
    """
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    codes, unique = pd.factorize(column)  # long columns, few ids
    names = np.array([str(value).strip() for value in unique], object)
    empty = (codes < 0) | np.isin(codes, np.flatnonzero(names == ""))
    if empty.any():
        action = "Drop these rows or give them an id."
        raise InputError("ids are null or empty", field=field, value=how_many(empty, column), action=action)
    return np.asarray(names[codes], object)


def event_types(column: pd.Series[Any] | None, count: int) -> tuple[Ints, list[str]]:
    """(N,) type codes (-1: unknown) and the unknown names. Without a column every event is a purchase."""
    if column is None:
        return np.full(count, TYPE_CODES["purchase"], np.int64), []
    names = column.astype("string").str.strip().str.lower()
    codes: Ints = names.map(TYPE_CODES).fillna(-1).to_numpy().astype(np.int64)
    return codes, sorted({str(name) for name in names[codes < 0]})


def _numbers(column: pd.Series[Any], field: str) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64] = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if (none := np.isnan(numbers)).any():
        action = "Number each user's events."
        raise InputError("positions are numbers", field=field, value=how_many(none, column), action=action)
    return numbers
