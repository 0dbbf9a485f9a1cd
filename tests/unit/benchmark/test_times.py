"""Times as shops write them, what is hardly meant, and moments given beside a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from endcap.benchmark.times import COMPACT, DATES, read_moment, read_times
from endcap.errors import InputError

DAY = 86_400_000_000


def test_a_span_or_a_flag_is_no_time() -> None:
    for column in (pd.Series(pd.to_timedelta([1, 2], unit="D")), pd.Series([True, False])):
        with pytest.raises(InputError, match="no moment"):
            read_times(column, "time")


@pytest.mark.parametrize("dtype", ["int64", "float64", "str", "Int64"])
def test_dates_without_dashes_are_dates(dtype: str) -> None:
    us, unit, notes = read_times(pd.Series([20110126, 20110127, 20110127]).astype(dtype), "day")
    assert (us // DAY).tolist() == [15_000, 15_001, 15_001]
    assert (unit, notes) == (COMPACT, ())


def test_a_day_that_no_month_has_is_named_with_its_row() -> None:
    with pytest.raises(InputError, match=r"day: times are missing or cannot be read.*1 of 3, first in row 2: '20110231'"):
        read_times(pd.Series([20110126, 20110231, 20110127]), "day")


@pytest.mark.parametrize("odd", [[20_110_126.5, 20_110_127.5], [20_119_999, 20_119_998]])
def test_numbers_that_are_no_days_stay_seconds(odd: list[float]) -> None:
    assert read_times(pd.Series(odd), "time").unit == "seconds"


def test_two_units_in_one_column_are_noted_whichever_has_more_rows() -> None:
    seconds, milliseconds = 1_320_796_800, 1_320_796_800_000
    for numbers in ([milliseconds, seconds, seconds], [milliseconds, milliseconds, seconds]):
        us, unit, notes = read_times(pd.Series(numbers, name="when"), "time")
        assert unit == "milliseconds"
        assert us[0] == milliseconds * 1000
        (note,) = notes
        assert note.startswith(f"when: times before 1990 or after 2099: {numbers.count(seconds)} of 3, first in row 2:") or (
            numbers.count(seconds) == 1 and "first in row 3: '1320796800'" in note
        )
        assert "but seconds would make it 2011-11-09: write all in one unit" in note


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([7_000, 7_304, 15_000], "2 of 3, first in row 1: '7000', read as days: 1989-03-02"),
        ([15_000, 47_482], "1 of 2, first in row 2: '47482', read as days: 2100-01-01"),
        (["2011-11-09", "1970-01-01"], "1 of 2, first in row 2: '1970-01-01', read as dates: 1970-01-01"),
        ([0, 1, 2], "3 of 3, first in row 1: '0', read as days"),
        ([201_111_091_530, 201_111_091_531], "2 of 2, first in row 1: '201111091530', read as milliseconds: 1976-05-16"),
    ],
)
def test_times_before_1990_or_after_2099_are_noted(values: list[Any], told: str) -> None:
    (note,) = read_times(pd.Series(values, name="when"), "time").notes
    assert told in note
    assert "is it another unit" in note


@pytest.mark.parametrize("values", [[7_305, 47_481], ["1990-01-01", "2099-12-31T23:59:59"], [631_152_000, 4_102_444_799]])
def test_likely_times_bear_no_note(values: list[Any]) -> None:
    assert read_times(pd.Series(values), "time").notes == ()


def test_rows_are_those_of_the_file_and_not_of_what_is_left_of_it() -> None:
    column = pd.Series(["2011-11-09", "soon", "1970-01-01"], index=[4, 6, 9], name="when")
    with pytest.raises(InputError, match="first in row 7: 'soon'"):
        read_times(column, "time")
    assert "first in row 10: '1970-01-01'" in read_times(column[[True, False, True]], "time").notes[0]


@pytest.mark.parametrize(
    ("text", "unit", "day"),
    [
        ("15000", "days", 15_000),
        ("1296000000", "seconds", 15_000),
        ("1296000000", "milliseconds", 15),  # in the file's unit, though it looks like seconds
        ("86400", "seconds", 1),  # … or like days
        ("2011-01-26", "seconds", 15_000),
        ("2011-01-26T05:00:00+05:00", DATES, 15_000),
        ("20110126", DATES, 15_000),
        ("20110126", COMPACT, 15_000),
    ],
)
def test_a_moment_is_read_in_the_unit_of_the_file(text: str, unit: str, day: int) -> None:
    assert read_moment(text, unit, "split-at") == pd.Timestamp(day, unit="D", tz="UTC")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("soon", "seconds"),
        ("nan", "days"),
        ("inf", "days"),
        ("1e300", "days"),
        ("", DATES),
        ("NaT", DATES),
        ("1320796800", DATES),
    ],
)
def test_what_is_no_moment_is_named_with_what_would_be(text: str, unit: str) -> None:
    with pytest.raises(
        InputError, match=r"split-at: is no moment.*Give a moment as the file's times were read: (an ISO|days|sec)"
    ):
        read_moment(text, unit, "split-at")


@pytest.mark.parametrize("values", [[np.nan, np.nan], [1e9, np.inf], [None, None], ["", "inf"]])
def test_a_column_of_nothing_or_without_end_is_refused(values: list[Any]) -> None:
    with pytest.raises(InputError, match="times are missing or cannot be read"):
        read_times(pd.Series(values), "time")
