"""How far one mix is from another, and how far apart the reference's own intervals are. Arrays in, numbers out.

A distance means nothing by itself: with ten thousand rows every difference is "significant", and a shop's weeks differ anyway.
So each distance is held against the same distance between each block of the reference and the rest of it (leave one out), and
against what chance alone would give.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

Counts = NDArray[np.float64]

CHANCE = 0.99
EMPTY_SHARE = 1e-4  # what stands for the share of an empty group


def psi(reference_K: Counts, current_K: Counts) -> float:
    """Population stability index of two vectors of counts over the same K groups: Σ (p − q) ln(p / q).

    An empty group counts as a share of 0.0001.

    >>> round(psi(np.array([50.0, 50.0]), np.array([80.0, 20.0])), 4)
    0.4159
    >>> psi(np.array([3.0, 1.0]), np.array([6.0, 2.0]))
    0.0
    """
    p, q = _shares(reference_K), _shares(current_K)
    return float(np.sum((p - q) * np.log(p / q)))


def _shares(counts_K: Counts) -> Counts:
    shares = counts_K / max(counts_K.sum(), 1.0)
    return np.where(shares == 0, EMPTY_SHARE, shares)


def mmd(kernel_II: NDArray[np.float64], p_I: Counts, q_I: Counts) -> float:
    """Maximum mean discrepancy of two weightings of the same I points: sqrt((p − q)ᵀ K (p − q)), p and q scaled to sum to one.

    Gretton et al., A Kernel Two-Sample Test, JMLR 2012; here exact, since both sides weigh one set of points.

    >>> mmd(np.eye(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]))  # sqrt(2)
    1.4142135623730951
    """
    difference_I = p_I / max(p_I.sum(), 1e-12) - q_I / max(q_I.sum(), 1e-12)
    return float(np.sqrt(max(difference_I @ kernel_II @ difference_I, 0.0)))


def gaussian_kernel(vectors_ID: NDArray[np.float32]) -> NDArray[np.float64]:
    """exp(−‖x − y‖² / 2σ²) between unit vectors; σ² is the median of ‖x − y‖² among the first 512 of them.

    >>> gaussian_kernel(np.eye(2, dtype=np.float32)).round(4).tolist()
    [[1.0, 0.6065], [0.6065, 1.0]]
    """
    squared_II = np.maximum(2.0 - 2.0 * (vectors_ID @ vectors_ID.T), 0.0)
    sample = squared_II[:512, :512]
    positive = sample[sample > 1e-6]
    width = float(np.median(positive)) if len(positive) else 1.0
    kernel_II: NDArray[np.float64] = np.exp(squared_II / np.float32(-2.0 * width)).astype(np.float64)
    return kernel_II


def leave_one_out(blocks_WK: Counts, distance: Callable[[Counts, Counts], float]) -> list[float]:
    """The distance of each block with rows from all the others together; empty with fewer than two such blocks.

    >>> leave_one_out(np.array([[5.0, 5.0], [0.0, 0.0]]), psi)
    []
    """
    filled = blocks_WK[blocks_WK.sum(axis=1) > 0]
    total_K = filled.sum(axis=0)
    return [distance(total_K - block_K, block_K) for block_K in filled] if len(filled) > 1 else []


def usual(distances: list[float]) -> float:
    """The median: one odd week, such as Easter's, neither widens nor narrows what counts as usual.

    >>> usual([0.1, 0.2, 9.0])
    0.2
    """
    return float(np.median(distances)) if distances else 0.0


def chance_psi(reference_K: Counts, current_K: Counts) -> float:
    """The psi that mere chance stays below 99 times in 100, were rows independent: χ²(K − 1) × (1/n + 1/m).

    Yurdakul and Naranjo, Statistical properties of the population stability index, 2020. Keeps small shops from false alarms.

    >>> round(chance_psi(np.full(5, 200.0), np.full(5, 25.0)), 3)
    0.119
    """
    groups = np.count_nonzero(reference_K + current_K)
    rows = 1 / max(reference_K.sum(), 1.0) + 1 / max(current_K.sum(), 1.0)
    return float(chdtri(groups - 1, 1 - CHANCE) * rows) if groups > 1 else 0.0


def chance_mmd(kernel_II: NDArray[np.float64], p_I: Counts, q_I: Counts, *, seed: int = 0, shuffles: int = 200) -> float:
    """The mmd that stays above 99 of 100 random deals of all points to the two sides (permutation)."""
    total_I = (p_I + q_I).astype(np.int64)
    rng = np.random.default_rng(seed)
    dealt_SI = rng.multivariate_hypergeometric(total_I, int(q_I.sum()), size=shuffles, method="marginals").astype(np.float64)
    difference_SI = dealt_SI / max(q_I.sum(), 1.0) - (total_I - dealt_SI) / max(p_I.sum(), 1.0)
    squared_S = np.einsum("si,si->s", difference_SI @ kernel_II, difference_SI)
    return float(np.sqrt(max(np.quantile(squared_S, CHANCE), 0.0)))
