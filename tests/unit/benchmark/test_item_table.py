"""Which columns of an items file are text, and what the catalogue is."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from tests.fixtures.benchmark_files import write

from endcap.benchmark import item_table, times
from endcap.benchmark.item_table import has_words, read_items
from endcap.errors import InputError


@pytest.mark.parametrize("module", [item_table, times])
def test_examples_in_the_docs_hold(module: object) -> None:
    import pandas as pd

    found = doctest.testmod(module, extraglobs={"pd": pd})  # type: ignore[arg-type]
    assert (found.failed, found.attempted > 0) == (0, True)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["Red mug", "Tin soldier 12 cm"], True),
        (["Kitchen", "Kitchen", "Garden"], True),  # a category
        (["红色杯子", "蓝色的灯"], True),
        (["", "", "Wool sock"], True),
        (["B004756YJA", "B004ZT0SSG", "7806397051"], False),
        (["173 1 162 171", "328 17 2 41"], False),
        (["deadbeef", "abcdefgh"], False),  # single words, each its own: ids
        (["https://shop.example/red-mug.jpg", "https://shop.example/cup.jpg"], False),
        (["", ""], False),
    ],
)
def test_a_column_is_text_when_it_holds_words(values: list[str], text: bool) -> None:
    assert has_words("column", values) is text


def test_a_title_of_single_words_is_text() -> None:
    assert has_words("title", ["Mug", "Cup"])


def test_all_text_columns_are_joined_title_first(tmp_path: Path) -> None:
    path = write(
        tmp_path / "items.parquet", item=[2, 1], asin=["B001X2Y3", "B002X2Y3"], about=["for tea", None], title=["Mug", "Cup"],
        tags=[["hot", "cold"], []], price=[1.0, 2.0],
    )  # fmt: skip
    table = read_items(path, ["1", "2"])
    assert table.text_columns == ("title", "about", "tags")
    assert table.left_out == ("asin", "price")
    assert (table.item_ids, table.texts) == (("1", "2"), ("Cup\n\n", "Mug\nfor tea\nhot cold"))


def test_repeats_gaps_and_strangers_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "items.csv", item=["a", "a", "c"], title=["Red mug", "Blue mug", None])
    table = read_items(path, ["a", "b", "c"])
    assert (table.item_ids, table.texts) == (("a", "b", "c"), ("Red mug", "", ""))
    assert [text.split(":")[0] for text in table.warnings] == [
        "1 rows repeat an item",
        "1 of 3 items of the interactions are not in the items file",
        "2 of 3 items of the interactions have no text",
    ]


def test_an_items_file_without_words_gives_ids_only(tmp_path: Path) -> None:
    table = read_items(write(tmp_path / "items.parquet", item=["a"], attribute_ids=["1 2"]), ["a"])
    assert (table.texts, table.text_columns) == (("",), ())
    assert "ids only" in table.warnings[0]
    assert read_items(None, ["b", "a"]).item_ids == ("a", "b")


def test_another_shops_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lists no item of the interactions"):
        read_items(write(tmp_path / "items.parquet", item=["x"], title=["Mug"]), ["a"])
    with pytest.raises(InputError, match="item: the column is missing"):
        read_items(write(tmp_path / "other.parquet", title=["Mug"]), ["a"])
