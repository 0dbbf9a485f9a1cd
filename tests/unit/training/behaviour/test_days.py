"""The head of a fit: from days that the recommender has not learnt, judged on their end, or the reason why there is none."""

from __future__ import annotations

import doctest
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.tiny_exposures import tiny_slates
from tests.fixtures.tiny_model import UNTIL, tiny_events, tiny_model

from endcap.data.features import Interactions, interactions_from_events
from endcap.models.behaviour.head import BehaviourModel
from endcap.models.blend import BlendedRecommender
from endcap.models.signals import Counts
from endcap.training import weeks
from endcap.training.behaviour import days as learning
from endcap.training.behaviour.days import LearntBehaviour, ShownDays, learn_behaviour
from endcap.training.counting import count, recount

DAY = timedelta(days=1)
END = UNTIL + 14 * DAY
EXPOSURES, ACTS = tiny_slates()
RECENT_DAYS = 28


@pytest.fixture(scope="module")
def model() -> BlendedRecommender:
    return tiny_model()


def days(acts: pd.DataFrame = ACTS, **changed: Any) -> ShownDays:
    events = pd.concat([tiny_events(), acts], ignore_index=True)
    given = {"exposures": EXPOSURES, "events": events, "attribution": DAY, "min_rows": 500, "max_rows": 10_000}
    return ShownDays(**{**given, **changed})  # type: ignore[arg-type]


def learn(model: BlendedRecommender, shown: ShownDays, **changed: Any) -> LearntBehaviour:
    span = {"since": UNTIL, "until": END, **changed}
    return learn_behaviour(
        model, shown, interactions_from_events(shown.events, list(model.item_ids)), recent_days=RECENT_DAYS, **span
    )


@pytest.fixture(scope="module")
def learnt(model: BlendedRecommender) -> LearntBehaviour:
    return learn(model, days())


def weights(head: BehaviourModel | None) -> list[float]:
    assert head
    return [*head.linear.ravel(), *head.offset, *head.calibrate_click.numbers, *head.calibrate_purchase.numbers]


def test_examples_in_the_docs_hold() -> None:
    assert doctest.testmod(weeks).failed == 0


def test_it_tells_shown_items_apart_better_than_their_rates(learnt: LearntBehaviour) -> None:
    assert learnt.head
    facts, click = learnt.facts, learnt.facts["click"]
    assert sum(facts["rows"].values()) == len(EXPOSURES)
    assert facts["rows"]["learn"] > facts["rows"]["judge"] > 100
    assert click["by"] == learnt.head.tasks["click"].by == "head"
    assert click["log_loss"] < 0.9 * click["prior_log_loss"]
    assert click["ece"] < 0.1
    assert sum(one["count"] for one in click["reliability"]) == facts["rows"]["judge"]
    assert learnt.head.rates.table[:, 0].sum() == len(EXPOSURES)


def test_what_is_judged_teaches_nothing(model: BlendedRecommender, learnt: LearntBehaviour) -> None:
    judged_from = pd.Timestamp(EXPOSURES["time"].iloc[int(0.8 * len(EXPOSURES))])
    silent = learn(model, days(ACTS[ACTS["time"] < judged_from]))
    assert weights(silent.head) == weights(learnt.head)
    assert silent.facts["click"]["happened"] == 0
    assert silent.facts["click"]["log_loss"] > learnt.facts["click"]["log_loss"]


def test_no_count_knows_an_outcome(model: BlendedRecommender, learnt: LearntBehaviour) -> None:
    knowing = interactions_from_events(days().events, list(model.item_ids))
    later = replace(model, counts=count(knowing, END, RECENT_DAYS))
    assert weights(learn(later, days()).head) == weights(learnt.head)
    np.testing.assert_array_equal(later.counts.all_time, count(knowing, END, RECENT_DAYS).all_time)  # left as it was


def test_each_week_is_counted_as_of_its_start(model: BlendedRecommender, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = []

    def spied(before: Counts, known: Interactions, moment: datetime, recent: float) -> Counts:
        moments.append(moment)
        return recount(before, known, moment, recent)

    monkeypatch.setattr(learning, "recount", spied)
    learn(model, days(), until=UNTIL + 16 * DAY)
    assert moments == [UNTIL, UNTIL + 2 * DAY, UNTIL + 9 * DAY]  # weeks that end with training, the first cut short


def test_only_the_days_that_are_new_count(model: BlendedRecommender) -> None:
    found = learn(model, days(), since=UNTIL + 11 * DAY)
    assert found.head is None
    assert "exposures: 100 shown items since" in found.facts["absent"]
    assert "takes 500 (params.yaml: behaviour.min_rows)" in found.facts["absent"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exposures": EXPOSURES[:0]}, "no exposure is old enough"),
        ({"exposures": EXPOSURES.assign(time=UNTIL)}, "one moment"),
        ({"attribution": 11 * DAY}, "one attribution span"),
        ({"acts": ACTS[:5]}, "click: .* rows of the rarer click outcome, 10 needed; purchase: "),
    ],
)
def test_without_enough_there_is_none_and_the_reason_is_told(
    model: BlendedRecommender, learnt: LearntBehaviour, changed: dict[str, Any], reason: str
) -> None:
    until = {"until": END + 11 * DAY}
    found = learn(model, days(**changed), **until)
    assert found.head is None
    assert list(found.facts) == ["absent"]
    assert pd.Series([found.facts["absent"]]).str.contains(reason).all()
    told = replace(model, config={**model.config, "behaviour": learnt.facts})
    kept = learn(told, days(**changed, known=learnt.head), **until)
    assert kept.head is learnt.head
    assert kept.facts == {**learnt.facts, "kept": found.facts["absent"]}
