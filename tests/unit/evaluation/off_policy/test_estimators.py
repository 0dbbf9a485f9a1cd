"""The estimators on worlds small enough to sum over everything that can happen, and beside figures of obp."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import EstimateRefused, InputError
from endcap.evaluation.off_policy import choices, slates
from endcap.evaluation.off_policy.estimate import Estimate
from endcap.evaluation.off_policy.weights import marginal_weights

LOGGING = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]])  # (contexts, items)
POLICY = np.array([[0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
EARNS = np.array([[0.2, 0.5, 0.9], [0.6, 0.1, 0.3]])  # P(reward = 1)
CONTEXT = np.array([0.4, 0.6])
TRUTH = float((CONTEXT[:, None] * POLICY * EARNS).sum())
GUESS = np.array([[0.3, 0.3, 0.3], [0.9, 0.0, 0.5]])  # a wrong model

# What obp 0.5.7 returns for `obp_world`, threshold, λ and clip .5, groups (0, 0, 1, 1); slates are pairs of rows that follow:
#   given = dict(reward=rewards, action=shown, pscore=logging[n, shown], action_dist=policy[:, :, None],
#                position=np.zeros(12, int), estimated_rewards_by_reg_model=expected[:, :, None])
#   InverseProbabilityWeighting().estimate_policy_value(**given), DoublyRobust()…, and so on
#   MarginalizedInverseProbabilityWeighting(n_actions=4)…(pi_b=logging[:, :, None], action_embed=groups[shown][:, None],
#                p_e_a=np.eye(2)[groups][:, :, None])
#   SlateStandardIPS(2)…(pscore=products repeated, …), SlateCascadeDoublyRobust(2, 4)…(q_hat=expected.ravel(), …)
OBP = {
    "ipw": 0.17071039551985778,
    "clipped": 0.11984268393904944,
    "snipw": 0.3120709142375799,
    "dm": 0.5626564145413454,
    "dr": 0.3853106621293571,
    "sndr": 0.23845558937880992,
    "switch_dr": 0.5163072678438414,
    "dr_os": 0.5024364363424304,
    "mips": 0.36733345408119594,
    "sips": 0.17761706940996755,
    "iips": 0.34142079103971557,
    "rips": 0.191729735605399,
    "snsips": 0.5088102535395528,
    "sniips": 0.6027458750009941,
    "snrips": 0.5527540680320577,
    "cascade_dr": 0.5150480938703642,
}


def possible() -> Iterator[tuple[float, int, int, float]]:
    """(probability, context, item, reward) of everything that the log may hold."""
    for context, item, reward in itertools.product(range(2), range(3), (0.0, 1.0)):
        chance = EARNS[context, item] if reward else 1 - EARNS[context, item]
        yield CONTEXT[context] * LOGGING[context, item] * chance, context, item, reward


def expected_value(estimate: Callable[[int, int, float], Estimate]) -> float:
    return sum(chance * estimate(context, item, reward).value for chance, context, item, reward in possible())


def one(value: float) -> np.ndarray:
    return np.array([value])


def weight(context: int, item: int) -> np.ndarray:
    return one(POLICY[context, item] / LOGGING[context, item])


def test_ipw_is_right_on_average() -> None:
    assert expected_value(lambda x, a, r: choices.ipw(one(r), weight(x, a))) == pytest.approx(TRUTH)


def test_dr_is_right_on_average_with_a_wrong_model() -> None:
    def estimate(x: int, a: int, r: float) -> Estimate:
        return choices.dr(one(r), weight(x, a), one(GUESS[x, a]), one(float(POLICY[x] @ GUESS[x])))

    assert expected_value(estimate) == pytest.approx(TRUTH)


def test_dr_is_right_on_average_with_wrong_weights_and_a_right_model() -> None:
    def estimate(x: int, a: int, r: float) -> Estimate:
        return choices.dr(one(r), 3 * weight(x, a), one(EARNS[x, a]), one(float(POLICY[x] @ EARNS[x])))

    assert expected_value(estimate) == pytest.approx(TRUTH)


def test_mips_is_right_on_average_where_an_item_earns_by_its_group() -> None:
    groups, earns = np.array([0, 0, 1]), np.array([0.2, 0.2, 0.7])
    truth, found = float((CONTEXT[:, None] * POLICY * earns).sum()), 0.0
    for context, item, reward in itertools.product(range(2), range(3), (0.0, 1.0)):
        chance = CONTEXT[context] * LOGGING[context, item] * (earns[item] if reward else 1 - earns[item])
        weights = marginal_weights(POLICY[[context]], LOGGING[[context]], groups, np.array([item]))
        found += chance * choices.ipw(one(reward), weights).value
    assert found == pytest.approx(truth)


def test_a_policy_like_the_log_earns_the_mean_reward() -> None:
    rewards = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    assert choices.ipw(rewards, np.ones(5)).value == pytest.approx(0.6)
    assert choices.snipw(rewards, np.ones(5)).value == pytest.approx(0.6)


def test_a_perfect_model_leaves_nothing_to_the_weights() -> None:
    shown, rng = np.array([0.0, 1.0, 1.0, 0.0]), np.random.default_rng(1)
    terms = choices.dr(shown, rng.exponential(50, 4), shown, np.full(4, 0.3)).terms
    assert terms is not None
    assert np.ptp(terms) == 0


def test_dr_os_goes_from_the_model_to_dr() -> None:
    rows = (np.array([1.0, 0.0]), np.array([4.0, 1.0]), np.array([0.5, 0.5]), np.array([0.2, 0.4]))
    assert choices.dr_os(*rows, shrinkage=0.0).value == pytest.approx(choices.dm(rows[3]).value)
    assert choices.dr_os(*rows, shrinkage=np.inf).value == choices.dr(*rows).value
    assert choices.switch_dr(*rows, threshold=np.inf).value == choices.dr(*rows).value


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=30), st.randoms())
def test_snipw_stays_within_the_rewards_and_order_does_not_matter(rows: list[tuple[float, float]], random: object) -> None:
    rewards, weights = np.array(rows).T
    value = choices.snipw(rewards, weights).value
    assert rewards.min() - 1e-9 <= value <= rewards.max() + 1e-9
    random.shuffle(rows)  # type: ignore[attr-defined]
    rewards, weights = np.array(rows).T
    assert choices.snipw(rewards, weights).value == pytest.approx(value)
    assert choices.ipw(rewards, weights).value == pytest.approx(float((rewards * weights).mean()))


def test_slates_of_one_place_are_choices() -> None:
    rng = np.random.default_rng(2)
    rewards, weights, shown, played = rng.random((4, 20))
    column = [part[:, None] for part in (rewards, weights, shown, played)]
    for estimate in (slates.sips, slates.iips, slates.rips):
        assert estimate(column[0], column[1]).value == pytest.approx(choices.ipw(rewards, weights).value)
    for estimate in (slates.snsips, slates.sniips, slates.snrips):
        assert estimate(column[0], column[1]).value == pytest.approx(choices.snipw(rewards, weights).value)
    assert slates.cascade_dr(*column).value == pytest.approx(choices.dr(rewards, weights, shown, played).value)  # type: ignore[arg-type]


def test_where_a_reward_depends_on_what_stands_above_cascades_are_right_and_places_alone_are_not() -> None:
    logging, policy = np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([[0.2, 0.8], [0.5, 0.5]])  # (places, items)
    first, second = np.array([0.2, 0.6]), np.array([[0.1, 0.9], [0.5, 0.3]])  # P(reward); of the second by both items
    guess = np.array([[0.3, 0.4], [0.7, 0.2]])
    truth, values = 0.0, dict.fromkeys(("sips", "rips", "iips", "cascade_dr"), 0.0)
    for a, b in itertools.product(range(2), range(2)):
        truth += policy[0, a] * policy[1, b] * (first[a] + second[a, b])
        for rewards in itertools.product((0.0, 1.0), (0.0, 1.0)):
            chance = logging[0, a] * logging[1, b] * np.prod(
                [p if r else 1 - p for p, r in zip((first[a], second[a, b]), rewards, strict=True)]
            )  # fmt: skip
            weights = np.array([[policy[0, a] / logging[0, a], policy[1, b] / logging[1, b]]])
            cascade, rows = slates.cascade_weights(weights), np.array([rewards])
            model = slates.with_places_below(np.array([[guess[0, a], guess[1, b]]]), (policy * guess).sum(axis=1)[None])
            values["sips"] += chance * slates.sips(rows, cascade).value
            values["rips"] += chance * slates.rips(rows, cascade).value
            values["iips"] += chance * slates.iips(rows, weights).value
            values["cascade_dr"] += chance * slates.cascade_dr(rows, cascade, *model).value
    for name in ("sips", "rips", "cascade_dr"):
        assert values[name] == pytest.approx(truth), name
    assert values["iips"] != pytest.approx(truth, abs=0.01)


def test_figures_are_those_of_obp() -> None:
    rng = np.random.default_rng(7)
    logging, policy = (rng.dirichlet(np.ones(4), 12) for _ in range(2))
    items = np.array([rng.choice(4, p=chances) for chances in logging])
    expected, rewards, n = rng.random((12, 4)), (rng.random(12) < 0.5).astype(float), np.arange(12)
    weights, shown, played = (policy / logging)[n, items], expected[n, items], (policy * expected).sum(axis=1)
    marginal = marginal_weights(policy, logging, np.array([0, 0, 1, 1]), items)
    both, pairs = (rewards, weights, shown, played), [part.reshape(6, 2) for part in (rewards, weights, shown, played)]
    cascade = slates.cascade_weights(pairs[1])
    found = {
        "ipw": choices.ipw(rewards, weights),
        "clipped": choices.ipw(rewards, weights, most=0.5),
        "snipw": choices.snipw(rewards, weights),
        "dm": choices.dm(played),
        "dr": choices.dr(*both),
        "sndr": choices.sndr(*both),
        "switch_dr": choices.switch_dr(*both, threshold=0.5),
        "dr_os": choices.dr_os(*both, shrinkage=0.5),
        "mips": choices.ipw(rewards, marginal),
        "sips": slates.sips(pairs[0], cascade),
        "iips": slates.iips(pairs[0], pairs[1]),
        "rips": slates.rips(pairs[0], cascade),
        "snsips": slates.snsips(pairs[0], cascade),
        "sniips": slates.sniips(pairs[0], pairs[1]),
        "snrips": slates.snrips(pairs[0], cascade),
        "cascade_dr": slates.cascade_dr(pairs[0], cascade, pairs[2], pairs[3]),
    }
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(OBP, rel=1e-9)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(EstimateRefused, match="weights: all weights are zero"):
        _ = choices.snipw(np.ones(3), np.zeros(3)).value
    with pytest.raises(InputError, match="rows are missing"):
        choices.dm(np.zeros(0))
