"""An update that drift started is remembered."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from endcap.errors import ConfigError
from endcap.monitoring.cooldown import Cooldown


def test_a_second_drift_within_the_cooldown_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "state" / "updates.json"
    assert Cooldown(file, days=5).ask("run-1", "dataset-1", date(2011, 11, 14))
    assert not Cooldown(file, days=5).ask("run-2", "dataset-2", date(2011, 11, 18))
    assert Cooldown(file, days=5).ask("run-3", "dataset-3", date(2011, 11, 19))


def test_the_same_run_gets_the_same_answer_again(tmp_path: Path) -> None:
    cooldown = Cooldown(tmp_path / "updates.json", days=5)
    answers = [cooldown.ask(run, run, date(2011, 11, day)) for run, day in [("a", 1), ("b", 3), ("a", 1), ("b", 3), ("a", 1)]]
    assert answers == [True, False, True, False, True]


@pytest.mark.parametrize("days", [0, 5])
def test_another_run_for_the_same_version_is_told_no(tmp_path: Path, days: int) -> None:
    cooldown = Cooldown(tmp_path / "updates.json", days)
    assert cooldown.ask("run-1", "dataset-1", date(2011, 11, 14))
    assert not cooldown.ask("run-2", "dataset-1", date(2011, 11, 14))


def test_a_broken_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "updates.json").write_text('{"dataset-1": ', encoding="utf-8")
    with pytest.raises(ConfigError, match="Delete it"):
        Cooldown(tmp_path / "updates.json", days=5).ask("run-1", "dataset-1", date(2011, 11, 14))
