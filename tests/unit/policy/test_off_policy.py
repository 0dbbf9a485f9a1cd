"""A log of a softmax policy tells what another one earns: the propensities that are logged are those that estimators want."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from tests.fixtures.small_shelf import BRANDS, IDS, draw, policy, some_statistics

from endcap.evaluation.off_policy.slates import cascade_weights, rips, sips, snrips, snsips
from endcap.evaluation.off_policy.weights import importance_weights
from endcap.policy.drawing import Floats
from endcap.policy.policies import Policy

HEAD, PLACES = 6, 3
LIKED = np.array([0.1, 0.3, 0.2, 0.6, 0.4, 0.8])  # P(click | looked at)
CAP = {"at_most": [{"items": 1, "per": "brand"}]}


def looked(above: list[int]) -> float:
    """A shopper goes on below what was liked less."""
    return float(np.prod([0.9 - 0.5 * LIKED[item] for item in above]))


def expected(slate: list[int]) -> np.ndarray:
    return np.array([looked(slate[:place]) * LIKED[item] for place, item in enumerate(slate)])


def chances_of(chosen: Policy, capped: bool) -> Callable[[list[int]], Floats]:
    """above → (H,) the policy's chances, given what the rules leave open."""
    from tests.unit.policy.test_drawing import SHOP, request_of

    request = request_of(chosen)
    explored = SHOP.explore(iter(range(HEAD)), SHOP.rank(request), request)
    assert explored is not None
    chances = explored.drawing(iter(()))._chances  # type: ignore[arg-type]

    def given(above: list[int]) -> Floats:
        brands = {BRANDS[item] for item in above} - {""}
        closed = [item in above or (capped and BRANDS[item] in brands) for item in range(HEAD)]
        return chances(~np.array(closed))

    return given


def value(given: Callable[[list[int]], Floats]) -> float:
    """The truth: all slates, each by its chance."""
    total = 0.0
    for order in permutations(range(HEAD), PLACES):
        slate, chance = list(order), 1.0
        for place, item in enumerate(slate):
            above = given(slate[:place]) if chance else np.zeros(HEAD)
            chance *= float(above[item])
        total += chance * float(expected(slate).sum())
    return total


@pytest.mark.parametrize("rules", [None, CAP])
@pytest.mark.parametrize("target", ["uniform", "softmax", "thompson"])
def test_the_value_of_another_policy_is_recovered(target: str, rules: dict[str, Any] | None) -> None:
    logging = policy("softmax", temperature=2.0, floor=0.05)
    knobs: dict[str, Any] = {"softmax": {"temperature": 0.7}, "thompson": {"floor": 0.5}}.get(target, {})
    other = chances_of(policy(target, some_statistics(), **knobs), rules is not None)
    random = np.random.default_rng(3)
    rewards, propensities, chances = [], [], []
    for seed in range(2500):
        slate = draw(logging, seed, rules, head=HEAD, k=PLACES)
        shown = [IDS.index(place.item_id) for place in slate]
        rewards.append((random.random(PLACES) < expected(shown)).astype(float))
        propensities.append([place.propensity for place in slate])
        chances.append([other(shown[:place])[item] for place, item in enumerate(shown)])
    weights = importance_weights(np.ravel(chances), np.ravel(propensities)).reshape(-1, PLACES)
    cascade, truth = cascade_weights(weights), value(other)
    assert abs(value(chances_of(logging, rules is not None)) - truth) > 0.015
    for estimate in (sips, snsips, rips, snrips):
        found = estimate(np.array(rewards), cascade)
        bottoms = found.bottoms.mean(axis=0)
        lacking = found.tops - found.bottoms * (found.tops.mean(axis=0) / bottoms)
        error = float(np.std((lacking / bottoms).sum(axis=1))) / np.sqrt(len(rewards))  # by the delta method
        assert error < 0.15 * truth
        assert abs(found.value - truth) < 3.5 * error, (estimate.__name__, found.value, truth)
