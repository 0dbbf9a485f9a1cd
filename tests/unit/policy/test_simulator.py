"""The simulated shop: the same by seed, and with the traits that experiments rely on."""

from __future__ import annotations

import numpy as np
import pytest

from endcap import contracts
from endcap.data.privacy import pseudonymise
from endcap.policy.simulator import START, SimulatedShop, simulate
from endcap.sections import SimulatedShop as Settings

SETTINGS = Settings(seed=7, items=120, shoppers=80, days=60)
KEY = b"k" * 32


@pytest.fixture(scope="module")
def shop() -> SimulatedShop:
    return simulate(SETTINGS, KEY)


def test_the_same_seed_gives_the_same_shop(shop: SimulatedShop) -> None:
    again = simulate(SETTINGS, KEY)
    assert again.events.equals(shop.events)
    assert again.catalog.equals(shop.catalog)
    assert not simulate(Settings(**{**SETTINGS.model_dump(), "seed": 8}), KEY).events.equals(shop.events)


def test_it_meets_the_contracts(shop: SimulatedShop) -> None:
    assert shop.events.schema.equals(contracts.event_schema())
    assert shop.catalog.schema.equals(contracts.catalog_schema())
    events = shop.events.to_pandas()
    assert events["event_id"].is_unique
    assert set(events["item_id"]) <= set(shop.catalog["item_id"].to_pylist())
    assert events["time"].is_monotonic_increasing
    assert set(events["user_id"]) == {pseudonymise(raw, KEY) for raw in set(shop.lines["user_id"])}


def test_nothing_is_bought_before_it_is_listed(shop: SimulatedShop) -> None:
    listed = shop.catalog.to_pandas().set_index("item_id")["available_from"]
    events = shop.events.to_pandas()
    assert (events["time"] >= events["item_id"].map(listed)).all()
    assert (listed > START).any()


def test_periods_are_closed_below_and_open_above(shop: SimulatedShop) -> None:
    middle = START + (shop.end - START) / 2
    before, few = shop.period(shop.start, middle)
    after, all_items = shop.period(middle, shop.end)
    assert before.num_rows + after.num_rows == shop.events.num_rows
    assert few.num_rows < all_items.num_rows == SETTINGS.items


def test_shoppers_come_back_to_what_they_bought(shop: SimulatedShop) -> None:
    events = shop.events.to_pandas()
    repeats = events.duplicated(["user_id", "item_id"]).mean()
    shuffled = events.assign(item_id=np.random.default_rng(0).permutation(events["item_id"]))
    assert repeats > 1.5 * shuffled.duplicated(["user_id", "item_id"]).mean()


def test_christmas_drifts_in(shop: SimulatedShop) -> None:
    events = shop.events.to_pandas().merge(shop.catalog.to_pandas()[["item_id", "category"]], on="item_id")
    late = events["time"] >= START + 0.9 * (shop.end - START)
    share = (events["category"] == "christmas").groupby(late).mean()
    assert share[True] > 1.3 * share[False]


def test_a_slate_is_answered_with_position_bias(shop: SimulatedShop) -> None:
    random = np.random.default_rng(1)
    shopper = max(shop.shoppers, key=lambda one: shop.affinity(one).max())
    best = shop.catalog["item_id"].to_pylist()[int(shop.affinity(shopper).argmax())]
    answers = [shop.respond(shopper.user_id, [best] * 10, random) for _ in range(500)]
    acted = np.mean([[answer is not None for answer in slate] for slate in answers], axis=0)
    assert acted[0] > 2 * acted[9] > 0
    assert shop.respond(shopper.user_id, ["no such item"], random) == [None]
