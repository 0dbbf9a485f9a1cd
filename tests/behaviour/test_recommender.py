"""What a merchandiser would expect of any recommender, tried on a trained one."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from tests.fixtures.tiny_model import GROUPS, UNTIL, tiny_model

from endcap.models.blend import BlendedRecommender
from endcap.models.history import History


@pytest.fixture(scope="module")
def model() -> BlendedRecommender:
    return tiny_model(epochs=8)


def bought(*items: str, every_days: int = 5) -> History:
    times = [UNTIL - timedelta(days=1 + every_days * age) for age in range(len(items))][::-1]
    return History(list(items), times)


def ranking(model: BlendedRecommender, history: History) -> list[str]:
    return [model.item_ids[code] for code in np.argsort(-model.score([history], UNTIL)[0])]


@pytest.mark.parametrize("favourite", ["item05", "item10", "item00"])
def test_what_is_bought_on_every_visit_is_offered_again(model: BlendedRecommender, favourite: str) -> None:
    group = int(favourite[4:]) % GROUPS
    others = [item for step in range(5) if (item := f"item{group + GROUPS * step:02d}") != favourite]
    once, always = bought(*others), bought(*[favourite] * len(others))
    order = np.argsort(np.r_[once.times, always.times], kind="stable")
    history = History(np.r_[once.item_ids, always.item_ids][order], np.r_[once.times, always.times][order])
    assert ranking(model, history)[0] == favourite


def test_taste_shows_in_items_new_to_the_shopper(model: BlendedRecommender) -> None:
    for group in range(GROUPS):
        mine = [f"item{group + GROUPS * step:02d}" for step in range(5)]
        order = [item for item in ranking(model, bought(*mine[:2])) if item not in mine[:2]]
        assert int(order[0][4:]) % GROUPS == group


def test_order_in_time_matters(model: BlendedRecommender) -> None:
    assert not np.allclose(model.score([bought("item00", "item01")], UNTIL), model.score([bought("item01", "item00")], UNTIL))


def test_a_stranger_gets_what_sells(model: BlendedRecommender) -> None:
    unsold = {f"item{number}" for number in range(20, 24)}
    assert not unsold & set(ranking(model, History.empty())[:10])


def test_an_item_never_sold_lies_nearest_to_its_like(model: BlendedRecommender) -> None:
    vectors = model.item_vectors / np.linalg.norm(model.item_vectors, axis=1, keepdims=True)
    likeness = vectors[20:24] @ vectors[:20].T
    same = np.arange(20)[None, :] % GROUPS == np.arange(20, 24)[:, None] % GROUPS
    assert likeness[same].mean() > likeness[~same].mean() + 0.1


def test_ids_mean_nothing(model: BlendedRecommender) -> None:
    """Two shoppers with one history get one answer."""
    scores = model.score([bought("item02", "item06"), bought("item02", "item06")], UNTIL)
    np.testing.assert_array_equal(scores[0], scores[1])
