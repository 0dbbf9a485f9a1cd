"""What items are expected to earn: learnt by others' rows, and the same item by item as for a policy."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.evaluation.off_policy.reward_model import cross_fit


def shop(rows: int = 4000) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    items, places, shoppers = rng.integers(0, 3, rows), rng.integers(0, 2, rows), rng.integers(0, rows // 4, rows)
    earns = np.array([0.1, 0.3, 0.6])[items] * np.array([1.0, 0.5])[places]
    return (rng.random(rows) < earns).astype(float), items, places, shoppers


def test_it_learns_what_items_and_places_earn() -> None:
    rewards, items, places, shoppers = shop()
    fitted = cross_fit(rewards, items, places, shoppers, 3)
    expected = [fitted.of_shown(np.full(len(items), item))[places == 0].mean() for item in range(3)]
    assert expected == pytest.approx([0.1, 0.3, 0.6], abs=0.06)


def test_the_expectation_of_a_policy_is_the_sum_over_items() -> None:
    rewards, items, places, shoppers = shop(300)
    fitted = cross_fit(rewards, items, places, shoppers, 3, contexts_NF=np.random.default_rng(2).random((300, 2)))
    policy = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    by_hand = sum(policy[places, item] * fitted.of_shown(np.full(300, item)) for item in range(3))
    assert fitted.of_policy(policy, places) == pytest.approx(by_hand)


def test_a_shoppers_own_rows_do_not_teach_what_is_expected_of_them() -> None:
    """Rewards are a coin a shopper: who had seen a shopper's rows would know them by the context."""
    rng = np.random.default_rng(5)
    shoppers = np.repeat(np.arange(40), 10)
    rewards, context = np.repeat(rng.integers(0, 2, 40), 10).astype(float), np.eye(40)[shoppers]
    nothing = np.zeros(400, np.int64)
    honest = cross_fit(rewards, nothing, nothing, shoppers, 1, context).of_shown(nothing)
    leaking = cross_fit(rewards, nothing, nothing, np.arange(400), 1, context).of_shown(nothing)
    assert np.corrcoef(leaking, rewards)[0, 1] > 0.9
    assert np.corrcoef(honest, rewards)[0, 1] < 0.1


def test_rewards_that_are_no_flags_and_rewards_that_are_all_alike() -> None:
    _, items, places, shoppers = shop(400)
    money = np.array([1.0, 2.0, 5.0])[items]
    assert cross_fit(money, items, places, shoppers, 3).of_shown(items) == pytest.approx(money, abs=0.1)
    assert cross_fit(np.zeros(400), items, places, shoppers, 3).of_shown(items) == pytest.approx(np.zeros(400), abs=1e-9)


def test_one_shopper_is_refused() -> None:
    with pytest.raises(InputError, match="one shopper"):
        cross_fit(np.ones(3), np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros(3), 1)
