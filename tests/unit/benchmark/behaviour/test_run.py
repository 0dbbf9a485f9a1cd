"""The comparison of behaviour models on a file: what is read, what is refused, what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from endcap.benchmark.behaviour import peers
from endcap.benchmark.behaviour import run as behaviour
from endcap.benchmark.behaviour.files import file_case
from endcap.benchmark.behaviour.run import run
from endcap.config import load_params
from endcap.errors import InputError


def _rows(rows: int = 1500) -> pd.DataFrame:
    random = np.random.default_rng(0)
    kind = random.choice(["a", "b", "c"], rows)
    click = random.random(rows) < np.where(kind == "a", 0.4, 0.1)
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2025-01-01", periods=rows, freq="7min", tz="UTC"),
            "item_id": random.integers(0, 8, rows),
            "position": random.integers(1, 4, rows),
            "click": click.astype(int),
            "purchase": (click & (random.random(rows) < 0.4)).astype(int),
            "user_id": random.integers(0, 200, rows),
            "kind": kind,
            "visitor": [f"visitor {n}" for n in range(rows)],
            "propensity_score": random.random(rows),
        }
    )


def _file(folder: Path, table: pd.DataFrame, name: str = "shop.parquet") -> Path:
    path = folder / name
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path)
    return path


def test_it_compares_and_adds_to_a_file_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "result.json"
    monkeypatch.setattr(behaviour, "SAMPLES", 100)
    monkeypatch.setattr(behaviour, "ECE_SAMPLES", 20)
    monkeypatch.setattr(peers, "LEAVES", (4,))
    run(load_params(), [_file(tmp_path, _rows())], None, 1, out=out)
    run(load_params(), [_file(tmp_path, _rows(400), "other.csv")], None, 1, out=out, add=True)
    written: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert [case["name"] for case in written["cases"]] == ["shop", "other"]
    assert written["commit"]
    assert "lightgbm" in written["versions"]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    click = written["cases"][0]["tasks"]["click"]
    assert set(click["head_minus"]) >= {"one rate", "popularity prior", "LightGBM"}
    assert click["head_minus"]["one rate"]["high"] < 0
    assert click["models"]["behaviour head"]["ece"] < 0.08
    assert sum(one["count"] for one in click["reliability"]) == written["cases"][0]["rows"]["test"]


def test_time_parts_the_rows_and_the_policy_is_no_context(tmp_path: Path) -> None:
    case = file_case([_file(tmp_path, _rows().sample(frac=1, random_state=1))])
    assert case.learn.sum() < len(case.learn)
    assert not np.diff(case.learn.astype(int)).clip(min=0).any()  # once it stops, it stays so
    names = case.before.features.names
    assert {"kind=a", "rank", "item_click_rate"} <= set(names)
    assert not [name for name in names if name.startswith(("propensity", "visitor", "click", "purchase"))]


def test_the_future_does_not_change_what_was_known(tmp_path: Path) -> None:
    rows = _rows()
    changed = rows.copy()
    changed.loc[1200:, "click"] = 1
    one, two = file_case([_file(tmp_path, rows)]), file_case([_file(tmp_path, changed, "changed.parquet")])
    np.testing.assert_array_equal(one.before.features.values, two.before.features.values)
    np.testing.assert_array_equal(one.test.features.values, two.test.features.values)


@pytest.mark.parametrize(
    ("content", "says"),
    [("{torn", "JSONDecodeError"), ('{"models": {}}', "KeyError"), ('{"cases": [{"name": "old"}]}', "too old")],
)
def test_what_cannot_be_added_to_is_said_before_any_work(tmp_path: Path, content: str, says: str) -> None:
    out = tmp_path / "result.json"
    out.write_text(content)
    with pytest.raises(InputError, match=says):
        run(load_params(), [tmp_path / "never read.parquet"], None, 1, out=out, add=True)
    assert out.read_text() == content


def test_a_second_name_of_an_outcome_or_a_copy_of_it_tells_nothing(tmp_path: Path) -> None:
    rows = _rows()
    case = file_case([_file(tmp_path, rows.assign(clicked=rows["click"]))])
    assert not [name for name in case.before.features.names if "click" in name and name != "item_click_rate"]
    with pytest.raises(InputError, match=r"tells the outcome.*bought"):
        file_case([_file(tmp_path, rows.assign(bought=rows["click"].astype(float)))])


def test_times_may_be_seconds_and_none_may_be_missing(tmp_path: Path) -> None:
    rows = _rows()
    case = file_case([_file(tmp_path, rows)])
    seconds = pd.to_datetime(rows["timestamp"], utc=True).astype("datetime64[s, UTC]").astype("int64")
    again = file_case([_file(tmp_path, rows.assign(timestamp=seconds))])
    np.testing.assert_allclose(again.before.features.values, case.before.features.values)
    with pytest.raises(InputError, match="times are missing"):
        file_case([_file(tmp_path, rows.assign(timestamp=pd.to_datetime(rows["timestamp"], utc=True).where(rows.index > 3)))])


def test_columns_of_lists_and_unlikely_times_are_told(tmp_path: Path) -> None:
    rows = _rows(300)
    lists = rows.assign(shelf=[["a", "b"]] * 300, path=[np.arange(2)] * 300)
    about = pd.DataFrame({"item_id": [*range(8)], "size": range(8), "tags": [["red"]] * 8})
    early = rows.assign(timestamp=pd.date_range("1971-01-01", periods=300, freq="D"))
    paths = [_file(tmp_path, lists), _file(tmp_path, early, "early.parquet")]
    case = file_case(paths, _file(tmp_path, about, "items.parquet"))
    first, second, third = case.facts["notes"]
    assert first.startswith("shop.parquet: columns of lists left out: shelf, path;")
    assert second.startswith(
        "early.parquet: timestamp: times before 1990 or after 2099: 300 of 300, first in row 1: '1971-01-01"
    )
    assert third.startswith("items.parquet: columns of lists left out: tags;")
    assert file_case([_file(tmp_path, rows)]).facts["notes"] == []


def test_files_may_differ_in_their_names_units_and_separators(tmp_path: Path) -> None:
    rows = _rows(400)
    whole = file_case([_file(tmp_path, rows)])
    seconds = rows["timestamp"].astype("datetime64[s, UTC]").astype("int64")
    later = rows.assign(time=seconds)[200:].rename(columns={"item_id": "item", "click": "clicked"}).drop(columns="timestamp")
    later.to_csv(tmp_path / "b.tsv", sep="\t", index=False)
    parts = file_case([_file(tmp_path, rows[:200], "a.parquet"), tmp_path / "b.tsv"])
    np.testing.assert_allclose(parts.test.features.values, whole.test.features.values)
    torn = rows.assign(item_id=rows["item_id"].astype("object").where(rows.index != 3))
    with pytest.raises(InputError, match=r"c\.parquet: item_id: ids are null or empty; got '1 of 400, first in row 4: empty'"):
        file_case([_file(tmp_path, rows), _file(tmp_path, torn, "c.parquet")])


def test_notes_are_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(behaviour, "compare", compare)
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(load_params(), [_file(tmp_path, _rows(300).assign(shelf=[["a"]] * 300))], None, 1, lines.append)
    assert lines[0].startswith("note: shop.parquet: columns of lists left out: shelf")


def test_items_of_another_shop_are_refused(tmp_path: Path) -> None:
    about = pd.DataFrame({"item_id": ["x1", "x2"], "size": [1, 2]})
    with pytest.raises(InputError, match="lists no item that was shown"):
        file_case([_file(tmp_path, _rows())], _file(tmp_path, about, "items.csv"))


def test_items_bring_columns(tmp_path: Path) -> None:
    about = pd.DataFrame({"item_id": [*range(8), 0], "size": [*range(8), 9], "colour": ["red", "blue"] * 4 + ["red"]})
    case = file_case([_file(tmp_path, _rows())], _file(tmp_path, about, "items.csv"))
    assert {"size_of_item", "colour_of_item=red"} <= set(case.before.features.names)
    assert len(case.before.outcomes) + len(case.test.outcomes) == 1500


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda rows: rows.drop(columns="click"), "click"),
        (lambda rows: rows[:0], "rows"),
        (lambda rows: rows.assign(click=2), "must be 0 or 1"),
        (lambda rows: rows.assign(timestamp="yesterday"), "time"),
        (lambda rows: rows.assign(timestamp=pd.Timestamp("2025-01-01", tz="UTC")), "cut by time"),
        (lambda rows: rows[:1], "cut by time"),
    ],
)  # fmt: skip
def test_bad_files_are_named(tmp_path: Path, change: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        file_case([_file(tmp_path, change(_rows(30)))])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        file_case([tmp_path / "nowhere.csv"])
