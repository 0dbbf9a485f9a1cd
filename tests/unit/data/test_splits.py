"""Splits by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from endcap.data.splits import split_by_time
from endcap.errors import DatasetError

START = datetime(2011, 1, 1, tzinfo=UTC)


def test_validation_and_holdout_are_the_newest_days() -> None:
    split = split_by_time(START, START + timedelta(days=200), 28, 7)
    assert split.holdout_start == START + timedelta(days=193)
    assert split.validation_start == START + timedelta(days=165)
    assert split.to_json()["holdout_start"] == split.holdout_start.isoformat()


@pytest.mark.parametrize("days", [0.01, 1, 8, 40])
def test_a_short_history_keeps_half_to_learn_from(days: float) -> None:
    split = split_by_time(START, START + timedelta(days=days), 28, 7)
    assert START < split.validation_start < split.holdout_start < split.end
    assert (split.validation_start - START) >= (split.end - START) / 2 - timedelta(seconds=1)


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(DatasetError, match="no duration"):
        split_by_time(START, START, 7, 7)
