"""Comparisons of two arms that may be looked at all the time: confidence sequences of means over requests, shoppers the unit.

A confidence sequence holds the truth at all looks at once with probability 1 - α, so one may stop whenever it says enough. This
one mixes normal effects (Robbins 1970) at the estimated variance: the asymptotic confidence sequence of Waudby-Smith et al.
2024 (Annals of Statistics 52) and, read as a test, the mSPRT of Johari et al. 2022 (Operations Research 70), with the same
bound: so there is one. It needs some hundred shoppers. Not here: what follows from it (`release/canary.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from endcap.errors import InputError

Floats = npt.NDArray[np.float64]  # a number, or one a look


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over its C shoppers, each with n requests and y, the sum of a metric over them: mean and variance follow.

    Raises:
        InputError: a sum is not finite, or negative.
    """

    shoppers: Floats | float  # C
    requests: Floats | float  # Σ n
    total: Floats | float  # Σ y
    requests_squared: Floats | float  # Σ n²
    product: Floats | float  # Σ n y
    total_squared: Floats | float  # Σ y²

    def __post_init__(self) -> None:
        for one in fields(self):
            value = np.asarray(getattr(self, one.name), np.float64)
            if not (np.isfinite(value) & (value >= 0)).all():
                wrong = value[~(np.isfinite(value) & (value >= 0))].flat[0]
                action = "Give finite sums of values that are 0 or more."
                raise InputError("is no sum of such values", field=one.name, value=float(wrong), action=action)

    @classmethod
    def of(cls, values: npt.ArrayLike, shoppers: npt.NDArray[Any], ceiling: float) -> Tally:
        """Of one value a request, shape (N,), and the shopper of each; what is above `ceiling` counts as `ceiling`.

        >>> Tally.of([0.0, 1.0, 9.0], np.array(["ann", "ann", "bob"]), ceiling=5.0)
        Tally(shoppers=2.0, requests=3.0, total=6.0, requests_squared=5.0, product=7.0, total_squared=26.0)

        Raises:
            InputError: a value is NaN or negative, or values and shoppers differ in number.
        """
        values = np.asarray(values, np.float64)
        if len(values) != len(shoppers):
            action = "Give one shopper for each value."
            raise InputError("rows differ", field="values, shoppers", value=(len(values), len(shoppers)), action=action)
        if not (values >= 0).all():
            wrong = float(values[~(values >= 0)][0])
            raise InputError("is no measured value", field="values", value=wrong, action="Give values that are 0 or more.")
        _, codes = np.unique(shoppers, return_inverse=True)
        requests = np.bincount(codes).astype(np.float64)
        totals = np.bincount(codes, weights=np.minimum(values, ceiling))
        squares = (float(requests @ requests), float(requests @ totals), float(totals @ totals))
        return cls(float(len(requests)), float(requests.sum()), float(totals.sum()), *squares)

    @property
    def mean(self) -> Floats:
        """θ = Σ y / Σ n, a request's mean; NaN without requests."""
        requests = np.asarray(self.requests, np.float64)
        return np.asarray(np.divide(self.total, requests, out=np.full(requests.shape, np.nan), where=requests > 0))

    def variance(self, ceiling: float) -> Floats:
        """Of the mean: v = C / (C - 1) Σ (y - θ n)² / (Σ n)² + (ceiling / C)²; infinite with fewer than two shoppers.

        The first term is linearised, as for any ratio of sums. The second is one more shopper of average size, all at the
        ceiling: an arm without a single error so far is not one that surely never errs. It vanishes as shoppers come.

        >>> float(Tally.of([0.0, 1.0], np.array(["ann", "bob"]), 1.0).variance(1.0))  # 2 · (¼ + ¼) / 2² + (1 / 2)²
        0.5
        """
        count, mean = np.asarray(self.shoppers, np.float64), self.mean
        enough = count >= 2
        gaps = self.total_squared - 2 * mean * self.product + mean**2 * self.requests_squared
        some, requests = np.where(enough, count, 2.0), np.where(enough, self.requests, 1.0)
        found = some / (some - 1) * np.maximum(gaps, 0.0) / requests**2 + (ceiling / some) ** 2
        return np.where(enough, found, np.inf)


