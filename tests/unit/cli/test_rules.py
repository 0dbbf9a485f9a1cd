"""`endcap rules check` says what a file does, or what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.serving.conftest import catalogue
from typer.testing import CliRunner

from endcap.cli import app
from endcap.config import Settings
from endcap.data.events import EventLog
from endcap.errors import ConfigError

RULES = """
blocked: [{categories: [Knives, Axes], items: [mug], surfaces: [email]}]
stock: {out: [plate], file: stock.csv}
at_most: [{items: 1, per: category, only: [Candles]}]
pinned: [{item: fork, rank: 2, from: 2026-11-27T00:00:00+01:00, until: 2026-12-01T00:00:00Z}]
promoted: [{name: lights, brands: [Glow], at_most: 2, from_rank: 3, budget: 10000}]
"""
SAID = """\
Never shows items mug and categories Knives, Axes on email.
Never shows what is sold out: 2 items (with stock.csv).
Shows at most 1 of one category (Candles) in a slate.
Puts item fork at rank 2 from 2026-11-27 00:00 UTC+01:00 until 2026-12-01 00:00 UTC.
Promotion lights lifts brands Glow, at most 2 a slate, from rank 3 on; 10,000 shows in all"""


@pytest.fixture
def rules(tmp_path: Path, home: Path) -> Path:
    (tmp_path / "stock.csv").write_text("item_id,stock\nspoon,0\nbowl,5\n")
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path / "rules.yaml"


def check(path: Path) -> str:
    result = CliRunner().invoke(app, ["rules", "check", str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_each_rule_is_said_in_words(rules: Path) -> None:
    assert check(rules) == f"The event log does not answer or is new: items are not looked up.\n{SAID}.\n"


def test_items_are_looked_up_and_shows_told_where_there_is_an_event_log(rules: Path, settings: Settings) -> None:
    log = EventLog(settings.event_log_url)
    log.create()
    log.upsert_catalog(catalogue())
    log.count_shows("lights", 1234, 10_000)
    assert check(rules) == f"{SAID}, 1,234 counted so far.\n"
    rules.write_text("pinned: [{item: unicorn, rank: 1}]")
    with pytest.raises(ConfigError, match=r"pinned\.0\.item: is no item of the catalogue; got 'unicorn'"):
        check(rules)


def test_a_file_without_rules_says_so(tmp_path: Path, home: Path) -> None:
    (tmp_path / "rules.yaml").write_text("# nothing yet")
    assert check(tmp_path / "rules.yaml").endswith("No rules: every slate is the model's own.\n")
