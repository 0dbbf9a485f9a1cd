"""Estimators of slates: the sum of what the places of a slate earn. They differ in what a place's reward may depend on.

Shapes: S slates of K places each. `weights_SK`: w of each place by itself; `cascade_SK`: w of a place and all above it
(`cascade_weights`). One slate is one row of the estimate. The whole slate: SIPS; its own place: IIPS; what stands above: RIPS.
"""

from __future__ import annotations

import numpy as np

from endcap.evaluation.off_policy.estimate import Estimate, Floats


def cascade_weights(weights_SK: Floats) -> Floats:
    """(S, K) w_1:k = Π_{j <= k} w_j, where each place is drawn by its own chances given those above it.

    >>> cascade_weights(np.array([[2.0, 0.5, 3.0]]))
    array([[2., 1., 3.]])
    """
    return np.asarray(np.cumprod(weights_SK, axis=1), np.float64)


def sips(rewards_SK: Floats, cascade_SK: Floats) -> Estimate:
    """mean of w_1:K Σ_k r_k: any reward may depend on the whole slate (Precup, Sutton and Singh 2000).

    >>> sips(np.array([[1.0, 1.0], [0.0, 1.0]]), cascade_weights(np.array([[2.0, 0.5], [0.5, 0.5]]))).value
    1.125
    """
    return Estimate.mean(cascade_SK[:, -1] * rewards_SK.sum(axis=1))


def snsips(rewards_SK: Floats, cascade_SK: Floats) -> Estimate:
    """Σ w_1:K Σ_k r_k / Σ w_1:K.

    >>> snsips(np.array([[1.0, 1.0], [0.0, 1.0]]), cascade_weights(np.array([[2.0, 0.5], [0.5, 0.5]]))).value
    1.8
    """
    return Estimate.ratio(cascade_SK[:, -1] * rewards_SK.sum(axis=1), cascade_SK[:, -1])


def iips(rewards_SK: Floats, weights_SK: Floats) -> Estimate:
    """mean of Σ_k w_k r_k: a reward depends on its own place alone (Li et al. 2018, the item-position model).

    >>> iips(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[2.0, 0.5], [0.5, 0.5]])).value
    1.5
    """
    return Estimate.mean((weights_SK * rewards_SK).sum(axis=1))


def sniips(rewards_SK: Floats, weights_SK: Floats) -> Estimate:
    """Σ_k (Σ w_k r_k / Σ w_k), each place by its own weights.

    >>> sniips(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[2.0, 0.5], [0.5, 0.5]])).value
    1.8
    """
    return Estimate.ratio(weights_SK * rewards_SK, weights_SK)


def rips(rewards_SK: Floats, cascade_SK: Floats) -> Estimate:
    """mean of Σ_k w_1:k r_k: a reward depends on its place and those above (McInerney et al. 2020).

    >>> rips(np.array([[1.0, 1.0], [0.0, 1.0]]), cascade_weights(np.array([[2.0, 0.5], [0.5, 0.5]]))).value
    1.625
    """
    return iips(rewards_SK, cascade_SK)


def snrips(rewards_SK: Floats, cascade_SK: Floats) -> Estimate:
    """Σ_k (Σ w_1:k r_k / Σ w_1:k).

    >>> snrips(np.array([[1.0, 1.0], [0.0, 1.0]]), cascade_weights(np.array([[2.0, 0.5], [0.5, 0.5]]))).value
    1.8
    """
    return sniips(rewards_SK, cascade_SK)


def cascade_dr(rewards_SK: Floats, cascade_SK: Floats, shown_SK: Floats, played_SK: Floats) -> Estimate:
    """mean of Σ_k w_1:k (r_k - Q̂_k(a_k)) + w_1:k-1 Q̂_k(π) (Kiyohara et al. 2022), w_1:0 = 1.

    `shown_SK`: Q̂_k(a_k), what the model expects of place k and all below, given what was shown above; `played_SK`: the same,
    the policy choosing at k. Unbiased in a cascade when weights or model are right.

    >>> cascade = cascade_weights(np.array([[2.0, 0.5]]))
    >>> cascade_dr(np.array([[1.0, 1.0]]), cascade, np.array([[1.0, 0.5]]), np.array([[0.75, 0.25]])).value
    1.75
    """
    above_SK = np.hstack([np.ones((len(cascade_SK), 1)), cascade_SK[:, :-1]])
    return Estimate.mean((cascade_SK * (rewards_SK - shown_SK) + above_SK * played_SK).sum(axis=1))


def with_places_below(shown_SK: Floats, played_SK: Floats) -> tuple[Floats, Floats]:
    """Q̂ of cascade_dr from what a model expects of each place by itself: own place, and of the policy in all places below.

    >>> with_places_below(np.array([[0.5, 0.2]]), np.array([[0.3, 0.1]]))
    (array([[0.6, 0.2]]), array([[0.4, 0.1]]))
    """
    below = np.cumsum(played_SK[:, ::-1], axis=1)[:, ::-1] - played_SK
    return shown_SK + below, played_SK + below
