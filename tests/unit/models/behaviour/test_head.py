"""The head's file, and features that know nothing of the future."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.tiny_exposures import tiny_slates
from tests.fixtures.tiny_model import UNTIL, tiny_events, tiny_model

from endcap.data.features import interactions_from_events
from endcap.errors import RegistryError
from endcap.models.behaviour.features import BehaviourFeatures, Features, ShownSlate
from endcap.models.behaviour.head import FILE, BehaviourModel
from endcap.models.blend import BlendedRecommender
from endcap.models.history import History
from endcap.training.behaviour.days import ShownDays, learn_behaviour

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def model() -> BlendedRecommender:
    return tiny_model()


@pytest.fixture(scope="module")
def head(model: BlendedRecommender) -> BehaviourModel:
    exposures, acts = tiny_slates()
    events = pd.concat([tiny_events(), acts], ignore_index=True)
    days = ShownDays(exposures, events, attribution=DAY, min_rows=500, max_rows=10_000)
    found = learn_behaviour(model, days, interactions_from_events(events), UNTIL, UNTIL + 14 * DAY, recent_days=28)
    assert found.head
    return found.head


def _features(
    model: BlendedRecommender, history: History, now: datetime = UNTIL, items: tuple[str, ...] = ("item00", "item01")
) -> Features:
    slate = ShownSlate(list(items), np.arange(1, len(items) + 1), history, now)
    return BehaviourFeatures(model).make([slate], np.zeros((len(items), 3)), np.array([0.1, 0.01]))


def _column(features: Features, name: str) -> list[float]:
    return features.values[:, features.names.index(name)].tolist()


def test_a_saved_head_answers_the_same(head: BehaviourModel, model: BlendedRecommender, tmp_path: Path) -> None:
    path = head.save(tmp_path)
    loaded = BehaviourModel.load(tmp_path)
    features = _features(model, History(["item00"], [UNTIL - DAY]))
    np.testing.assert_array_equal(loaded.chances(features).click, head.chances(features).click)
    np.testing.assert_array_equal(loaded.chances(features).purchase, head.chances(features).purchase)
    assert (loaded.tasks, loaded.facts) == (head.tasks, head.facts)
    assert loaded.rates.rates(["item00"]).tolist() == head.rates.rates(["item00"]).tolist()
    assert loaded.save(tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("damage", ["missing", "broken", "format"])
def test_a_head_that_cannot_be_read_is_named(head: BehaviourModel, tmp_path: Path, damage: str) -> None:
    path = head.save(tmp_path)
    if damage == "missing":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(
            content[:-40]
            if damage == "broken"
            else content.replace(b'\\"format_version\\": \\"1\\"', b'\\"format_version\\": \\"9\\"')
        )
    with pytest.raises(RegistryError, match=FILE):
        BehaviourModel.load(tmp_path)


def test_own_group_and_first_place_decide(head: BehaviourModel, model: BlendedRecommender) -> None:
    history = History(["item00"] * 3, [UNTIL - 9 * DAY, UNTIL - 5 * DAY, UNTIL - DAY])
    click = head.chances(_features(model, history, UNTIL + DAY, ("item04", "item01")), at_rank=1).click
    assert click[0] > 2 * click[1]


def test_features_know_nothing_after_the_request(model: BlendedRecommender) -> None:
    past = History(["item00", "item04"], [UNTIL - 9 * DAY, UNTIL - 2 * DAY])
    leaked = History(["item00", "item04", "item01"], [UNTIL - 9 * DAY, UNTIL - 2 * DAY, UNTIL + DAY])
    np.testing.assert_allclose(_features(model, past).values, _features(model, leaked).values, atol=1e-5)
    later = _features(model, leaked, UNTIL + 2 * DAY)
    assert _column(later, "own_bought") == pytest.approx([np.log(2), np.log(2)])
    assert _column(_features(model, past), "own_bought") == pytest.approx([np.log(2), 0.0])


def test_unknown_items_and_strangers_have_gaps_not_errors(head: BehaviourModel, model: BlendedRecommender) -> None:
    features = _features(model, History.empty(), items=("item00", "never heard of it"))
    assert _column(features, "new_shopper") == [1.0, 1.0]
    assert _column(features, "item_new") == [0.0, 1.0]
    assert np.isnan(_column(features, "score")[1])
    chances = head.chances(features)
    assert np.isfinite(chances.click).all()
    assert (chances.purchase <= chances.click).all()
