"""Which days are compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from endcap.errors import InputError
from endcap.monitoring.windows import Windows, choose_windows

END = datetime(2011, 11, 14, tzinfo=UTC)


def _choose(trained_until: datetime, first: datetime = datetime(2010, 12, 1, tzinfo=UTC)) -> Windows:
    return choose_windows(END, trained_until, interval_days=7, reference_days=56, first_event=first)


def test_the_reference_ends_where_training_ended() -> None:
    windows = _choose(datetime(2011, 10, 31, tzinfo=UTC))
    assert (windows.start, windows.end) == (END - timedelta(days=7), END)
    assert windows.reference_end == datetime(2011, 10, 31, tzinfo=UTC)
    assert windows.blocks == 8
    assert windows.block_starts[0] == windows.reference_start == datetime(2011, 9, 5, tzinfo=UTC)
    assert windows.block_starts[-1] + windows.length == windows.reference_end


def test_a_model_that_learnt_the_newest_week_is_not_compared_with_it() -> None:
    assert _choose(END).reference_end == END - timedelta(days=7)


def test_a_young_shop_has_a_shorter_reference() -> None:
    assert _choose(END, first=END - timedelta(days=30)).blocks == 3


def test_too_little_history_says_what_is_missing() -> None:
    with pytest.raises(InputError, match=r"monitoring.reference_days.*1 whole intervals of 7 days"):
        _choose(END, first=END - timedelta(days=20))
