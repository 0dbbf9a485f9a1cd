"""What the blend learns from shoppers whose taste is known, and how it is held when there are few of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from endcap.models.blend import start_weights
from endcap.models.signals import CONTEXT, DENSE, SIGNALS
from endcap.training.blending import HOLDS, MIXES, choose_hold, choose_mix, learn_weights, ndcgs, stand
from endcap.training.examples import Example, Examples, pack

RECENT, BOUGHT, OFTEN = (SIGNALS.index(name) for name in ("recent", "bought", "bought_often"))


def shoppers(count: int, seed: int = 0, candidates: int = 40) -> Examples:
    """Shoppers who take what is recently popular, and of what they bought before (a tenth) what they bought often."""
    rng = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        signals = np.zeros((candidates, len(SIGNALS)), np.float32)
        signals[:, : len(DENSE)] = rng.normal(size=(candidates, len(DENSE)))
        bought = np.arange(candidates) < candidates // 10
        signals[bought, BOUGHT], signals[bought, OFTEN] = 1, rng.gamma(1.0, 1.0, int(bought.sum()))
        appeal = np.where(bought, 1 + 2 * signals[:, OFTEN], 1.5 * signals[:, RECENT]) + rng.gumbel(size=candidates)
        taken = appeal >= np.sort(appeal)[-3]
        about = np.array([1.0, rng.random()], np.float32)[: len(CONTEXT)]
        nothing, codes = np.zeros(candidates, np.float32), np.arange(candidates)
        examples.append(Example(signals, about, taken, nothing, codes, appeal.astype(np.float32)))
    return pack(examples)


def unpacked(examples: Examples) -> list[Example]:
    """One by one again."""
    found = []
    for user, about in enumerate(examples.context.numpy()):
        mine = (examples.shopper == user).numpy()
        signals, taken, stands_for, ranked = (
            column.numpy()[mine] for column in (examples.signals, examples.taken, examples.stands_for, examples.ranked)
        )
        found.append(Example(signals, about, taken > 0, stands_for, np.arange(len(taken)), ranked))
    return found


def scores(weights: np.ndarray, examples: Examples) -> np.ndarray:
    about = examples.context[examples.shopper].numpy()
    return ((examples.signals.numpy() @ weights) * about).sum(axis=1)


def hit_rate(weights: np.ndarray, examples: Examples) -> float:
    """How often the best-scored candidate of a shopper was taken."""
    score, taken, owner = scores(weights, examples), examples.taken.numpy(), examples.shopper.numpy()
    best = [np.flatnonzero(owner == user)[score[owner == user].argmax()] for user in np.unique(owner)]
    return float(taken[best].mean())


def test_learnt_weights_rank_new_shoppers_better() -> None:
    learnt, fresh = learn_weights(shoppers(500), start_weights(), hold=1.0), shoppers(1000, seed=1)
    assert hit_rate(learnt, fresh) > hit_rate(start_weights(), fresh) + 0.02
    assert learnt[RECENT, 0] > 3 * abs(learnt[SIGNALS.index("popular"), 0])
    assert learnt[OFTEN, 0] > 0.5


@pytest.mark.parametrize(("noise", "expected"), [(0.0, (0.0, 1.0)), (1e4, (1.0, 0.0))], ids=["knowing", "ignorant"])
def test_the_mix_believes_the_stage_that_knows(noise: float, expected: tuple[float, float]) -> None:
    """The second stage says what made shoppers take items, with more or less noise."""
    examples = shoppers(100)
    rng = np.random.default_rng(1)
    examples.ranked.add_(torch.from_numpy(rng.normal(0, noise, len(examples.ranked)).astype(np.float32)))
    assert expected in MIXES
    assert choose_mix([stand(examples, learn_weights(examples, start_weights(), 1.0))]) == expected


def test_between_mixes_that_few_shoppers_cannot_tell_apart_the_likeliest_is_taken() -> None:
    examples = shoppers(30)
    weights = learn_weights(examples, start_weights(), 1.0)
    examples.ranked.copy_(torch.from_numpy(scores(weights, examples)))  # both stages say the same
    assert choose_mix([stand(examples, weights)]) == MIXES[0]


def test_a_mix_is_judged_alike_in_one_part_and_in_several() -> None:
    parts = [shoppers(count, seed) for seed, count in enumerate((7, 30, 12))]
    whole = pack([example for part in parts for example in unpacked(part)])
    rng = np.random.default_rng(3)
    whole.ranked.add_(torch.from_numpy(rng.normal(0, 3, len(whole.ranked)).astype(np.float32)))
    begin = 0
    for part in parts:
        part.ranked.copy_(whole.ranked[begin : begin + len(part.ranked)])
        begin += len(part.ranked)
    weights = start_weights()
    assert choose_mix([stand(part, weights) for part in parts]) == choose_mix([stand(whole, weights)])


def test_many_shoppers_tell_mixes_apart_that_few_cannot() -> None:
    """The first stage knows more: a third of it is too little, and a few shoppers cannot say so."""
    chosen = {}
    for count in (15, 1500):
        examples = shoppers(count)
        weights = learn_weights(shoppers(500, seed=9), start_weights(), 1.0)
        noise = np.random.default_rng(0).normal(0, 2, len(examples.ranked)).astype(np.float32)
        examples.ranked.add_(torch.from_numpy(noise))
        chosen[count] = choose_mix([stand(examples, weights)])
    assert chosen[15] == MIXES[0]
    assert chosen[1500][0] > MIXES[0][0] * chosen[1500][1]


def test_ndcg_of_shoppers_by_hand() -> None:
    scores, shopper = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 9.0]), np.array([0, 0, 0, 1, 1, 2])
    taken = np.array([True, False, True, True, False, False])  # places 3 and 2 of the first, 1 of the second, none of the third
    first = (1 / np.log2(3) + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(ndcgs(scores, taken, shopper, 4), [first, 1.0, np.nan, np.nan])
    assert np.isnan(ndcgs(scores, np.zeros(6, bool), shopper, 3)).all()
    assert np.isnan(ndcgs(scores[:0], taken[:0], shopper[:0], 2)).all()


def test_few_shoppers_move_weights_less_than_many() -> None:
    """All but the height at which bought items enter: that is free, see order_repeats."""
    held = np.arange(len(SIGNALS)) != BOUGHT
    few, many = (learn_weights(shoppers(count), start_weights(), hold=50.0)[held] for count in (4, 200))
    assert np.abs(few - start_weights()[held]).sum() < np.abs(many - start_weights()[held]).sum() / 2


def test_the_same_examples_give_the_same_weights() -> None:
    np.testing.assert_array_equal(*(learn_weights(shoppers(20), start_weights(), 1.0) for _ in range(2)))


def test_shoppers_who_bought_nothing_before_are_learnt_from() -> None:
    examples = shoppers(50)
    examples.signals[:, len(DENSE) :] = 0
    learnt = learn_weights(examples, start_weights(), 1.0)
    assert np.isfinite(learnt).all()
    assert learnt[RECENT, 0] > start_weights()[RECENT, 0]


def test_a_drawn_candidate_stands_for_all_it_was_drawn_from() -> None:
    """The more unpopular items each drawn one stands for, the more popularity must count."""
    plain, weighted = shoppers(100), shoppers(100)
    weighted.stands_for[weighted.signals[:, RECENT] < 0] = np.log(50)
    one, other = (learn_weights(examples, start_weights(), 1.0)[RECENT, 0] for examples in (plain, weighted))
    assert other > one


@pytest.mark.parametrize("seed", range(4))
def test_a_world_that_moved_loosens_the_hold_and_one_that_stands_does_not(seed: int) -> None:
    """Either half of the shoppers says so of the other."""
    rng = np.random.default_rng(seed)

    def examples(turned: bool) -> list[Example]:
        found = []
        for _ in range(60):
            signals = np.zeros((40, len(SIGNALS)), np.float32)
            signals[:, : len(DENSE)] = rng.normal(size=(40, len(DENSE)))
            appeal = (-3.0 if turned else 3.0) * signals[:, RECENT] + rng.gumbel(size=40)
            nothing = np.zeros(40, np.float32)
            about = np.array([1.0, 0.5], np.float32)[: len(CONTEXT)]
            found.append(Example(signals, about, appeal >= np.sort(appeal)[-3], nothing, np.arange(40), nothing))
        return found

    learnt = learn_weights(pack(examples(turned=False)), start_weights(), 1.0)
    stands, moved = (choose_hold(examples(turned=turned), learnt, (1.0, 0.0)) for turned in (False, True))
    assert moved < min(stands, HOLDS[0])
    for few in (1, 10):  # too few to choose by: an update of a single shopper too
        assert choose_hold(examples(turned=True)[:few], learnt, (1.0, 0.0)) == HOLDS[0]


@pytest.mark.parametrize("hold", [30.0, 1000.0])
def test_update_after_update_in_a_world_that_stands_moves_nothing(hold: float) -> None:
    """What is held is what the parent said, not a part of it: else a small mistake would be made again by every update."""
    first = learn_weights(shoppers(600), start_weights(), 1.0)
    weights = first
    for seed in range(1, 16):
        weights = learn_weights(shoppers(100, seed), weights, hold)
    fresh = shoppers(1000, seed=99)
    assert hit_rate(weights, fresh) > hit_rate(first, fresh) - 0.02
    bought = fresh.signals[:, BOUGHT].numpy() > 0
    lead = [scores(one, fresh)[bought].mean() - scores(one, fresh)[~bought].mean() for one in (first, weights)]
    assert abs(lead[1] - lead[0]) < 0.5