def multiplier(variance: Floats | float, spread: Floats | float, alpha: float) -> Floats:
    """How many standard errors to either side: k = √((1 + v/τ²) ln((1 + τ²/v) / α²)), which is where Λ = 1/α for

    Λ = √(v / (v + τ²)) exp(τ² d² / (2 v (v + τ²))), the likelihood ratio of effects drawn from N(0, τ²) against none, given the
    estimate d with variance v. Without an effect Λ is a martingale in the information 1/v, so that it ever reaches 1/α with
    probability α at most (Ville). That asks for estimates whose increments are independent, as those of efficient ones are
    (Scharfstein, Tsiatis and Robins 1997); means over requests of like shoppers come close. The `spread` τ is fixed beforehand
    and says only where the bound is tight: at effects about its own size.

    >>> round(float(multiplier(1.0, 1.0, np.sqrt(2) / np.e)), 6)  # √(2 ln(2 e² / 2)) = √4
    2.0

    Raises:
        InputError: α or τ is out of range.
    """
    if not 0 < alpha < 1:
        raise InputError("is no error rate", field="alpha", value=alpha, action="Give a number between 0 and 1.")
    if not (np.asarray(spread) > 0).all():
        raise InputError("is no spread", field="spread", value=spread, action="Give a number above 0.")
    scaled = np.square(spread) / np.asarray(variance, np.float64)
    return np.asarray(np.sqrt((1 + 1 / scaled) * np.log((1 + scaled) / alpha**2)))


def difference(candidate: Tally, champion: Tally, ceiling: float, spread: float, alpha: float) -> tuple[Floats, Floats]:
    """θ₁ - θ₀ ± k √(v₁ + v₀): lows and highs of the candidate's mean minus the champion's.

    >>> arm = Tally.of([0.0, 1.0], np.array(["ann", "bob"]), 1.0)
    >>> low, high = difference(arm, arm, 1.0, spread=1.0, alpha=np.sqrt(2) / np.e)  # v = ½ + ½ = τ², so k = 2
    >>> round(float(low), 6), round(float(high), 6)
    (-2.0, 2.0)
    """
    gap, variance = candidate.mean - champion.mean, candidate.variance(ceiling) + champion.variance(ceiling)
    known = np.isfinite(variance)
    variance = np.where(known, variance, 1.0)
    half = np.where(known, multiplier(variance, spread, alpha) * np.sqrt(variance), np.inf)
    gap = np.where(known, gap, 0.0)
    return gap - half, gap + half


def relative_difference(
    candidate: Tally, champion: Tally, ceiling: float, spread: float, alpha: float
) -> tuple[Floats, Floats]:
    """Lows and highs of θ₁ / θ₀ - 1, all ρ - 1 with |θ₁ - ρ θ₀| <= k √(v₁ + ρ² v₀) (Fieller 1954); τ = `spread` θ₀, k at ρ = 1.

    Also where the candidate has nothing at all, when a logarithm would fail. As long as the champion's mean may be 0: (-1, ∞).

    >>> arm = Tally.of(np.ones(10), np.arange(10), 1.0)  # θ = 1, v = 0 + (1 / 10)²
    >>> low, high = relative_difference(arm, arm, 1.0, spread=np.sqrt(0.02), alpha=np.sqrt(2) / np.e)
    >>> round(float(low), 6), round(float(high), 6)  # k = 2: .96 ρ² - 2 ρ + .96 <= 0, ρ = (1 ± .28) / .96
    (-0.25, 0.333333)
    """
    ours, theirs = candidate.variance(ceiling), champion.variance(ceiling)
    known = np.isfinite(ours + theirs) & (np.nan_to_num(champion.mean) > 0)
    over, under = np.where(known, candidate.mean, 1.0), np.where(known, champion.mean, 1.0)
    ours, theirs = np.where(known, ours, 1.0), np.where(known, theirs, 1.0)
    squared = np.square(multiplier(ours + theirs, spread * under, alpha))
    leading = under**2 - squared * theirs
    known &= leading > 0
    leading = np.where(known, leading, 1.0)
    root = np.sqrt(np.maximum(squared * (ours * leading + theirs * over**2), 0.0))
    low, high = (over * under - root) / leading - 1, (over * under + root) / leading - 1
    return np.where(known, np.maximum(low, -1.0), -1.0), np.where(known, high, np.inf)
