"""Rules are read whole or refused with file, key, value and what to do."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import ConfigError
from endcap.ranking.business_rules import NO_RULES
from endcap.serving.rules_file import read_rules, require_listed

EXAMPLE = Path(__file__).parents[3] / "examples" / "rules.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text)
    return path


def test_the_example_rules_nothing_and_each_of_its_rules_can_be_taken(tmp_path: Path) -> None:
    assert read_rules(EXAMPLE) == NO_RULES
    lines, in_rule = [], False
    for line in EXAMPLE.read_text().splitlines():
        in_rule = bool(line) and (in_rule or line.removeprefix("# ") in [f"{key}:" for key in type(NO_RULES).model_fields])
        lines.append(line.removeprefix("# ") if in_rule else line)
    (tmp_path / "stock.csv").write_text("item_id,stock\n007,0\n")
    found = read_rules(write(tmp_path, "\n".join(lines)))
    assert [bool(getattr(found, key)) for key in type(found).model_fields] == [True] * 5
    assert found.stock.out == ("85123A", "007")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pined: []", r"rules\.yaml: pined: unknown key; got \[\]\. Did you mean `pinned`\?"),
        ("pinned: [{item: a, rank: 1, form: 2}]", r"pinned\.0\.form: unknown key; got 2\. Did you mean `from`\?"),
        ("bought: [home]", r"bought: unknown key.*Known keys: blocked, stock"),
        ("stock: {files: a.csv}", r"stock\.files: unknown key.*Did you mean `file`"),
        ("pinned: [{item: a, rank: 0}]", r"pinned\.0\.rank: .*greater than or equal to 1; got 0\..*examples/rules\.yaml"),
        ("pinned: [{item: 84077, rank: 1}]", r"pinned\.0\.item: .*got 84077\. Write it in quotes"),
        ("blocked: [{items: [a], from: 2026-11-27 10:00:00}]", r"blocked\.0\.from: .*Give a zone"),
        ("blocked: [{items: [a], until: soon}]", r"blocked\.0\.until: .*got 'soon'"),
        ("pinned: [{item: a, rank: 1}, {item: b, rank: 1}]", r"rules\.yaml: pinned: rank 1 has a and b"),
        ("blocked: [{items: [a]}]\nblocked: [{items: [b]}]", "`blocked` is there twice"),
        ("blocked: [{items: [a], from: 2026-13-27T00:00:00Z}]", r"cannot be read \(month"),
        ("blocked: {", "cannot be read"),
        ("- a list", r"rules\.yaml: "),
    ],
)
def test_a_bad_file_is_told_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        read_rules(write(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read.*unset ENDCAP_RULES"):
        read_rules(tmp_path / "nowhere.yaml")


def test_what_has_no_stock_is_sold_out_and_what_says_nothing_is_not(tmp_path: Path) -> None:
    rules = write(tmp_path, "stock: {out: [mug], file: stock.csv}")
    (tmp_path / "stock.csv").write_text("item_id,stock\n007,0\nplate,3\nbowl,\nfork,-2\nspoon,0.0\n")
    assert read_rules(rules).stock.out == ("mug", "007", "fork", "spoon")


def test_stock_as_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "stock": [0.0, None, float("nan")]}), tmp_path / "stock.parquet")
    assert read_rules(write(tmp_path, "stock: {file: stock.parquet}")).stock.out == ("a",)


@pytest.mark.parametrize(
    ("stock", "said"),
    [
        (None, r"stock\.file: .*stock\.csv: cannot be read"),
        ("item_id,stock\n", r"stock\.csv"),
        ("sku,stock\n1,2\n", r"stock\.file: .*has no such column; got 'item_id'\. It has sku, stock"),
        ("item_id,stock\nmug,many\n", r"stock\.file: .*stock\.csv: mug: is no number of pieces; got 'many'"),
    ],
)
def test_a_stock_file_that_says_no_stock_is_refused(tmp_path: Path, stock: str | None, said: str) -> None:
    if stock is not None:
        (tmp_path / "stock.csv").write_text(stock)
    rules = write(tmp_path, "stock: {file: stock.csv}")
    if stock == "item_id,stock\n":  # nothing is sold out
        assert read_rules(rules).stock.out == ()
        return
    with pytest.raises(ConfigError, match=said):
        read_rules(rules)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("pinned: [{item: mug, rank: 2}, {item: unicorn, rank: 1}]", r"pinned\.1\.item"),
        ("promoted: [{name: a, budget: 1, items: [mug, unicorn]}]", r"promoted\.0\.items"),
    ],
)
def test_a_pinned_or_promoted_item_must_be_listed(tmp_path: Path, text: str, key: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"rules\.yaml: {key}: is no item of the catalogue; got 'unicorn'"):
        require_listed(path, read_rules(path), lambda named: [item for item in named if item != "mug"])
    require_listed(path, read_rules(path), lambda named: [])
