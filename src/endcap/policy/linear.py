"""What a shown item earns, as a line of its features: sums that grow with each shown item, and what they say.

Shapes: N shown items, D features, M draws. r = θ·x + noise of variance σ², θ ~ N(prior, σ²/λ I).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
PRIOR_ROWS = 20.0  # shown items that the noise told beforehand counts for


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Sums over shown items whose rewards are known."""

    names: tuple[str, ...]  # of the D features
    xx: Floats  # (D, D) Σ x xᵀ
    xr: Floats  # (D,) Σ x r
    rr: float  # Σ r²
    rows: float

    @classmethod
    def empty(cls, names: Sequence[str]) -> Statistics:
        """Nothing learnt."""
        return cls(tuple(names), np.zeros((len(names), len(names))), np.zeros(len(names)), 0.0, 0.0)

    def add(self, features_ND: Floats, rewards_N: Floats) -> Statistics:
        """More shown items.

        >>> more = Statistics.empty(["one"]).add(np.ones((4, 1)), np.array([1.0, 0.0, 0.0, 1.0]))
        >>> more.xx, more.xr, more.rr, more.rows
        (array([[4.]]), array([2.]), 2.0, 4.0)
        """
        return replace(
            self,
            xx=self.xx + features_ND.T @ features_ND,
            xr=self.xr + features_ND.T @ rewards_N,
            rr=self.rr + float(rewards_N @ rewards_N),
            rows=self.rows + len(rewards_N),
        )

    def plus(self, other: Statistics) -> Statistics:
        """Both, of the same features."""
        return replace(self, xx=self.xx + other.xx, xr=self.xr + other.xr, rr=self.rr + other.rr, rows=self.rows + other.rows)

    def only(self, names: Sequence[str]) -> Statistics:
        """Of some of the features, in the order given."""
        at = [self.names.index(name) for name in names]
        return Statistics(tuple(names), self.xx[np.ix_(at, at)], self.xr[at], self.rr, self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What is believed of θ: N(mean, noise (λI + Σ x xᵀ)⁻¹)."""

    mean: Floats  # (D,)
    root: Floats  # (D, D) R with R Rᵀ = (λI + Σ x xᵀ)⁻¹
    noise: float  # σ²

    def expected(self, features_HD: Floats) -> Floats:
        """(H,) θ̂·x."""
        return np.asarray(features_HD @ self.mean)

    def deviation(self, features_HD: Floats) -> Floats:
        """(H,) how unsure θ·x is: its standard deviation."""
        return np.asarray(np.sqrt(self.noise) * np.linalg.norm(features_HD @ self.root, axis=1))

    def draw(self, normal_MD: Floats, scale: float = 1.0) -> Floats:
        """(M, D) draws of θ from standard normal ones."""
        return np.asarray(self.mean + scale * np.sqrt(self.noise) * normal_MD @ self.root.T)


def believe(known: Statistics, prior: Floats, ridge: float, noise: float) -> Posterior:
    """θ̂ = prior + (λI + Σ x xᵀ)⁻¹ (Σ x r - Σ x xᵀ prior); the noise told beforehand counts for PRIOR_ROWS shown items.

    >>> once = Statistics.empty(["one"]).add(np.ones((3, 1)), np.ones(3))
    >>> believe(once, np.zeros(1), ridge=1.0, noise=0.1).mean
    array([0.75])
    """
    from scipy.linalg import cho_solve, solve_triangular

    lower = np.linalg.cholesky(known.xx + ridge * np.eye(len(prior)))
    mean = prior + cho_solve((lower, True), known.xr - known.xx @ prior)
    left = known.rr - 2 * mean @ known.xr + mean @ known.xx @ mean  # Σ (r - θ̂·x)²
    noise = (PRIOR_ROWS * noise + max(float(left), 0.0)) / (PRIOR_ROWS + known.rows)
    return Posterior(mean, solve_triangular(lower, np.eye(len(prior)), lower=True).T, noise)
