"""How good probabilities are: log loss, Brier score, calibration error, and the table behind a reliability plot.

Arrays in, values out: `chances_N` are predicted probabilities, `happened_N` is 0 or 1, N predictions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from endcap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Binning = Literal["equal_mass", "equal_width"]
BINS = 10
TINY = 1e-7  # a probability is never nearer to 0 or 1 when its logarithm is taken


def log_losses(chances_N: npt.NDArray[Any], happened_N: npt.NDArray[Any]) -> Floats:
    """(N,) -log of the probability given to what happened, in nats; their mean is the log loss.

    >>> log_losses(np.array([0.5, 0.9]), np.array([1, 0])).round(4)
    array([0.6931, 2.3026])
    """
    p, y = _checked(chances_N, happened_N)
    p = np.clip(p, TINY, 1 - TINY)
    return np.asarray(-np.where(y > 0, np.log(p), np.log1p(-p)))


def brier_scores(chances_N: npt.NDArray[Any], happened_N: npt.NDArray[Any]) -> Floats:
    """(N,) squared errors; their mean is the Brier score (Brier 1950).

    >>> brier_scores(np.array([0.5, 0.9]), np.array([1, 0])).round(2)
    array([0.25, 0.81])
    """
    p, y = _checked(chances_N, happened_N)
    return np.asarray((p - y) ** 2)


def assign_bins(chances_N: npt.NDArray[Any], binning: Binning = "equal_mass", bins: int = BINS) -> npt.NDArray[np.int64]:
    """(N,) the bin of each prediction: as many in each (equal probabilities stay together), or as wide each.

    >>> assign_bins(np.array([0.1, 0.2, 0.7, 0.8]), "equal_mass", 2)
    array([0, 0, 1, 1])
    >>> assign_bins(np.array([0.1, 0.2, 0.3, 1.0]), "equal_width", 2)
    array([0, 0, 0, 1])
    """
    p = np.asarray(chances_N, np.float64)
    if binning == "equal_width":
        return np.minimum((p * bins).astype(np.int64), bins - 1)
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="inverted_cdf"))
    return np.searchsorted(edges, p, side="left")


def calibration_error(
    chances_N: npt.NDArray[Any], happened_N: npt.NDArray[Any], binning: Binning = "equal_mass", bins: int = BINS
) -> float:
    """ECE = sum over bins of (n_b / N) |mean predicted - mean happened| (Naeini et al. 2015).

    Upwards biased: see `error_by_chance`. `happened_N` may also be true probabilities, where they are known; then there is no
    such bias.

    >>> calibration_error(np.array([0.2, 0.2, 0.6, 0.6]), np.array([0, 0, 1, 0]), bins=2)
    0.15
    """
    p, y = _checked(chances_N, happened_N)
    code = assign_bins(p, binning, bins)
    gaps = np.bincount(code, weights=p - y)
    return round(float(np.abs(gaps).sum() / len(p)), 12)


def error_by_chance(
    chances_N: npt.NDArray[Any],
    happened_N: npt.NDArray[Any] | None = None,
    groups_N: npt.NDArray[Any] | None = None,
    binning: Binning = "equal_mass",
    bins: int = BINS,
) -> float:
    """The calibration error that chance alone gives a forecaster whose probabilities are all true.

    In each bin the sum of p - happened is near normal; its mean distance from 0 is sqrt(2 / pi) of its deviation. If rows are
    independent, its variance is the sum of p (1 - p). Rows of one group (a slate: who buys at all, buys several) are not: then
    it is the sum of squares of the groups' sums of happened - p, each less the bin's mean, times G / (G - 1) for G groups.

    >>> round(error_by_chance(np.full(5000, 0.5)), 4), round(error_by_chance(np.full(50, 0.5)), 4)
    (0.0056, 0.0564)
    """
    p = np.asarray(chances_N, np.float64)
    bin_N = assign_bins(p, binning, bins)
    if happened_N is None or groups_N is None:
        variances = np.bincount(bin_N, weights=p * (1 - p))
        return float(np.sqrt(2 / np.pi * variances).sum() / len(p))
    off = np.asarray(happened_N, np.float64) - p
    off -= (np.bincount(bin_N, weights=off) / np.maximum(np.bincount(bin_N), 1))[bin_N]
    _, group_N = np.unique(groups_N, return_inverse=True)
    cells, cell_N = np.unique(bin_N * (group_N.max() + 1) + group_N, return_inverse=True)
    bin_of_cell = cells // (group_N.max() + 1)
    squares = np.bincount(bin_of_cell, weights=np.bincount(cell_N, weights=off) ** 2)
    groups = np.bincount(bin_of_cell)
    unbiased = groups / np.maximum(groups - 1, 1)  # the bin's mean was taken from the same groups
    return float(np.sqrt(2 / np.pi * unbiased * squares).sum() / len(p))


def reliability(
    chances_N: npt.NDArray[Any], happened_N: npt.NDArray[Any], binning: Binning = "equal_mass", bins: int = BINS
) -> pd.DataFrame:
    """One row a bin that holds anything: predicted, happened (means), count, low, high (Wilson's 95 % of `happened`)."""
    import pandas as pd

    p, y = _checked(chances_N, happened_N)
    table = pd.DataFrame({"bin": assign_bins(p, binning, bins), "predicted": p, "happened": y})
    rows = table.groupby("bin").agg(predicted=("predicted", "mean"), happened=("happened", "mean"), count=("happened", "size"))
    low, high = wilson(rows["happened"].to_numpy(), rows["count"].to_numpy())
    return rows.assign(low=low, high=high).reset_index(drop=True)


def wilson(rates: npt.NDArray[Any], counts: npt.NDArray[Any], z: float = 1.96) -> tuple[Floats, Floats]:
    """The interval of a rate (Wilson 1927); holds for small counts and for rates of 0.

    >>> [float(side.round(4)[0]) for side in wilson(np.array([0.0]), np.array([10]))]
    [0.0, 0.2775]
    """
    spread = z * np.sqrt(rates * (1 - rates) / counts + z**2 / (4 * counts**2))
    middle, scale = rates + z**2 / (2 * counts), 1 + z**2 / counts
    return np.maximum((middle - spread) / scale, 0.0), np.minimum((middle + spread) / scale, 1.0)


def _checked(chances_N: npt.NDArray[Any], happened_N: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    p, y = np.asarray(chances_N, np.float64), np.asarray(happened_N, np.float64)
    if not len(p) or p.shape != y.shape:
        shapes = (p.shape, y.shape)
        raise InputError(
            "need one outcome for each of at least one prediction", field="chances", value=shapes, action="Align them."
        )
    if not ((p >= 0) & (p <= 1)).all():
        worst = float(p[~((p >= 0) & (p <= 1))][0])
        raise InputError("are no probabilities", field="chances", value=worst, action="Give numbers from 0 to 1.")
    return p, y
