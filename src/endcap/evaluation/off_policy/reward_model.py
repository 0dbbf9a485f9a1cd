"""What a shown item is expected to earn, learnt from other shoppers' rows: q̂ of the direct and doubly robust estimators.

A logistic regression of item, place and context where rewards are 0 and 1, a ridge regression elsewhere. No row is predicted by
a model that has seen its shopper (cross-fitting, Chernozhukov et al. 2018), so that the model does not know the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from endcap.errors import InputError
from endcap.evaluation.off_policy.estimate import Floats

Ints = npt.NDArray[np.int64]
FOLDS = 5
RIDGE = 1.0
BLOCK_CELLS = 4_000_000  # rows × items that are expected at once


@dataclass(frozen=True, slots=True, eq=False)
class CrossFitted:
    """A model a fold: score = items[fold, item] + rest[row], the mean of the reward after the link."""

    items: Floats  # (F, A)
    rest: Floats  # (N,) place, context and constant of the row, by its fold's model
    folds: Ints  # (N,) the fold whose model predicts the row
    binary: bool

    def of_shown(self, items: Ints) -> Floats:
        """(N,) q̂(x, a) of one item a row."""
        return self._link(self.items[self.folds, items] + self.rest)

    def of_policy(self, policy_GA: Any, groups: Ints) -> Floats:
        """(N,) q̂(x, π) = Σ_a π(a|x) q̂(x, a); row n plays by `policy_GA[groups[n]]`, dense or sparse."""
        found, block = np.empty(len(self.rest)), max(1, BLOCK_CELLS // self.items.shape[1])
        for begin in range(0, len(found), block):
            rows = slice(begin, begin + block)
            expected_BA = self._link(self.items[self.folds[rows]] + self.rest[rows, None])
            found[rows] = (policy_GA[groups[rows]] * expected_BA).sum(axis=1)
        return found

    def _link(self, scores: Floats) -> Floats:
        return 1 / (1 + np.exp(-scores)) if self.binary else scores


def cross_fit(
    rewards: Floats,
    items: Ints,
    places: Ints,
    clusters: npt.NDArray[Any],
    item_count: int,
    contexts_NF: Floats | None = None,
    seed: int = 1,
) -> CrossFitted:
    """Fit one model a fold of clusters (shoppers) on all other folds.

    Args:
        items: (N,) codes 0 … item_count - 1 of what was shown.
        places: (N,) codes from 0.
        contexts_NF: numbers about the request, known before it.

    Raises:
        InputError: fewer than two clusters.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    count = int(codes.max()) + 1
    if count < 2:
        raise InputError("one shopper cannot be told by others", field="clusters", value=count, action="Give more.")
    order = np.random.default_rng(seed).permutation(count)
    folds = (order % min(FOLDS, count))[codes]
    binary = bool(np.isin(rewards, (0, 1)).all())
    features = _features(items, places, contexts_NF, item_count)
    items_FA, rest = np.empty((folds.max() + 1, item_count)), np.empty(len(rewards))
    for fold in range(len(items_FA)):
        mine = folds == fold
        weights, constant = _fit(features[~mine], rewards[~mine], binary)
        items_FA[fold] = weights[:item_count]
        rest[mine] = features[mine][:, item_count:] @ weights[item_count:] + constant
    return CrossFitted(items_FA, rest, folds, binary)


def _features(items: Ints, places: Ints, contexts_NF: Floats | None, item_count: int) -> Any:
    """(N, item_count + places + F) sparse: flags of the item and the place, then contexts of mean 0 and deviation 1."""
    from scipy import sparse

    rows, ones = np.arange(len(items)), np.ones(len(items))
    flags = [
        sparse.csr_array((ones, (rows, codes)), shape=(len(items), width))
        for codes, width in ((items, item_count), (places, int(places.max()) + 1))
    ]
    if contexts_NF is None or not contexts_NF.shape[1]:
        return sparse.hstack(flags, format="csr")
    deviation = contexts_NF.std(axis=0)
    contexts_NF = (contexts_NF - contexts_NF.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return sparse.hstack([*flags, sparse.csr_array(contexts_NF)], format="csr")


def _fit(features: Any, rewards: Floats, binary: bool) -> tuple[Floats, float]:
    """Weights and constant; where all rewards are alike the constant says so."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if (rewards == rewards[0]).all():
        constant = float(np.where(rewards[0] > 0, 30.0, -30.0)) if binary else float(rewards[0])
        return np.zeros(features.shape[1]), constant
    if binary:
        model = LogisticRegression(C=1 / RIDGE, max_iter=1000).fit(features, rewards)
        return model.coef_[0], float(model.intercept_[0])
    model = Ridge(alpha=RIDGE, solver="sparse_cg").fit(features, rewards)
    return model.coef_, float(model.intercept_)
