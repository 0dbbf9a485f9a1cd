"""The interactions file of a benchmark: any shop's (user, item, when), read as text ids and microseconds.

Not here: the items file (`item_table.py`), and what is trained and judged (`splits.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.data.features import POSITIVE_TYPES, TYPE_CODES, TYPES, Floats, clean_prices, clean_quantities, surface_codes
from endcap.data.table_files import read_table
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
}
# Whole numbers are read by their size: days, seconds, milliseconds, microseconds or nanoseconds since 1970.
NUMBER_UNITS = ((1e5, "days", 86_400e6), (1e11, "seconds", 1e6), (1e14, "milliseconds", 1e3), (1e17, "microseconds", 1.0))
NANOSECONDS = ("nanoseconds", 1e-3)


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
    columns: dict[str, str]  # what was read from which column
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.users)


def read_events(path: Path) -> EventTable:
    """Events of a Parquet or CSV file; returns (quantity <= 0) and types that say nothing of liking are left out.

    Columns: user, item; timestamp (datetime, ISO 8601 text, or a number of days, seconds, … since 1970) or position, or
    neither, then the file's order counts; and, where there are, type, quantity, price (of one piece) and surface.

    Raises:
        InputError: unreadable, a column is missing, ids are null, times cannot be read, or no event is left.
    """
    where, frame = str(path), read_frame(path)
    columns = {role: name for role, names in NAMES.items() for name in names[::-1] if name in frame}
    for role in ("user", "item"):
        if role not in columns:
            action = f"Name a column {' or '.join(NAMES[role])}."
            raise InputError("the column is missing", field=f"{where}: {role}", value=list(frame.columns), action=action)
    if frame.empty:
        raise InputError("holds no interactions", field=where, value=0, action="Give at least one event.")
    warnings = []
    if "time" not in columns and "position" not in columns:
        warnings.append("neither timestamp nor position: the order of the file is taken for the order of time")
    types, unknown = event_types(frame[columns["type"]] if "type" in columns else None, len(frame))
    if unknown:
        warnings.append(f"events of unknown types left out: {', '.join(unknown[:5])}; known: {', '.join(TYPES)}")
    keep = (types >= 0) & POSITIVE_TYPES[types]
    if "quantity" in columns:
        keep &= ~(_lenient(frame, columns, "quantity") <= 0).to_numpy()
    if not keep.all():
        warnings.append(f"{int((~keep).sum()):,} of {len(frame):,} events say nothing of liking, or are returns: left out")
    if not keep.any():
        action = "Give purchases, carts, ratings, clicks or views with a positive quantity."
        raise InputError("no event says that a shopper wants an item", field=where, value=len(frame), action=action)
    frame = frame[keep]
    times = None
    if "time" in columns:
        times, columns["time_unit"] = read_times(frame[columns["time"]], f"{where}: {columns['time']}")
    positions = _numbers(frame[columns["position"]], f"{where}: position") if "position" in columns else None
    users, items = (text_ids(frame[columns[role]], f"{where}: {columns[role]}") for role in ("user", "item"))
    quantities = clean_quantities(_lenient(frame, columns, "quantity"), len(frame))
    prices = clean_prices(_lenient(frame, columns, "price"), len(frame))
    surfaces = surface_codes(frame[columns["surface"]] if "surface" in columns else None, len(frame))
    return EventTable(users, items, times, positions, types[keep], quantities, prices, surfaces, columns, tuple(warnings))


def read_frame(path: Path) -> pd.DataFrame:
    """The rows of a file, columns named in lower case.

    Raises:
        InputError: unreadable, or two names differ in case alone.
    """
    return in_lower_case(read_table(path).to_pandas(), path)


def in_lower_case(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The same rows, columns named in lower case.

    Raises:
        InputError: two names differ in case alone.
    """
    names = pd.Index([str(name).strip().lower() for name in frame.columns])
    if names.has_duplicates:
        twice = [str(name) for name, same in zip(frame.columns, names.duplicated(keep=False), strict=True) if same]
        raise InputError("columns differ in case alone", field=str(path), value=twice, action="Keep one of them.")
    return frame.set_axis(names, axis=1)


