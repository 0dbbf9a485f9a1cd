"""What every estimator returns: sums of ratios of sums, so that one bootstrap serves them all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from endcap.errors import EstimateRefused, InputError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """An estimate of N rows (choices or slates) in K parts: value = Σ_k Σ_n tops[n, k] / Σ_n bottoms[n, k].

    A mean is one part over ones. A self-normalised estimate divides by its weights, and a resample of the rows must redo that.

    >>> Estimate.mean(np.array([1.0, 2.0])).value, Estimate.ratio(np.array([1.0, 2.0]), np.array([0.5, 0.5])).value
    (1.5, 3.0)
    """

    tops: Floats  # (N, K)
    bottoms: Floats  # (N, K)

    @classmethod
    def mean(cls, terms: Floats) -> Estimate:
        """The mean of (N,) terms."""
        return cls.ratio(terms, np.ones(len(terms)))

    @classmethod
    def ratio(cls, tops: Floats, bottoms: Floats) -> Estimate:
        """The ratio of two sums over (N,) rows, or the sum of such ratios of (N, K)."""
        tops, bottoms = (np.asarray(part, np.float64) for part in (tops, bottoms))
        if tops.shape != bottoms.shape or not len(tops):
            what = "rows are missing or of different numbers"
            raise InputError(what, field="terms", value=(tops.shape, bottoms.shape), action="Give one value a row to all.")
        return cls(tops.reshape(len(tops), -1), bottoms.reshape(len(bottoms), -1))

    def __len__(self) -> int:
        return len(self.tops)

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(np.hstack([self.tops, other.tops]), np.hstack([self.bottoms, other.bottoms]))

    def __neg__(self) -> Estimate:
        return Estimate(-self.tops, self.bottoms)

    def __truediv__(self, count: float) -> Estimate:
        return Estimate(self.tops / count, self.bottoms)

    @property
    def value(self) -> float:
        """The estimate.

        Raises:
            EstimateRefused: all weights are zero.
        """
        return float(ratios(self.tops.sum(axis=0), self.bottoms.sum(axis=0)).sum())

    @property
    def terms(self) -> Floats | None:
        """(N,) terms whose mean the estimate is; None if it is self-normalised."""
        terms: Floats = self.tops.sum(axis=1)
        return terms if (self.bottoms == 1).all() else None


def ratios(tops: Floats, bottoms: Floats) -> Floats:
    """`tops / bottoms`.

    Raises:
        EstimateRefused: a sum of weights is zero.
    """
    if not (bottoms > 0).all():
        action = "The policy plays nothing that was shown: log one that explores."
        raise EstimateRefused("all weights are zero", field="weights", value=float(bottoms.min()), action=action)
    return np.asarray(tops / bottoms)
