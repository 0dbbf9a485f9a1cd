"""The times of a benchmark's files: datetimes, ISO 8601 texts, dates such as 20111109, or numbers since 1970.

All become microseconds since the epoch, UTC; what can be read but is hardly meant is noted. Not here: other columns
(`tables.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.errors import InputError, shorten

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DATES, COMPACT = "dates", "dates such as 20111109"
# Microseconds of one. A column of numbers is read by its largest: the first unit whose end lies above it.
UNITS = {"days": 86_400e6, "seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}
ENDS = {"days": 1e5, "seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17, "nanoseconds": np.inf}
LIKELY_US = (631_152_000_000_000, 4_102_444_800_000_000)  # 1990 up to 2100: where shops' events lie
COMPACT_DAYS = (19_000_101, 21_001_231)
FORMS = "datetimes, ISO 8601 texts, or seconds or days since 1970"


class Times(NamedTuple):
    """A column of N times, what its values were taken for, and what looks wrong with them."""

    us: Ints  # (N,) microseconds since the epoch
    unit: str  # one of UNITS, DATES or COMPACT
    notes: tuple[str, ...]


def read_times(column: pd.Series[Any], field: str) -> Times:
    """The times of a column; its index numbers the rows of the file, from 0.

    >>> us, unit, _ = read_times(pd.Series([15_000, 15_001]), "day")
    >>> us // 86_400_000_000, unit
    (array([15000, 15001]), 'days')

    Raises:
        InputError: a time is missing or is none.
    """
    if pd.api.types.is_timedelta64_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise InputError("is no moment", field=field, value=str(column.dtype), action=f"Give {FORMS}.")
    read, unit = _numbers_or_dates(column)
    missing = read.isna().to_numpy()
    if unit not in (DATES, COMPACT):
        missing |= ~np.isfinite(read.to_numpy(np.float64, na_value=np.nan))
    if missing.any():
        action = f"Give {FORMS}; or drop the column and give position."
        raise InputError("times are missing or cannot be read", field=field, value=how_many(missing, column), action=action)
    if unit in (DATES, COMPACT):
        us = pd.to_datetime(read, utc=True).dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)
    else:
        us = _scaled(read.to_numpy(np.float64), unit, field)
    return Times(us, unit, _unlikely(us, unit, column))


def read_moment(text: str, unit: str, field: str) -> datetime:
    """A moment that is given beside a file: a number in the unit of the file's times, or an ISO 8601 text.

    >>> read_moment("15000", "days", "split-at").isoformat()
    '2011-01-26T00:00:00+00:00'

    Raises:
        InputError: it is no such moment.
    """
    number = pd.to_numeric(text, errors="coerce") if unit in UNITS else np.nan
    try:
        if not np.isnan(number):
            return EPOCH + timedelta(microseconds=round(float(number) * UNITS[unit]))
        moment = pd.to_datetime(text, utc=True, format="ISO8601")
        if pd.isna(moment):
            raise ValueError(text)
        return EPOCH + timedelta(microseconds=moment.value // 1000)
    except (ValueError, OverflowError) as error:
        what = f"{unit}, or an ISO 8601 text" if unit in UNITS else "an ISO 8601 text such as 2011-11-09"
        action = f"Give a moment as the file's times were read: {what}."
        raise InputError("is no moment", field=field, value=text, action=action) from error


def how_many(odd: npt.NDArray[np.bool_], column: pd.Series[Any]) -> str:
    """How many values are odd, and the first of them; rows are those of the file, the first one below its header is row 1.

    >>> how_many(np.array([False, True]), pd.Series(["2011-11-09", "soon"], index=[3, 7]))
    "1 of 2, first in row 8: 'soon'"
    """
    first = int(odd.argmax())
    value = column.iloc[first]
    told = "empty" if pd.isna(value) or not str(value).strip() else shorten(str(value), 60)
    return f"{int(odd.sum()):,} of {len(odd):,}, first in row {int(column.index[first]) + 1}: {told}"


def _numbers_or_dates(column: pd.Series[Any]) -> tuple[pd.Series[Any], str]:
    """(N,) numbers or datetimes, empty where there is none, and their unit. What most of the values are, all should be."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return column, DATES
    numbers = column if pd.api.types.is_numeric_dtype(column) else pd.to_numeric(column, errors="coerce")
    if numbers.notna().sum() * 2 <= len(numbers) and numbers is not column:
        return pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601"), DATES
    days = numbers.where(numbers.between(*COMPACT_DAYS) & (numbers % 1 == 0))
    if days.notna().sum() * 2 > len(days):
        dates = pd.to_datetime(days.astype("Int64").astype("string"), format="%Y%m%d", utc=True, errors="coerce")
        if dates.notna().sum() * 2 > len(dates):
            return dates, COMPACT
    largest = np.abs(numbers.to_numpy(np.float64, na_value=0)).max(initial=0)
    return numbers, next((unit for unit, end in ENDS.items() if largest < end), "nanoseconds")


def _scaled(numbers: Floats, unit: str, field: str) -> Ints:
    largest = np.abs(numbers).max(initial=0)
    if largest * UNITS[unit] > 2**62:
        raise InputError("a time is too far away", field=field, value=float(largest), action="Give seconds since 1970.")
    return np.round(numbers * UNITS[unit]).astype(np.int64)


def _unlikely(us: Ints, unit: str, column: pd.Series[Any]) -> tuple[str, ...]:
    """A note on times in which no shop that is asked about was open: of another unit, or not known when written."""
    odd = (us < LIKELY_US[0]) | (us >= LIKELY_US[1])
    if not odd.any():
        return ()
    first = us[odd][0]
    told = f"{column.name}: times before 1990 or after 2099: {how_many(odd, column)}, read as {unit}: {_day(first)}"
    for other in UNITS if unit in UNITS else ():
        meant = first * (UNITS[other] / UNITS[unit])
        if LIKELY_US[0] <= meant < LIKELY_US[1]:
            return (f"{told}, but {other} would make it {_day(meant)}: write all in one unit",)
    return (
        f"{told}; is it another unit, or a time that was not known? Write seconds since 1970 or ISO 8601, or drop these rows",
    )


def _day(us: float) -> str:
    return str(np.datetime64(int(us), "us").astype("datetime64[D]"))
