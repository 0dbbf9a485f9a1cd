"""Estimators of single choices: what a row would have earned on average, had the policy chosen.

Shapes: N rows. `rewards` r; `weights` w = π(a|x) / π₀(a|x); `shown` q̂(x, a), what a model expects of the item shown; `played`
q̂(x, π) = Σ_a π(a|x) q̂(x, a), what it expects of the policy. IPW of marginal weights is MIPS, SNIPW its self-normalised form.
"""

from __future__ import annotations

import numpy as np

from endcap.evaluation.off_policy.estimate import Estimate, Floats


def ipw(rewards: Floats, weights: Floats, most: float = np.inf) -> Estimate:
    """mean of min(w, most) r (Horvitz and Thompson 1952). Unbiased without clipping.

    >>> ipw(np.array([1.0, 0.0, 1.0, 0.0]), np.array([2.0, 2.0, 0.5, 0.5])).value
    0.625
    >>> ipw(np.array([1.0, 0.0, 1.0, 0.0]), np.array([2.0, 2.0, 0.5, 0.5]), most=1.0).value
    0.375
    """
    return Estimate.mean(np.minimum(weights, most) * rewards)


def snipw(rewards: Floats, weights: Floats) -> Estimate:
    """Σ w r / Σ w (Swaminathan and Joachims 2015): lies within the rewards, biased by O(1/N).

    >>> snipw(np.array([1.0, 0.0, 1.0, 0.0]), np.array([2.0, 2.0, 0.5, 0.5])).value
    0.5
    """
    return Estimate.ratio(weights * rewards, weights)


def dm(played: Floats) -> Estimate:
    """mean of q̂(x, π): the direct method, as wrong as its model.

    >>> dm(np.array([0.25, 0.75])).value
    0.5
    """
    return Estimate.mean(played)


def dr(rewards: Floats, weights: Floats, shown: Floats, played: Floats) -> Estimate:
    """mean of q̂(x, π) + w (r - q̂(x, a)) (Dudík, Langford and Li 2011). Unbiased when weights or model are right.

    >>> dr(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5]), np.array([0.25, 0.25])).value
    0.5
    """
    return Estimate.mean(played + weights * (rewards - shown))


def sndr(rewards: Floats, weights: Floats, shown: Floats, played: Floats) -> Estimate:
    """mean of q̂(x, π) + Σ w (r - q̂(x, a)) / Σ w (Thomas and Brunskill 2016).

    >>> round(sndr(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5]), np.array([0.25, 0.25])).value, 6)
    0.416667
    """
    return dm(played) + Estimate.ratio(weights * (rewards - shown), weights)


def switch_dr(rewards: Floats, weights: Floats, shown: Floats, played: Floats, threshold: float) -> Estimate:
    """DR where w <= threshold, the model alone elsewhere (Wang, Agarwal and Dudík 2017).

    >>> switch_dr(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5]), np.array([0.25, 0.25]), 1.5).value
    0.0
    """
    return dr(rewards, np.where(weights <= threshold, weights, 0.0), shown, played)


def dr_os(rewards: Floats, weights: Floats, shown: Floats, played: Floats, shrinkage: float) -> Estimate:
    """DR of weights λ w / (w² + λ), optimistic shrinkage (Su et al. 2020). λ = ∞: DR; λ = 0: DM.

    >>> dr_os(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([0.5, 0.5]), np.array([0.25, 0.25]), 4.0).value
    0.3
    """
    return dr(rewards, shrunken(weights, shrinkage), shown, played)


def shrunken(weights: Floats, shrinkage: float) -> Floats:
    """(N,) λ w / (w² + λ), at most √λ / 2.

    >>> shrunken(np.array([0.0, 2.0]), 4.0), shrunken(np.array([2.0]), np.inf)
    (array([0., 1.]), array([2.]))
    """
    if np.isinf(shrinkage):
        return weights
    return np.divide(shrinkage * weights, weights**2 + shrinkage, out=np.zeros(len(weights)), where=weights > 0)
