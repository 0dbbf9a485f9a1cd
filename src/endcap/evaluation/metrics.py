"""Ranking metrics, computed for many shoppers at once. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def top_k(scores_BI: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """(B, min(k, I)) the codes of the highest scores, best first; equal scores go by the lower code."""
    k = min(k, scores_BI.shape[1])
    order = np.argsort(-scores_BI, axis=1, kind="stable") if k == scores_BI.shape[1] else _partial(scores_BI, k)
    return order[:, :k]


def _partial(scores_BI: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    kth = -np.partition(-scores_BI, k - 1, axis=1)[:, k - 1 : k]  # everything above the k-th value is in, ties by code
    above, equal = scores_BI > kth, scores_BI == kth
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    codes = np.nonzero(chosen)[1].reshape(len(scores_BI), k)
    order = np.argsort(-np.take_along_axis(scores_BI, codes, axis=1), axis=1, kind="stable")
    return np.take_along_axis(codes, order, axis=1)


def recall_at_k(hits_BK: Bools, wanted_B: npt.NDArray[np.int64], k: int) -> Floats:
    """hits / min(k, wanted): 1 when the slate is as good as it could be.

    >>> recall_at_k(np.array([[True, False, True]]), np.array([4]), k=3)
    array([0.66666667])
    """
    return np.asarray(hits_BK.sum(axis=1) / np.minimum(k, np.maximum(wanted_B, 1)))


def ndcg_at_k(hits_BK: Bools, wanted_B: npt.NDArray[np.int64], k: int) -> Floats:
    """sum over hits of 1 / log2(rank + 1), over the same sum for an ideal slate (Järvelin & Kekäläinen 2002, binary gains).

    >>> ndcg_at_k(np.array([[False, True]]), np.array([1]), k=2).round(4)  # 1 / log2(3)
    array([0.6309])
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    gained = (hits_BK * discounts[: hits_BK.shape[1]]).sum(axis=1)
    return np.asarray(gained / ideal[np.minimum(k, np.maximum(wanted_B, 1))])


def mrr_at_k(hits_BK: Bools) -> Floats:
    """1 / rank of the first hit, 0 without one (Voorhees 1999).

    >>> mrr_at_k(np.array([[False, True, True], [False, False, False]]))
    array([0.5, 0. ])
    """
    first = hits_BK.argmax(axis=1) if hits_BK.shape[1] else np.zeros(len(hits_BK), np.int64)
    return np.asarray(hits_BK.any(axis=1) / (first + 1.0))


def coverage(slates_BK: npt.NDArray[np.int64], items: int) -> float:
    """The share of the catalogue that appears in anybody's slate; -1 marks an empty place.

    >>> coverage(np.array([[0, 1], [1, -1]]), items=4)
    0.5
    """
    return len(np.unique(slates_BK[slates_BK >= 0])) / items


def novelty(slates_BK: npt.NDArray[np.int64], takers_I: npt.NDArray[np.int64], users: int) -> float:
    """Mean self-information of what is shown, in bits: log2((users + 1) / (takers + 1)) (Castells et al. 2015, smoothed).

    >>> novelty(np.array([[0, 1]]), takers_I=np.array([3, 0]), users=3)
    1.0
    """
    shown = slates_BK[slates_BK >= 0]
    return float(np.log2((users + 1) / (takers_I[shown] + 1)).mean()) if len(shown) else 0.0


def gini(slates_BK: npt.NDArray[np.int64], items: int) -> float:
    """How unevenly places on slates fall on items: 0 each the same, (items - 1) / items all to one.

    G = sum_i (2 i - n - 1) x_i / (n sum x), x ascending, i from 1.

    >>> gini(np.array([[0], [0]]), items=4)
    0.75
    """
    counts = np.sort(np.bincount(slates_BK[slates_BK >= 0], minlength=items))
    if not counts.sum():
        return 0.0
    return float(((2 * np.arange(1, items + 1) - items - 1) * counts).sum() / (items * counts.sum()))
