"""How sure we are: paired bootstrap over shoppers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from endcap.errors import InputError
from endcap.evaluation.calibration import wilson


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its percentile interval at the stated confidence."""

    mean: float
    low: float
    high: float
    count: int


def bootstrap_mean(values: npt.NDArray[np.float64], samples: int, confidence: float, seed: int) -> Interval:
    """The mean of one value a shopper, with its interval (percentile bootstrap, Efron 1979).

    Raises:
        InputError: there is no value.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise InputError("nothing to average", field="values", value=[], action="Give at least one shopper.")
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    for sample in range(samples):  # one at a time: samples × shoppers at once would need much memory
        means[sample] = values[rng.integers(0, len(values), len(values))].mean()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high), len(values))


def clustered_bootstrap(
    values: npt.NDArray[np.float64], clusters: npt.NDArray[Any], samples: int = 1000, confidence: float = 0.95, seed: int = 1
) -> Interval:
    """The mean of all values; for its interval whole clusters (a shopper's weeks) are drawn, as they are not independent.

    mean = sum of values / number of values, over the drawn clusters. `count` is the number of clusters.

    >>> clustered_bootstrap(np.array([1.0, 1.0, 4.0]), np.array(["ann", "ann", "bob"]), samples=100).mean
    2.0

    Raises:
        InputError: there is no value.
    """
    if not len(values):
        raise InputError("nothing to average", field="values", value=[], action="Give at least one shopper.")
    _, codes = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(codes, weights=values), np.bincount(codes)
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    for sample in range(samples):
        drawn = rng.integers(0, len(sums), len(sums))
        means[sample] = sums[drawn].sum() / counts[drawn].sum()
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(np.mean(values)), float(low), float(high), len(sums))


def paired_bootstrap(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], samples: int = 1000, confidence: float = 0.95, seed: int = 1
) -> Interval:
    """The mean difference ours - theirs over the same shoppers, with its interval. `low > 0`: better with that confidence.

    Raises:
        InputError: the two differ in length, or are empty.
    """
    if len(ours) != len(theirs):
        raise InputError(
            "pairs differ in length", field="ours, theirs", value=(len(ours), len(theirs)), action="Align by shopper first."
        )
    return bootstrap_mean(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64), samples, confidence, seed)


def bootstrap_columns(
    values_UM: npt.NDArray[np.float64], samples: int = 1000, confidence: float = 0.95, seed: int = 1
) -> list[Interval]:
    """The mean of each of M measures over U shoppers, all from the same drawn shoppers; NaN: has no such measure.

    As bootstrap_mean, many measures at once: a sample is a row of counts, so that its means are one matrix product.
    A measure that nobody has: NaN with a count of 0.
    """
    have = np.isfinite(values_UM)
    both = np.concatenate([np.where(have, values_UM, 0.0), have.astype(np.float64)], axis=1)
    users, measures = values_UM.shape
    rng = np.random.default_rng(seed)
    sums = np.empty((samples, 2 * measures))
    for begin in range(0, samples, 50):  # some samples at a time: samples × shoppers at once would need much memory
        some = min(50, samples - begin)
        drawn = np.stack([np.bincount(rng.integers(0, users, users), minlength=users) for _ in range(some)])
        sums[begin : begin + some] = drawn.astype(np.float64) @ both
    counts = have.sum(axis=0)
    means = np.divide(
        sums[:, :measures], sums[:, measures:], where=sums[:, measures:] > 0, out=np.full((samples, measures), np.nan)
    )
    found = []
    tail = (1 - confidence) / 2
    for column in range(measures):
        drawn_means = means[:, column][np.isfinite(means[:, column])]
        low, high = np.quantile(drawn_means, [tail, 1 - tail]) if len(drawn_means) else (np.nan, np.nan)
        mean = both[:, column].sum() / counts[column] if counts[column] else np.nan
        low, high = np.minimum(low, mean), np.maximum(high, mean)  # where all are equal, sums differ by rounding
        found.append(Interval(float(mean), float(low), float(high), int(counts[column])))
    return found


def clustered_rate(happened: npt.NDArray[np.bool_], clusters: npt.NDArray[Any]) -> Interval:
    """How often something happened, with Wilson's 95 % interval for as many trials as these are worth.

    Trials of one cluster (a shopper's slates) are alike, so N of them are worth N / D, where D >= 1 is by how much clusters
    raise the variance of the rate (Kish 1965; Korn and Graubard 1998). Always or never: as many as there are clusters. Holds
    for few trials and for rates of 0, where a bootstrap would be certain.

    >>> round(clustered_rate(np.zeros(20, bool), np.repeat(np.arange(10), 2)).high, 4)  # 0 of 10
    0.2775
    >>> happened, shoppers = np.array([True, True, False, False]), np.array(["ann", "ann", "bob", "bob"])
    >>> round(clustered_rate(happened, shoppers).low, 4)  # D = (2 · (1² + 1²) / 4²) / (½ · ½ / 4) = 4: worth one trial
    0.0546

    Raises:
        InputError: there is no trial.
    """
    if not len(happened):
        raise InputError("nothing to average", field="happened", value=[], action="Give at least one trial.")
    _, codes = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(codes, weights=happened), np.bincount(codes)
    trials, groups = len(happened), len(counts)
    rate = float(sums.sum() / trials)
    worth = float(groups)
    if 0 < rate < 1 and groups > 1:
        clustered = groups / (groups - 1) * float(np.square(sums - rate * counts).sum()) / trials**2
        worth = trials / max(clustered / (rate * (1 - rate) / trials), 1.0)
    low, high = wilson(np.array([rate]), np.array([max(worth, 1.0)]))
    return Interval(rate, float(low[0]), float(high[0]), trials)