def _lenient(frame: pd.DataFrame, columns: dict[str, str], role: str) -> pd.Series[Any]:
    """(N,) numbers; NaN for what is none, everywhere where the file has no such column."""
    if role not in columns:
        return pd.Series(np.nan, index=frame.index)
    return pd.to_numeric(frame[columns[role]], errors="coerce")


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
        value = f"{int(empty.sum())} of {len(codes)}, first in row {int(empty.argmax()) + 1}"
        raise InputError("ids are null or empty", field=field, value=value, action="Drop these rows or give them an id.")
    return np.asarray(names[codes], object)


def read_times(column: pd.Series[Any], field: str) -> tuple[Ints, str]:
    """(N,) microseconds since the epoch, of datetimes, ISO 8601 texts, or numbers since 1970; and what they were taken for.

    >>> read_times(pd.Series([1, 2]), "day")
    (array([ 86400000000, 172800000000]), 'days')

    Raises:
        InputError: a time is missing or is none.
    """
    if pd.api.types.is_timedelta64_dtype(column) or pd.api.types.is_bool_dtype(column):
        action = "Give datetimes, ISO 8601 texts, or seconds or days since 1970."
        raise InputError("is no moment", field=field, value=str(column.dtype), action=action)
    if not pd.api.types.is_datetime64_any_dtype(column) and not pd.api.types.is_numeric_dtype(column):
        numbers = pd.to_numeric(column, errors="coerce")
        column = numbers if numbers.notna().sum() * 2 > len(numbers) else pd.to_datetime(
            column, utc=True, errors="coerce", format="ISO8601"
        )  # fmt: skip
    missing = column.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(column):
        missing |= ~np.isfinite(column.to_numpy(np.float64, na_value=np.nan))
    if missing.any():
        value = f"{int(missing.sum())} of {len(column)}, first in row {int(missing.argmax()) + 1}"
        action = "Give datetimes, ISO 8601 texts, or seconds or days since 1970; or drop the column and give position."
        raise InputError("times are missing or cannot be read", field=field, value=value, action=action)
    if pd.api.types.is_numeric_dtype(column):
        return _scaled(column.to_numpy(np.float64), field)
    times = pd.to_datetime(column, utc=True).dt.tz_localize(None).to_numpy("datetime64[us]")
    return times.astype(np.int64), "dates"


def _scaled(numbers: npt.NDArray[np.float64], field: str) -> tuple[Ints, str]:
    largest = np.abs(numbers).max()
    unit, scale = next(((name, factor) for limit, name, factor in NUMBER_UNITS if largest < limit), NANOSECONDS)
    if largest * scale > 2**62:
        raise InputError("a time is too far away", field=field, value=float(largest), action="Give seconds since 1970.")
    return np.round(numbers * scale).astype(np.int64), unit


def event_types(column: pd.Series[Any] | None, count: int) -> tuple[Ints, list[str]]:
    """(N,) type codes (-1: unknown) and the unknown names. Without a column every event is a purchase."""
    if column is None:
        return np.full(count, TYPE_CODES["purchase"], np.int64), []
    names = column.astype("string").str.strip().str.lower()
    codes: Ints = names.map(TYPE_CODES).fillna(-1).to_numpy().astype(np.int64)
    return codes, sorted({str(name) for name in names[codes < 0]})


def _numbers(column: pd.Series[Any], field: str) -> npt.NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if np.isnan(numbers).any():
        value = f"row {int(np.isnan(numbers).argmax()) + 1}"
        raise InputError("positions are numbers", field=field, value=value, action="Number each user's events.")
    return numbers


def describe_files(**paths: Path | None) -> dict[str, dict[str, str]]:
    """The files by what they are for: name and checksum, without a path, which says nothing elsewhere."""
    return {role: {"name": path.name, "sha256": sha256_of(path)} for role, path in paths.items() if path}


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
