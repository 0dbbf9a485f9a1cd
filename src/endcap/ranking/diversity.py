"""Variety in a slate: maximal marginal relevance (Carbonell and Goldstein, 1998) over what items have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from endcap.ranking.items import ItemTable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_POOL_PER_PLACE = 5  # only this many candidates a place are looked at, best first


def diversify(ranked: Sequence[int], scores_I: npt.NDArray[np.float32], items: ItemTable, k: int, weight: float) -> list[int]:
    """Choose k of `ranked` (item positions, best first): argmax of (1 - weight) * relevance - weight * nearest chosen.

    Relevance is the rank, from 1 (best) down to 0 (last of the pool), so that the scale of a model's scores does not matter.
    """
    pool = list(ranked[: max(_POOL_PER_PLACE * k, 50)])
    relevance = {item: 1 - place / len(pool) for place, item in enumerate(pool)}
    words = {item: frozenset(items.titles[item].lower().split()) for item in pool}
    nearest = dict.fromkeys(pool, 0.0)
    chosen: list[int] = []
    while pool and len(chosen) < k:
        best = max(pool, key=lambda item: ((1 - weight) * relevance[item] - weight * nearest[item], scores_I[item]))
        pool.remove(best)
        chosen.append(best)
        for item in pool:
            nearest[item] = max(nearest[item], _alike(items, words, best, item))
    return chosen


def _alike(items: ItemTable, words: dict[int, frozenset[str]], one: int, other: int) -> float:
    """0 (nothing in common) to 1: the mean of what can be compared of category, brand and shared title words (Jaccard)."""
    shared = len(words[one] & words[other]) / max(1, len(words[one] | words[other]))
    columns = (items.categories, items.brands)
    same = [float(column[one] == column[other]) for column in columns if column[one] and column[other]]
    return (shared + sum(same)) / (1 + len(same))
