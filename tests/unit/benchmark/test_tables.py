"""Interactions files as shops really write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.benchmark_files import write

from endcap.benchmark.tables import read_events
from endcap.data.features import TYPE_CODES
from endcap.errors import InputError

DAY = 86_400_000_000


@pytest.mark.parametrize(
    "times",
    [
        [15_000, 15_001],
        [15_000 * 86_400, 15_001 * 86_400],
        [15_000 * 86_400_000, 15_001 * 86_400_000],
        ["2011-01-26", "2011-01-27T00:00:00Z"],
        pd.to_datetime(["2011-01-26", "2011-01-27"]),
        pd.to_datetime(["2011-01-26", "2011-01-27"], utc=True),
    ],
)
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_time_may_be_a_number_or_a_date(tmp_path: Path, times: Any, suffix: str) -> None:
    table = read_events(write(tmp_path / f"f{suffix}", user=[1, 2], item=[3, 4], timestamp=times))
    assert table.times_us is not None
    assert table.times_us.tolist() == [15_000 * DAY, 15_001 * DAY]
    assert table.users.tolist() == ["1", "2"]
    assert table.columns["time_unit"] in ("dates", "days", "seconds", "milliseconds")


def test_ids_are_texts_whatever_they_are_stored_as(tmp_path: Path) -> None:
    table = read_events(write(tmp_path / "f.parquet", user_id=[1.0, 2.0], item_id=[" a", "b"], position=[0, 1]))
    assert (table.users.tolist(), table.items.tolist()) == (["1", "2"], ["a", "b"])
    assert table.columns == {"user": "user_id", "item": "item_id", "position": "position"}
    assert not table.warnings


def test_what_says_nothing_of_liking_is_left_out_and_told(tmp_path: Path) -> None:
    types = ["purchase", "view", "impression", "wink", "purchase"]
    path = write(tmp_path / "f.parquet", user=list("aaaaa"), item=list("vwxyz"), event_type=types, quantity=[1, 1, 1, 1, -1])
    table = read_events(path)
    assert table.items.tolist() == ["v", "w"]
    assert table.types.tolist() == [TYPE_CODES["purchase"], TYPE_CODES["view"]]
    assert any("wink" in warning for warning in table.warnings)
    assert any("3 of 5" in warning for warning in table.warnings)
    assert any("order of the file" in warning for warning in table.warnings)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [1], "thing": [2]}, "item: the column is missing"),
        ({"user": [], "item": []}, "holds no interactions"),
        ({"user": ["a", None], "item": [1, 2]}, "ids are null or empty; got '1 of 2, first in row 2: empty'"),
        ({"user": ["a", "b"], "item": ["x", " "]}, "item: ids are null or empty"),
        (
            {"user": [1, 2], "item": [1, 2], "timestamp": ["2011-01-01", "soon"]},
            "cannot be read; got \"1 of 2, first in row 2: 'soon'\"",
        ),
        ({"user": [1, 2], "item": [1, 2], "timestamp": [1.0, float("inf")]}, "times are missing"),
        ({"user": [1, 2], "item": [1, 2], "timestamp": [None, 5]}, "times are missing"),
        ({"user": [1, 2], "item": [1, 2], "timestamp": [1e30, 5]}, "too far away"),
        ({"user": [1, 2], "item": [1, 2], "position": ["first", "2"]}, "positions are numbers"),
        ({"user": [1], "item": [1], "event": ["impression"]}, "no event says that a shopper wants an item"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "f.parquet", **columns)
    with pytest.raises(InputError, match=re.escape(message)):
        read_events(path)


def test_a_missing_or_torn_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_events(tmp_path / "f.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        read_events(tmp_path / "torn.parquet")


def test_pieces_prices_surfaces_and_countries_are_read_where_they_mean_something(tmp_path: Path) -> None:
    odd = {"quantity": [2, None, "three", 1], "unit_price": [0.5, 0.0, "dear", -1.0], "surface": ["home", "email", "", "till"]}
    odd["country"] = ["Cyprus", "cyprus ", "Germany", ""]
    path = write(tmp_path / "f.parquet", user=list("abcd"), item=list("wxyz"), **{k: list(map(str, v)) for k, v in odd.items()})
    events = read_events(path)
    assert events.quantities.tolist() == [2, 1, 1, 1]
    np.testing.assert_array_equal(events.prices, [0.5, np.nan, np.nan, np.nan])
    assert events.surfaces.tolist() == [1, 4, 0, 0]
    assert events.countries.tolist() == [4, 4, 43, 0]
    bare = read_events(write(tmp_path / "g.parquet", user=["a"], item=["w"]))
    assert (bare.quantities.tolist(), bare.surfaces.tolist(), bare.countries.tolist()) == ([1], [0], [0])
    assert np.isnan(bare.prices).all()


def test_rows_in_messages_are_those_of_the_file(tmp_path: Path) -> None:
    kinds = ["impression", "purchase", "impression", "purchase"]
    good: dict[str, Any] = {"user": list("abcd"), "item": list("wxyz"), "timestamp": [15_000] * 4, "position": [1] * 4}
    for column, message in {
        "user": "ids are null or empty; got '1 of 2, first in row 4: empty'",
        "timestamp": "times are missing or cannot be read; got '1 of 2, first in row 4: empty'",
        "position": "positions are numbers; got '1 of 2, first in row 4: empty'",
    }.items():
        path = write(tmp_path / "f.parquet", type=kinds, **good | {column: [*good[column][:3], None]})
        with pytest.raises(InputError, match=message):
            read_events(path)


def test_amounts_of_no_human_size_are_not_taken_and_told(tmp_path: Path) -> None:
    pieces = [1e-300, float("inf"), 2e6, 1e-3, 1e6, None]
    prices = [1e-300, float("inf"), 0.0, 1e12, 0.01, None]
    path = write(tmp_path / "f.parquet", user=list("abcdef"), item=list("uvwxyz"), quantity=pieces, unit_price=prices)
    events = read_events(path)
    np.testing.assert_allclose(events.quantities, [1, 1, 1, 1e-3, 1e6, 1])
    np.testing.assert_allclose(events.prices, [np.nan, np.nan, np.nan, 1e12, 0.01, np.nan])
    notes = [note for note in events.warnings if "not between" in note]
    assert [note.split(";")[0] for note in notes] == [
        "quantity: not between 1e-06 and 1,000,000: 3 of 6, first in row 1: '1e-300'",
        "unit_price: not between 1e-06 and 1,000,000,000,000: 2 of 6, first in row 1: '1e-300'",
    ]
    texts = write(tmp_path / "g.parquet", user=list("ab"), item=list("yz"), position=[1, 2], price=["", "1.234,50"])
    assert read_events(texts).warnings[0].startswith("price: not between 1e-06 and 1,000,000,000,000: 1 of 2, first in row 2")
    rest = write(tmp_path / "h.csv", user=list("abc"), item=list("xyz"), position=[1, 2, 3], quantity=["-inf", "-1", "2"])
    assert read_events(rest).quantities.tolist() == [2]  # the others are returns


def test_unknown_surfaces_and_columns_that_are_not_read_are_told(tmp_path: Path) -> None:
    surfaces = ["Home ", "till", None, "", "billboard"]
    named: dict[str, Any] = {"user": list("abcde"), "item": list("vwxyz"), "position": range(5), "surface": surfaces}
    events = read_events(write(tmp_path / "f.parquet", **named, surfce=["home"] * 5, brand=["x"] * 5))
    assert events.surfaces.tolist() == [1, 0, 0, 0, 0]
    unread, unknown = events.warnings
    assert unread.startswith("columns that are not read: surfce, brand; those that could be: user or user_id,")
    assert unknown == (
        "surface: unknown names: 2 of 5, first in row 2: 'till'; read as not given. Known: home, product, basket, email"
    )


def test_times_that_are_hardly_meant_are_told_without_the_path(tmp_path: Path) -> None:
    events = read_events(write(tmp_path / "f.csv", user=[1, 2], item=[1, 2], timestamp=[15_000, 1_296_000_000]))
    assert events.columns["time_unit"] == "seconds"
    (note,) = events.warnings
    assert note.startswith("timestamp: times before 1990 or after 2099: 1 of 2, first in row 1: '15000', read as seconds")
    assert str(tmp_path) not in note
