"""The kinds of policies: from the head of a request, with features where it learns, to the chances of its candidates.

A learning policy starts from the belief that the model's score is worth `trust` a standard deviation, and knows nothing else.
Not here: the drawing itself (drawing.py), and who meets which policy (serving/policy_store.py).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from endcap.contracts import Surface
from endcap.exploring import LEARNING, Defined
from endcap.policy.drawing import Chances, Floats, best_of, mixed, plackett_luce
from endcap.policy.features import NAMES, names_of
from endcap.policy.linear import Posterior, Statistics, believe

Weigh = Callable[[Floats, Floats], Chances]  # scores (H,), the best first, and features (H, D) of the first place
ITEM = ("one", "score", "place", *(f"on_{surface}" for surface in Surface))  # beside an item's vector
SEED = 20261122  # of the draws, which stay the same: so the same request has the same chances


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Chooses among the head of a request. `label`: name and version, as the exposure log tells it."""

    name: str
    label: str
    weigh: Weigh


def version_of(defined: Defined, learnt_from: str = "") -> str:
    """Eight hex digits of the knobs and, for a policy that learns, of what it has learnt from."""
    text = defined.model_dump_json(exclude={"name"}) + learnt_from
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def block_of(defined: Defined, feature_set: str) -> tuple[str, ...]:
    """The features that a policy uses, of those that are at hand."""
    if defined.kind != "neural_linear":
        return NAMES
    return (*ITEM, *names_of(feature_set)[len(NAMES) :][: defined.dims])


def make(defined: Defined, feature_set: str = "", known: Statistics | None = None, learnt_from: str = "") -> Policy:
    """The policy. One that learns needs the features at hand, and what is known of its block (`block_of`; None: nothing)."""
    if defined.kind not in LEARNING:
        label = defined.name if defined.kind in ("greedy", "uniform") else f"{defined.name}@{version_of(defined)}"
        return Policy(defined.name, label, _plain(defined))
    names = block_of(defined, feature_set)
    at = [names_of(feature_set).index(name) for name in names]
    prior = np.zeros(len(names))
    prior[names.index("score")] = defined.trust
    belief = believe(known or Statistics.empty(names), prior, defined.ridge, defined.noise)
    weigh = _upper_bound(belief, defined) if defined.kind == "lin_ucb" else _thompson(belief, defined)
    return Policy(
        defined.name,
        f"{defined.name}@{version_of(defined, learnt_from)}",
        lambda scores_H, features_HD: weigh(scores_H, features_HD[:, at]),
    )


def _plain(defined: Defined) -> Weigh:
    if defined.kind == "softmax":
        return lambda scores_H, _: mixed(plackett_luce(_deviations(scores_H) / defined.temperature), defined.floor)
    floor = {"greedy": 0.0, "uniform": 1.0, "epsilon_greedy": defined.epsilon}[defined.kind]
    return lambda scores_H, _: mixed(best_of(scores_H[None, :]), floor)


def _upper_bound(belief: Posterior, defined: Defined) -> Weigh:
    """θ̂·x + α sd(θ·x) (Li et al. 2010). It leaves nothing to chance but its floor."""

    def weigh(_scores: Floats, features_HD: Floats) -> Chances:
        bound_H = belief.expected(features_HD) + defined.alpha * belief.deviation(features_HD)
        return mixed(best_of(bound_H[None, :]), defined.floor)

    return weigh


def _thompson(belief: Posterior, defined: Defined) -> Weigh:
    """Agrawal and Goyal 2013, by so many draws of θ that stay the same: a place is drawn from the shares of draws that call an
    item the best, so its chance is no estimate."""
    draws_MD = belief.draw(_normal(defined.draws, len(belief.mean)), defined.scale)
    return lambda _scores, features_HD: mixed(best_of(draws_MD @ features_HD.T), defined.floor)


@functools.cache
def _normal(draws: int, dims: int) -> Floats:
    """(draws, dims) standard normal; each also with the other sign, so that their mean is 0."""
    half = np.random.default_rng(SEED).standard_normal(((draws + 1) // 2, dims))
    return np.concatenate([half, -half])[:draws]


def _deviations(scores_H: Floats) -> Floats:
    deviation = float(scores_H.std())
    return (scores_H - scores_H.mean()) / deviation if deviation > 0 else np.zeros(len(scores_H))
