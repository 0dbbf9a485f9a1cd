"""How sure an off-policy estimate is: a bootstrap over shoppers, and a bound that holds for any number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from endcap.errors import EstimateRefused, InputError
from endcap.evaluation.off_policy.estimate import Estimate, Floats
from endcap.evaluation.significance import Interval

BLOCK_CELLS = 5_000_000  # samples × clusters that are drawn at once


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a term of an estimate can be at most and at least; 0 lies between."""

    low: float
    high: float

    @classmethod
    def of(cls, rewards: tuple[float, float], weight: float, model: tuple[float, float] = (0.0, 0.0)) -> Bounds:
        """Of q̂(x, π) + w (r - q̂(x, a)) with r and q̂ within the given ranges and 0 <= w <= weight.

        >>> Bounds.of((0.0, 1.0), 5.0), Bounds.of((0.0, 1.0), 5.0, (0.0, 0.5))
        (Bounds(low=0.0, high=5.0), Bounds(low=-2.5, high=5.5))
        """
        low = model[0] + weight * min(rewards[0] - model[1], 0.0)
        return cls(min(low, 0.0), max(model[1] + weight * max(rewards[1] - model[0], 0.0), 0.0))

    def times(self, count: int) -> Bounds:
        """Of a sum of so many terms."""
        return Bounds(self.low * count, self.high * count)


def bootstrap(
    estimates: Mapping[str, Estimate],
    clusters: npt.NDArray[Any] | None = None,
    samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 1,
) -> dict[str, Interval]:
    """BCa intervals (Efron 1987) of estimates of the same N rows, all from the same drawn clusters (shoppers).

    A sample redoes sums and ratios: self-normalised estimates are divided anew. `count` is the number of clusters. Rewards that
    are rare and weights that are large make an estimate skew, where plain percentiles miss the truth too often.

    >>> bootstrap({"even": Estimate.mean(np.ones(4))}, np.array([1, 1, 2, 3]), samples=20)
    {'even': Interval(mean=1.0, low=1.0, high=1.0, count=3)}

    Raises:
        EstimateRefused: the weights of a sample are all zero.
    """
    names, rows = list(estimates), {len(one) for one in estimates.values()}
    if len(rows) != 1 or (clusters is not None and len(clusters) not in rows):
        action = "Give estimates of the same rows, and a cluster a row."
        raise InputError("rows differ", field="estimates", value=sorted(rows), action=action)
    parts = [array for name in names for array in (estimates[name].tops, estimates[name].bottoms)]
    sums = _cluster_sums(np.hstack(parts), clusters)
    count, rng = len(sums), np.random.default_rng(seed)
    found = []
    block = max(1, min(50, BLOCK_CELLS // count))
    for begin in range(0, samples, block):  # samples × clusters at once would need much memory
        draws = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(min(block, samples - begin))]
        found.append(np.stack(draws).astype(np.float64) @ sums)
    drawn, edges = np.vstack(found), np.cumsum([0, *(part.shape[1] for part in parts)])
    intervals = {}
    for place, name in enumerate(names):
        tops, bottoms = (drawn[:, edges[2 * place + i] : edges[2 * place + i + 1]] for i in (0, 1))
        if not (bottoms > 0).all():
            action = "So few rows bear the estimate that a resample has none: log for longer."
            raise EstimateRefused("all weights of a sample are zero", field=name, value=0, action=action)
        others = [sums[:, edges[2 * place + i] : edges[2 * place + i + 1]] for i in (0, 1)]
        value, without = estimates[name].value, _left_out(*others)
        low, high = _bca((tops / bottoms).sum(axis=1), value, without, confidence)
        intervals[name] = Interval(value, low, high, count)
    return intervals


def _bca(drawn: Floats, value: float, without: Floats, confidence: float) -> tuple[float, float]:
    """The quantiles of the drawn values at Φ(z₀ + (z₀ + z) / (1 - a (z₀ + z))): corrected for bias z₀ and skewness a."""
    from scipy.special import ndtr, ndtri

    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    bias = ndtri(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    lack = without.mean() - without
    spread = np.square(lack).sum()
    skewness = (lack**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + ndtri([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(drawn, ndtr(bias + shifted / np.maximum(1 - skewness * shifted, 0.1)))
    return float(low), float(high)


def _left_out(tops: Floats, bottoms: Floats) -> Floats:
    """(C,) the estimate without each cluster in turn; where nothing is left, that part is 0."""
    rest = bottoms.sum(axis=0) - bottoms
    parts = np.divide(tops.sum(axis=0) - tops, rest, out=np.zeros_like(rest), where=rest > 0)
    return np.asarray(parts.sum(axis=1))


def bernstein(
    estimate: Estimate, bounds: Bounds, clusters: npt.NDArray[Any] | None = None, confidence: float = 0.95
) -> Interval:
    """mean ± (√(2 V ln(4/δ) / C) + 7 R ln(4/δ) / (3 (C - 1))), empirical Bernstein (Maurer and Pontil 2009).

    V: sample variance of the C clusters' sums, scaled so that their mean is the estimate; R: what those can differ by; δ = 1 -
    confidence, half of it for either side. Holds for any C if `bounds` are true of every term, so it is wide. `count` is C.

    >>> found = bernstein(Estimate.mean(np.array([0.0, 1.0] * 50)), Bounds(0.0, 1.0), confidence=0.95)
    >>> round(found.low, 4), round(found.high, 4)
    (0.248, 0.752)

    Raises:
        InputError: the estimate is self-normalised: no mean of independent terms. Or there is one cluster.
    """
    terms = estimate.terms
    if terms is None:
        raise InputError("is no mean", field="estimate", value="self-normalised", action="Use the bootstrap.")
    sums = _cluster_sums(terms[:, None], clusters)[:, 0]
    count = len(sums)
    if count < 2:
        raise InputError("too few clusters", field="clusters", value=count, action="Give two or more.")
    largest = _cluster_sums(np.ones((len(terms), 1)), clusters).max()
    scale, wide = count / len(terms), np.log(4 / (1 - confidence))
    variance, span = scale**2 * sums.var(ddof=1), scale * largest * (bounds.high - bounds.low)
    half = float(np.sqrt(2 * variance * wide / count) + 7 * span * wide / (3 * (count - 1)))
    return Interval(estimate.value, estimate.value - half, estimate.value + half, count)


def _cluster_sums(values_NM: Floats, clusters: npt.NDArray[Any] | None) -> Floats:
    """(C, M) sums of the rows of each cluster; without clusters every row is one."""
    if clusters is None:
        return values_NM
    _, codes = np.unique(clusters, return_inverse=True)
    return np.stack([np.bincount(codes, weights=column) for column in values_NM.T], axis=1)
