"""From exposures to a head: order of time, and no outcome that was not known yet."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.tiny_exposures import tiny_slates
from tests.fixtures.tiny_model import UNTIL, tiny_events, tiny_model

from endcap.data.features import interactions_from_events
from endcap.errors import TrainingError
from endcap.training.behaviour.exposures import OUTCOMES, learn_rows, make_table, newest_rows, slates_of
from endcap.training.outcomes import label_exposures

DAY = timedelta(days=1)
END = UNTIL + 20 * DAY


def test_rows_to_learn_from_are_the_older_ones() -> None:
    times = pd.Series(pd.to_datetime([UNTIL + n // 3 * DAY for n in range(12)], utc=True))
    learn = learn_rows(times, 0.6)
    assert learn.tolist() == [True] * 6 + [False] * 6
    with pytest.raises(TrainingError, match="one moment"):
        learn_rows(times[:3], 0.6)


def test_the_newest_slates_are_kept_whole() -> None:
    shown = pd.DataFrame({"request_id": ["a", "a", "b", "b", "c", "c"]})
    assert newest_rows(shown, 6)["request_id"].tolist() == list("aabbcc")
    assert newest_rows(shown, 3)["request_id"].tolist() == list("cc")


def test_histories_stop_at_the_slate() -> None:
    exposures, acts = tiny_slates(60)
    events = pd.concat([tiny_events(), acts])
    shown = label_exposures(exposures, events, DAY, END)
    slates = slates_of(shown, interactions_from_events(events))
    assert sum(len(slate.item_ids) for slate in slates) == len(shown)
    ends = [slate.history.times.max() for slate in slates if len(slate.history)]
    moments = [np.datetime64(slate.now.replace(tzinfo=None)) for slate in slates if len(slate.history)]
    assert all(end < moment for end, moment in zip(ends, moments, strict=True))
    assert max(ends) > np.datetime64(UNTIL.replace(tzinfo=None))


def test_outcomes_of_the_same_day_are_no_features() -> None:
    model = tiny_model()
    exposures, acts = tiny_slates(60)
    events = pd.concat([tiny_events(), acts])
    shown = label_exposures(exposures, events, DAY, END)
    interactions = interactions_from_events(tiny_events())
    table = make_table(model, shown, interactions, DAY)
    swapped = shown.copy()
    last_day = swapped["time"] > swapped["time"].max() - DAY
    swapped.loc[last_day, OUTCOMES] = shown.loc[last_day, OUTCOMES].to_numpy()[::-1]
    assert not swapped.equals(shown)
    again = make_table(model, swapped, interactions, DAY)
    np.testing.assert_array_equal(table.features.values, again.features.values)
