"""Slates in the simulated shop: answers follow the true probabilities, and the logs meet what readers expect."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.models.history import History
from endcap.policy.simulator import SimulatedShop, simulate
from endcap.policy.storefront import Storefront, Visits
from endcap.sections import SimulatedShop as Settings

SETTINGS = Settings(seed=7, items=60, shoppers=150, days=10)


def _serve(seed: int = 1) -> tuple[SimulatedShop, Visits]:
    shop = simulate(SETTINGS)
    items = shop.catalog["item_id"].to_pylist()

    def choose(history: History, now: object, surface: str, random: np.random.Generator) -> list[tuple[str, float, float]]:
        return [(item, 0.0, 1 / len(items)) for item in random.choice(items, 6, replace=False)]

    return shop, Storefront(shop, choose, shop.end, seed).live(40)


@pytest.fixture(scope="module")
def served() -> tuple[SimulatedShop, Visits]:
    return _serve()


def test_the_same_seed_gives_the_same_visits(served: tuple[SimulatedShop, Visits]) -> None:
    again = _serve()[1]
    assert again.exposures.equals(served[1].exposures)
    assert again.events.equals(served[1].events)
    assert not _serve(2)[1].exposures.equals(again.exposures)


def test_answers_follow_the_truth(served: tuple[SimulatedShop, Visits]) -> None:
    visits = served[1]
    assert len(visits.truth) == len(visits.exposures) > 1500
    assert (visits.truth["purchase"] <= visits.truth["click"]).all()
    for kind in ("click", "purchase"):
        happened, chances = (visits.events["type"] == kind).sum(), visits.truth[kind]
        assert abs(happened - chances.sum()) < 4 * np.sqrt((chances * (1 - chances)).sum())


def test_acts_lie_within_a_day_of_a_slate_that_showed_the_item(served: tuple[SimulatedShop, Visits]) -> None:
    visits = served[1]
    named = visits.events.dropna(subset=["request_id"])
    joined = named.merge(visits.exposures, on=["request_id", "item_id", "user_id"], suffixes=("", "_shown"))
    assert len(joined) == len(named) < len(visits.events)
    assert (joined["time"] > joined["time_shown"]).all()
    assert visits.events["event_id"].is_unique
    assert not visits.exposures.duplicated(["request_id", "rank"]).any()


def test_surfaces_differ_in_attention_and_bought_items_are_liked_more() -> None:
    shop = simulate(SETTINGS)
    shopper = shop.shoppers[0]
    items = shop.catalog["item_id"].to_pylist()[:5]
    home, email = shop.chances(shopper.user_id, items), shop.chances(shopper.user_id, [*items[:4], "no such item"], "email")
    assert (home[:4] > email[:4]).all()
    assert email[4].tolist() == [0.0, 0.0]
    fresh = next(item for item in items if shop._index[item] not in shopper.bought)
    before = shop.chances(shopper.user_id, [fresh])[0, 0]
    shop.buy(shopper.user_id, fresh)
    assert shop.chances(shopper.user_id, [fresh])[0, 0] > before
