"""Learn the blend's weights on periods that its parts have not learnt, in two steps.

1. Among items that the shopper has bought before, which are bought in the period? A logistic regression over all such pairs.
2. With that order given: at which height do bought items enter, and how do the signals of all other items weigh? Each taken
   item against everything that was not taken, every shopper counting the same.

One softmax for both orders bought items worse (docs/experiments.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from endcap.models.history import Floats
from endcap.models.signals import DENSE, SIGNALS
from endcap.training.examples import Example, Examples, pack

STEPS = 40
SEEN = 10  # places of a slate that a shopper looks at
BLOCK = 5_000_000  # shoppers × candidates that are sorted at once
MIXES = (*((share, 1.0) for share in (0.35, 0.2, 0.5, 0.7, 0.1, 1.0, 2.0, 5.0, 10.0, 0.0)), (1.0, 0.0))  # the likeliest first
HOLDS = (10.0, 3.0, 1.0, 0.3, 30.0, 100.0)  # of an update, by shoppers; the likeliest first
FEW = 20  # shoppers of a half: with fewer there is nothing to choose by
PAIR_HOLD = 0.1  # there are many more pairs than shoppers
BOUGHT, LOOKED = SIGNALS.index("bought"), SIGNALS.index("looked_at")
AFTER_DENSE = slice(len(DENSE), 2 * len(DENSE))  # the dense signals again, of bought items only


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What both steps need. N candidates, U shoppers, S signals, C context."""

    examples: Examples
    about: Tensor  # (N, C) the context of each candidate's shopper
    bought: Tensor  # (N,) whether the shopper bought the item before
    scale: Tensor  # (S, 1) root mean square of each signal
    hold: float  # divided by U: how strongly weights are held to their start


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What a mix of the stages is judged by: N candidates of some shoppers, flat."""

    first: Floats  # (N,) the first stage's scores
    second: Floats  # (N,) the second stage's
    taken: npt.NDArray[np.bool_]  # (N,)
    new: npt.NDArray[np.bool_]  # (N,) whether the shopper did not have the item before
    shopper: npt.NDArray[np.int64]  # (N,) ascending
    shoppers: int


def learn_weights(examples: Examples, start: Floats, hold: float) -> Floats:
    """(S, C) weights, held to `start` the more, the fewer shoppers there are: as if `hold` shoppers had spoken for it."""
    about = examples.context[examples.shopper]
    scale = examples.signals.square().mean(dim=0).sqrt().clamp(min=0.01)[:, None]
    problem = Problem(examples, about, examples.signals[:, BOUGHT] > 0, scale, hold / len(examples.context))
    origin = torch.from_numpy(start.copy())
    repeats = origin.clone()  # (S, C) what orders bought items: only the rows of OWN, with the dense signals added back
    repeats[AFTER_DENSE] += origin[: len(DENSE)]
    repeats[: len(DENSE)], repeats[LOOKED] = 0, 0
    origin[BOUGHT] = 0  # the order has it; what is held is how high bought items stand on the whole
    origin[BOUGHT, 0] = order_of(problem, repeats)[1]
    repeats = order_repeats(problem, repeats)
    weights = place_all(problem, origin, repeats)
    return weights.numpy() if bool(torch.isfinite(weights).all()) else start


def order_repeats(problem: Problem, start: Tensor) -> Tensor:
    """Step 1: (S, C) weights of a logistic regression over bought pairs; what is not a signal of bought items stays 0."""
    rows = problem.bought
    taken = problem.examples.taken[rows]
    if not 0 < float(taken.sum()) < len(taken):
        return start
    signals, about = problem.examples.signals[rows], problem.about[rows]
    free = torch.ones_like(start)
    free[: len(DENSE)], free[LOOKED] = 0, 0
    held = problem.scale.clone()
    held[BOUGHT] = 0  # how often anything is bought again is no matter of belief

    def loss(weights: Tensor) -> Tensor:
        scores = ((signals @ (weights * free)) * about).sum(dim=1)
        fit = functional.binary_cross_entropy_with_logits(scores, taken)
        return fit + PAIR_HOLD * problem.hold * ((weights - start) * held).square().sum()

    return minimise(loss, start) * free


def order_of(problem: Problem, repeats: Tensor) -> tuple[Tensor, float]:
    """(N,) scores of bought items among themselves, 0 for others, and their mean."""
    bought = problem.bought
    order = ((problem.examples.signals @ repeats) * problem.about).sum(dim=1) * bought
    return order, float(order.sum() / bought.sum().clamp(min=1))


def place_all(problem: Problem, start: Tensor, repeats: Tensor) -> Tensor:
    """Step 2: (S, C) weights of everything, with the order of bought items given by `repeats`."""
    examples, bought = problem.examples, problem.bought
    order, level = order_of(problem, repeats)  # the level is taken out: the height of bought items is learnt by itself
    places = [*range(len(DENSE)), BOUGHT, LOOKED]
    signals = examples.signals[:, places].clone()
    signals[bought, : len(DENSE)] = 0
    counts = examples.taken.new_zeros(len(examples.context)).index_add(0, examples.shopper, examples.taken)
    share = examples.taken / counts[examples.shopper] / len(counts)
    origin = start[places].clone()
    scale = problem.scale[places]

    def loss(packed: Tensor) -> Tensor:
        weights, stretch = packed[:-1], packed[-1, 0]
        scores = ((signals @ weights) * problem.about).sum(dim=1) + stretch * (order - level) * bought
        others = torch.where(examples.taken > 0, -torch.inf, scores + examples.stands_for)
        total = log_sum_exp(others, examples.shopper, len(counts))
        fit = (share * functional.softplus(total[examples.shopper] - scores)).sum()
        return fit + problem.hold * (((weights - origin) * scale).square().sum() + (stretch - 1).square())

    packed = minimise(loss, torch.cat([origin, torch.ones(1, origin.shape[1])]))
    learnt, stretch = packed[:-1], float(packed[-1, 0])
    weights = stretch * repeats
    weights[BOUGHT, 0] -= stretch * level
    weights[places] += learnt
    weights[AFTER_DENSE] -= learnt[: len(DENSE)]
    return weights


def choose_mix(standings: Sequence[Standing]) -> tuple[float, float]:
    """How the first stage's score and the second stage's weigh: the first of MIXES that is not surely worse."""
    before = np.cumsum([0, *(one.shoppers for one in standings)])
    everybody = Standing(
        np.concatenate([one.first for one in standings]),
        np.concatenate([one.second for one in standings]),
        np.concatenate([one.taken for one in standings]),
        np.concatenate([one.new for one in standings]),
        np.concatenate([one.shopper + start for one, start in zip(standings, before, strict=False)]),
        int(before[-1]),
    )
    return MIXES[_first_of_the_best([shown_gains(everybody, mix) for mix in MIXES])]


def choose_hold(examples: Sequence[Example], start: Floats, mix: tuple[float, float]) -> float:
    """How strongly weights are held to `start`: the first of HOLDS that is not surely worse, when either half of the shoppers
    learns and the other judges.
    """
    if len(examples) < 2 * FEW:
        return HOLDS[0]
    halves = [pack(examples[::2]), pack(examples[1::2])]

    def gains(hold: float) -> npt.NDArray[np.float64]:
        sides = zip(halves, halves[::-1], strict=True)
        return np.concatenate([shown_gains(stand(other, learn_weights(one, start, hold)), mix) for one, other in sides])

    return HOLDS[_first_of_the_best([gains(hold) for hold in HOLDS])]


def stand(examples: Examples, weights: Floats) -> Standing:
    """How each stage scores the candidates, the first by `weights`."""
    first = ((examples.signals @ torch.from_numpy(weights)) * examples.context[examples.shopper]).sum(dim=1).numpy()
    taken, new = examples.taken.numpy() > 0, examples.signals[:, BOUGHT].numpy() <= 0
    return Standing(first, examples.ranked.numpy(), taken, new, examples.shopper.numpy(), len(examples.context))


def shown_gains(standing: Standing, mix: tuple[float, float]) -> npt.NDArray[np.float64]:
    """(U,) what each shopper adds to what shoppers would see: NDCG@10 over all candidates plus NDCG@10 over those that the
    shopper did not have, each a mean over shoppers.
    """
    scores = mix[0] * standing.first + mix[1] * standing.second
    taken, new, shopper, size = standing.taken, standing.new, standing.shopper, standing.shoppers
    both = (ndcgs(scores, taken, shopper, size), ndcgs(scores[new], taken[new], shopper[new], size))
    everything, fresh = (np.nan_to_num(one) / max(np.isfinite(one).sum(), 1) for one in both)
    return np.asarray(everything + fresh)


def _first_of_the_best(gains: Sequence[npt.NDArray[np.float64]]) -> int:
    """The first choice within one standard error (paired) of the best: shoppers tell far apart ones apart, and no more.

    `gains`: for each choice what each shopper adds, (U,).
    """
    table_MU = np.stack(gains)
    behind_MU = table_MU[table_MU.sum(axis=1).argmax()] - table_MU
    error_M = behind_MU.std(axis=1) * np.sqrt(table_MU.shape[1])
    return int((behind_MU.sum(axis=1) <= error_M).argmax())


def ndcgs(
    scores: npt.NDArray[np.floating[Any]], taken: npt.NDArray[np.bool_], shopper: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.float64]:
    """(size,) NDCG@10 of each shopper's flat candidates; NaN for a shopper who took none of them.

    >>> ndcgs(np.array([3.0, 2.0, 1.0]), np.array([False, True, False]), np.array([0, 0, 0]), 2)  # 1 / log2(3)
    array([0.63092975,        nan])
    """
    lengths = np.bincount(shopper, minlength=size)
    starts, width = np.cumsum(lengths) - lengths, int(lengths.max(initial=0))
    shown, wanted = min(SEEN, width), np.bincount(shopper[taken], minlength=size)
    worth = 1 / np.log2(np.arange(SEEN) + 2.0)
    gained = np.zeros(size)
    for users in np.array_split(np.arange(size), max(1, -(-size * width // BLOCK))) if shown else ():
        rows = slice(starts[users[0]], starts[users[-1]] + lengths[users[-1]])
        at = (shopper[rows] - users[0], np.arange(rows.start, rows.stop) - starts[shopper[rows]])
        score_UK, hit_UK = np.full((len(users), width), -np.inf), np.zeros((len(users), width), np.bool_)
        score_UK[at], hit_UK[at] = scores[rows], taken[rows]
        best_UK = np.argpartition(-score_UK, shown - 1, axis=1)[:, :shown]
        order_UK = np.argsort(-np.take_along_axis(score_UK, best_UK, axis=1), axis=1, kind="stable")
        first_UK = np.take_along_axis(best_UK, order_UK, axis=1)
        gained[users] = np.take_along_axis(hit_UK, first_UK, axis=1) @ worth[:shown]
    ideal = np.concatenate([[0.0], np.cumsum(worth)])
    result = np.full(size, np.nan)
    asked = wanted > 0
    result[asked] = gained[asked] / ideal[np.minimum(wanted[asked], SEEN)]
    return result


def minimise(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """The minimum of a smooth function by L-BFGS from `start`."""
    weights = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([weights], lr=1.0, max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(weights)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def log_sum_exp(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """(G,) log of the sum of exp(values) by group; about -1e9 for a group of minus infinities."""
    peak = torch.full((groups,), -torch.inf).scatter_reduce(0, group, values.detach(), "amax").clamp(min=-1e9)
    return peak + torch.log(torch.zeros(groups).index_add(0, group, torch.exp(values - peak[group])) + 1e-30)
