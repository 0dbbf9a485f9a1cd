"""The chance that is logged is the chance with which an item came, whatever the policy and the rules of the shelf."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from tests.fixtures.small_shelf import BRANDS, IDS, KINDS, NOW, SHOP, draw, facts, policy, some_statistics

from endcap.exploring import Defined
from endcap.models.history import History
from endcap.policy.drawing import best_of, mixed, plackett_luce
from endcap.policy.exploration import Exploration
from endcap.policy.features import names_of
from endcap.policy.linear import Statistics, believe
from endcap.policy.policies import block_of, make
from endcap.recommender import Recommendation, Request

SLATES = 600
RULES: dict[str, dict[str, Any]] = {
    "none": {},
    "caps": {"at_most": [{"items": 1, "per": "brand"}]},
    "pin": {"pinned": [{"item": "i7", "rank": 2}], "at_most": [{"items": 1, "per": "brand"}], "blocked": [{"items": ["i1"]}]},
    "promotion": {"promoted": [{"name": "lights", "items": ["i2", "i4"], "budget": 9, "from_rank": 2, "at_most": 1}]},
    "all": {
        "blocked": [{"items": ["i1"]}],
        "at_most": [{"items": 2, "per": "brand", "only": ["Leaf"]}],
        "pinned": [{"item": "i5", "rank": 1}],
        "promoted": [
            {"name": "lights", "items": ["i2", "i4"], "budget": 9, "from_rank": 2, "at_most": 1},
            {"name": "pots", "items": ["i3"], "budget": 9, "from_rank": 3, "at_most": 1},
        ],
    },
}


def asked(rules: str) -> dict[str, Any]:
    return {"rules": RULES[rules], "shows": {"lights": 5, "pots": 5}}


@pytest.mark.parametrize("kind", KINDS)
def test_chances_are_those_of_all_that_is_open_and_sum_to_one(kind: str) -> None:
    chosen = policy(kind, some_statistics(), **KINDS[kind])
    explored = SHOP.explore(iter(range(6)), SHOP.rank(request_of(chosen)), request_of(chosen))
    assert explored is not None
    chances = explored.drawing(iter(()))._chances  # type: ignore[arg-type]
    floor = {"uniform": 1.0, "greedy": 0.0}.get(kind, KINDS[kind].get("floor", KINDS[kind].get("epsilon")))
    for open_H in (np.ones(6, bool), np.array([0, 1, 0, 0, 1, 1], bool), np.array([0, 0, 0, 1, 0, 0], bool)):
        found = chances(open_H)
        assert found.sum() == pytest.approx(1)
        assert (found[~open_H] == 0).all()
        assert (found[open_H] >= floor / 6 - 1e-12).all()


def request_of(chosen: Any) -> Request:
    return Request(History.empty(), NOW, exploration=Exploration(chosen, np.random.default_rng(1), 6, facts()))


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_slates_come_as_often_as_the_product_of_their_propensities_says(kind: str, rules: str) -> None:
    chosen = policy(kind, some_statistics(), **KINDS[kind])
    slates = [draw(chosen, seed, **asked(rules)) for seed in range(SLATES)]
    counts, chance = Counter(map(items, slates)), {items(slate): joint(slate) for slate in slates}
    assert all(joint(slate) == pytest.approx(chance[items(slate)]) for slate in slates)  # of the slate alone
    assert sum(chance.values()) <= 1 + 1e-9
    told = sorted(chance, key=lambda slate: -chance[slate])
    often = [slate for slate in told if SLATES * chance[slate] >= 5]
    seen = [counts[slate] for slate in often] + [SLATES - sum(counts[slate] for slate in often)]
    expected = [SLATES * chance[slate] for slate in often]
    expected.append(SLATES - sum(expected))
    if expected[-1] < 5:  # hardly anything else can come
        seen[-2:], expected[-2:] = [sum(seen[-2:])], [sum(expected[-2:])]
    if len(seen) > 1:
        assert chisquare(seen, np.array(expected) * SLATES / sum(expected)).pvalue > 1e-3
    else:
        assert chance[often[0]] > 0.9


def items(slate: list[Recommendation]) -> tuple[str, ...]:
    return tuple(place.item_id for place in slate)


def joint(slate: list[Recommendation]) -> float:
    return float(np.prod([place.propensity for place in slate]))


@pytest.mark.parametrize("kind", KINDS)
def test_rules_hold_for_whatever_is_drawn(kind: str) -> None:
    chosen = policy(kind, some_statistics(), **KINDS[kind])
    for seed in range(100):
        slate = draw(chosen, seed, RULES["all"], shows={"lights": 5, "pots": 5}, k=4)
        assert slate[0].item_id == "i5"
        assert (slate[0].rule, slate[0].propensity) == ("pinned", 1.0)
        assert "i1" not in items(slate)
        brands = Counter(BRANDS[IDS.index(item)] for item in items(slate))
        assert brands["Leaf"] <= 2
        assert sum(item in ("i2", "i4") for item in items(slate)) <= 2
        assert len(set(items(slate))) == 4


def test_a_lifted_item_comes_by_its_own_chance_and_by_that_of_all_that_is_not_promoted() -> None:
    chosen = policy("softmax", temperature=1.0, floor=0.01)
    free = {place.item_id: place.propensity for seed in range(200) for place in draw(chosen, seed, k=1)}
    rules = {"promoted": [{"name": "lights", "items": ["i1", "i3"], "budget": 9, "from_rank": 1, "at_most": 1}]}
    slates = [draw(chosen, seed, rules, shows={"lights": 1}, k=1) for seed in range(200)]
    lifted = {(place.item_id, place.rule): place.propensity for slate in slates for place in slate}
    once = 1 - free["i3"]
    expected = {("i1", "promoted:lights"): once, ("i1", ""): once, ("i3", ""): free["i3"]}
    assert lifted == {key: pytest.approx(chance) for key, chance in expected.items()}


def test_plackett_luce_is_the_law_of_whole_orders() -> None:
    """P(order) = Π_k w_k / Σ of those left, checked by hand for all orders of three."""
    weights = np.array([1.0, 2.0, 5.0])
    chances, total = plackett_luce(np.log(weights)), 0.0
    for order in permutations(range(3)):
        open_H, product = np.ones(3, bool), 1.0
        for item in order:
            product *= chances(open_H)[item]
            open_H[item] = False
        left = [weights[list(order[k:])].sum() for k in range(3)]
        assert product == pytest.approx(np.prod(weights[list(order)] / left))
        total += product
    assert total == pytest.approx(1)


def test_the_head_over_the_rest_is_in_order_and_certain() -> None:
    slate = draw(policy("uniform"), 3, head=2, k=5)
    assert items(slate)[2:] == ("i2", "i3", "i4")
    assert [place.propensity for place in slate] == [0.5, 1, 1, 1, 1]


def test_variety_is_kept_by_the_most_likely_draws() -> None:
    plain = [draw(policy("greedy"), seed, diversity=0.9) for seed in range(3)]
    varied = SHOP.recommend(Request(History.empty(), request_of(policy("greedy")).now, k=3, diversity=0.9))
    assert {items(slate) for slate in plain} == {items(varied)}


def test_the_same_seed_draws_the_same_and_another_another() -> None:
    chosen = policy("uniform")
    assert draw(chosen, 7) == draw(chosen, 7)
    assert len({items(draw(chosen, seed)) for seed in range(20)}) > 5


def test_thompson_s_chances_are_those_of_its_posterior_and_the_same_each_time() -> None:
    """Against draws of the posterior made here, and against itself made anew: no chance changes between processes."""
    known = some_statistics()
    defined = Defined(name="tried", kind="thompson", draws=4000, floor=0.01)
    names = block_of(defined, facts().feature_set)
    at, features = [known.names.index(name) for name in names], np.random.default_rng(1).normal(size=(5, len(known.names)))
    chosen, again = (make(defined, facts().feature_set, known.only(names)) for _ in range(2))
    open_H = np.ones(5, bool)
    found = chosen.weigh(np.zeros(5), features)(open_H)
    np.testing.assert_array_equal(found, again.weigh(np.zeros(5), features)(open_H))
    prior = np.zeros(len(names))
    prior[names.index("score")] = defined.trust
    belief = believe(known.only(names), prior, defined.ridge, defined.noise)
    covariance = belief.noise * np.linalg.inv(known.only(names).xx + defined.ridge * np.eye(len(names)))
    thetas = np.random.default_rng(8).multivariate_normal(belief.mean, covariance, 100_000)
    truth = np.bincount((thetas @ features[:, at].T).argmax(axis=1), minlength=5) / len(thetas)
    np.testing.assert_allclose(found, 0.99 * truth + 0.01 / 5, atol=0.03)


def test_knowledge_moves_thompson_and_the_upper_bound() -> None:
    all_names = names_of(facts().feature_set)
    cheap = np.zeros((5000, len(all_names)))
    cheap[:, all_names.index("price")] = np.tile([0.0, 1.0], 2500)
    known = Statistics.empty(all_names).add(cheap, cheap[:, all_names.index("price")])  # what costs more earns
    for kind in ("lin_ucb", "thompson"):
        before, after = (
            Counter(draw(policy(kind, statistics, floor=0.01), seed, k=1, head=8)[0].item_id for seed in range(60))
            for statistics in (None, known)
        )
        assert after["i7"] > 50  # the dearest
        assert before["i7"] < 20


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=20), st.integers(0, 2**20), st.floats(0.001, 0.999))
def test_no_scores_break_the_chances(logits: list[float], which: int, floor: float) -> None:
    scores = np.array(logits)
    open_H = np.array([bool(which >> place & 1) for place in range(len(scores))])
    open_H[0] |= not open_H.any()
    for chances in (plackett_luce(scores), best_of(scores[None, :])):
        found = mixed(chances, floor)(open_H)
        assert found.sum() == pytest.approx(1)
        assert (found[open_H] > 0).all()
        assert (found[~open_H] == 0).all()
