"""Files as other programs divide and name their columns."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest
from tests.fixtures.benchmark_files import write

from endcap.benchmark.input_files import read_frame
from endcap.errors import InputError


def test_a_tsv_is_divided_by_tabs(tmp_path: Path) -> None:
    (tmp_path / "f.TSV").write_text("user\titem\ttitle\n1\t2\tmug, red\n")
    assert read_frame(tmp_path / "f.TSV").to_dict("list") == {"user": ["1"], "item": ["2"], "title": ["mug, red"]}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("f.csv", "user;item;price\n1;2;3,50\n", r"look divided by ';', not by ','; got 'user;item;price'"),
        ("f.csv", "user\titem\n1\t2\n", r"look divided by '\\t', not by ','"),
        ("f.txt", "user|item|time\n1|2|3\n", r"look divided by '\|', not by ','"),
        ("f.tsv", "user,item\n1,2\n", r"look divided by ',', not by '\\t'"),
        ("f.csv", 'user;item;"price, net"\n1;2;3\n', "look divided by ';'"),
    ],
)
def test_another_separator_is_named_with_what_to_do(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=told + ".*Divide them by commas, or by tabs in a file that ends in .tsv"):
        read_frame(tmp_path / name)


def test_packed_tabs_are_tabs(tmp_path: Path) -> None:
    (tmp_path / "f.tsv.gz").write_bytes(gzip.compress(b"user\ttitle\n1\tmug, red\n"))
    assert read_frame(tmp_path / "f.tsv.gz").to_dict("list") == {"user": ["1"], "title": ["mug, red"]}


def test_a_packed_file_is_looked_into_and_a_torn_one_is_told_by_its_reader(tmp_path: Path) -> None:
    (tmp_path / "f.csv.gz").write_bytes(gzip.compress(b"user;item\n1;2\n"))
    with pytest.raises(InputError, match="look divided by ';'"):
        read_frame(tmp_path / "f.csv.gz")
    (tmp_path / "torn.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"torn\.csv\.gz: cannot be read"):
        read_frame(tmp_path / "torn.csv.gz")


def test_one_column_alone_needs_no_separator(tmp_path: Path) -> None:
    assert read_frame(write(tmp_path / "f.csv", Item=["a", "b"])).to_dict("list") == {"item": ["a", "b"]}


def test_columns_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pd.DataFrame([["a", "b", "w"]], columns=["user", "User", "item"]).to_parquet(path)
    with pytest.raises(InputError, match=r"differ in case alone.*'user', 'User'"):
        read_frame(path)


def test_rows_are_numbered_as_they_lie_there(tmp_path: Path) -> None:
    pd.DataFrame({"user": ["a", "b"]}, index=[7, 7]).to_parquet(tmp_path / "f.parquet")
    assert read_frame(tmp_path / "f.parquet").index.tolist() == [0, 1]
