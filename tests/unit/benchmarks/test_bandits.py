"""The world of the bandits benchmark: its truth is what happens, and its figures have all policies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bandits import POLICIES, best_fixed, draw, play, study
from benchmarks.bandits_world import BATCH, PLACES, World
from endcap.exploring import Defined
from endcap.policy.policies import make


@pytest.fixture(scope="module")
def world() -> World:
    return World(1, 3 * BATCH)


def test_the_truth_of_a_slate_is_how_often_the_shop_s_shoppers_click(world: World) -> None:
    slate, chances = world.show(5, make(Defined(name="greedy", kind="greedy")), np.random.default_rng(1))
    items, user_id = [place.item_id for place in slate], world.shop.shoppers[world.visits[5]].user_id
    random = np.random.default_rng(2)
    answers = np.array([[one is not None for one in world.shop.respond(user_id, items, random)] for _ in range(2000)])
    np.testing.assert_allclose(answers.mean(axis=0), chances, atol=4 * 0.5 / np.sqrt(2000))


def test_the_best_fixed_policy_earns_more_than_the_model_alone_and_learning_comes_nearer(world: World) -> None:
    name, best = best_fixed(world, 1)
    even, learner = (play(world, Defined.model_validate({"name": "x", **POLICIES[one]}), 1) for one in ("uniform", "lin_ucb"))
    assert name.startswith("best-line")
    assert best.mean() > learner.mean() > even.mean()
    again = play(world, Defined.model_validate({"name": "x", **POLICIES["lin_ucb"]}), 1)
    np.testing.assert_array_equal(learner, again)


def test_figures_have_all_policies_and_a_picture(tmp_path: Path) -> None:
    result = study(2, BATCH + 20)
    assert list(result["regret"]) == list(POLICIES)
    for one in result["regret"].values():
        assert len(one["mean"]) == len(result["at"])
        assert np.less_equal(one["low"], one["high"]).all()
    assert 0 < result["clicks_a_slate"]["greedy"]["mean"][0] < PLACES
    draw(result, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000
