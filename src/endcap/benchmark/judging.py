"""Rank all items for every case and say how good that was, per user, without a loop over users.

`rank` is all that needs the scorer; everything else is computed from its slates, which are small enough to keep.
Shapes: U users, K places, I items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch

from endcap.benchmark.splits import Cases
from endcap.errors import TrainingError
from endcap.evaluation.metrics import coverage, gini, mrr_at_k, ndcg_at_k, novelty, recall_at_k, top_k
from endcap.models.history import Scorer

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
CUTS = (5, 10, 20)
PLACES = max(CUTS)
BATCH_NUMBERS = 8_000_000  # users × items that are scored at once
LENGTHS = ((0, "0"), (1, "1"), (2, "2"), (3, "3-4"), (5, "5-9"), (10, "10+"))  # first length of each group


def rank(
    scorer: Scorer, cases: Cases, item_ids: npt.NDArray[np.object_], *, mask_seen: bool = True,
    places: int = PLACES, progress: Callable[[int], None] = lambda _: None,
) -> Ints:  # fmt: skip
    """(U, K) the best items for each user, best first, ties by the lower code; -1 where nothing more can be shown.

    Codes are positions in `item_ids`. `mask_seen`: what the user had is not shown again.

    Raises:
        TrainingError: the scorer gives a score that is no number.
    """
    order = _order(scorer, item_ids)
    slates = np.full((len(cases), places), -1, np.int64)
    size = max(1, BATCH_NUMBERS // max(len(scorer.item_ids), 1))
    starts = np.searchsorted(cases.history_rows, np.arange(len(cases) + 1))
    for begin in range(0, len(cases), size):
        end = min(begin + size, len(cases))
        scores = scorer.score(cases.histories[begin:end], cases.moment)
        if not np.isfinite(scores).all():
            raise TrainingError("a score is no number", field=type(scorer).__name__, action="Lower the learning rate.")
        scores = scores[:, order] if order is not None else scores.copy()
        if mask_seen:
            a, b = starts[begin], starts[end]
            scores[cases.history_rows[a:b] - begin, cases.history_codes[a:b]] = -np.inf
        best = best_items(scores, places)
        shown = np.isfinite(np.take_along_axis(scores, best, axis=1))
        slates[begin:end, : best.shape[1]] = np.where(shown, best, -1)
        progress(end)
    return slates


def _order(scorer: Scorer, item_ids: npt.NDArray[np.object_]) -> Ints | None:
    """Where each item of the catalogue stands in the scorer's vocabulary; None: in the same place."""
    own = list(scorer.item_ids)
    if own == list(item_ids):
        return None
    index = {item: code for code, item in enumerate(own)}
    return np.array([index[item] for item in item_ids], np.int64)


def best_items(scores_BI: npt.NDArray[np.float32], places: int) -> Ints:
    """(B, min(K, I)) as evaluation.metrics.top_k, several times faster where the last place is not tied."""
    if scores_BI.shape[1] <= places + 1:
        return top_k(scores_BI, places)
    values, codes = (part.numpy() for part in torch.topk(torch.from_numpy(scores_BI), places + 1, dim=1))
    tied = values[:, places - 1] == values[:, places]  # topk takes any of the equal ones
    values, codes = values[:, :places].copy(), codes[:, :places].astype(np.int64)
    if tied.any():
        codes[tied] = top_k(scores_BI[tied], places)
        values[tied] = np.take_along_axis(scores_BI[tied], codes[tied], axis=1)
    return np.take_along_axis(codes, np.lexsort((codes, -values), axis=1), axis=1)


def measure(slates: Ints, cases: Cases, cold: npt.NDArray[np.bool_], *, mask_seen: bool = True) -> dict[str, Values]:
    """(U,) values by name: `recall@10`, `ndcg@5`, `mrr@20`, …; with `cold.` and `warm.` in front, where only the user's cold
    (warm) wanted items count, still ranked among all items; NaN for a user who wanted none.

    With `mask_seen` an item that the user had cannot be found: it does not count as wanted, unless nothing else was wanted,
    so that every user counts.
    """
    rows, codes = _findable(cases) if mask_seen else (cases.wanted_rows, cases.wanted_codes)
    values: dict[str, Values] = {}
    for prefix, kept in (("", np.ones(len(codes), np.bool_)), ("cold.", cold[codes]), ("warm.", ~cold[codes])):
        wanted = np.bincount(rows[kept], minlength=len(cases))
        hits = found(slates, rows[kept], codes[kept], len(cold))
        for k in CUTS:
            cut = {
                "recall": recall_at_k(hits[:, :k], wanted, k), "ndcg": ndcg_at_k(hits[:, :k], wanted, k),
                "mrr": mrr_at_k(hits[:, :k]),
            }  # fmt: skip
            values |= {f"{prefix}{name}@{k}": np.where(wanted > 0, value, np.nan) for name, value in cut.items()}
    return values


def found(slates: Ints, wanted_rows: Ints, wanted_codes: Ints, items: int) -> npt.NDArray[np.bool_]:
    """(U, K) which places hold what the user wanted."""
    keys = np.arange(len(slates))[:, None] * items + slates
    return np.asarray(np.isin(keys, wanted_rows * items + wanted_codes) & (slates >= 0))


def users_without_new(cases: Cases) -> int:
    """How many users wanted nothing but what they had: with `mask_seen` misses, whatever the model."""
    return len(cases) - len(np.unique(cases.wanted_rows[~_had(cases)]))


def _had(cases: Cases) -> npt.NDArray[np.bool_]:
    base = int(max(cases.wanted_codes.max(initial=0), cases.history_codes.max(initial=0))) + 1
    wanted, history = cases.wanted_rows * base + cases.wanted_codes, cases.history_rows * base + cases.history_codes
    return np.asarray(np.isin(wanted, history))


def _findable(cases: Cases) -> tuple[Ints, Ints]:
    had = _had(cases)
    some_new = np.bincount(cases.wanted_rows[~had], minlength=len(cases)) > 0
    keep = ~had | ~some_new[cases.wanted_rows]
    return cases.wanted_rows[keep], cases.wanted_codes[keep]


def beyond_accuracy(slates: Ints, takers: Ints, users: int) -> dict[str, float]:
    """Coverage, novelty and Gini of exposure at each cut; `takers` (I,) users who took each item in training."""
    facts: dict[str, float] = {}
    for k in CUTS:
        top = slates[:, :k]
        facts |= {f"coverage@{k}": coverage(top, len(takers)), f"novelty@{k}": novelty(top, takers, users)}
        facts[f"gini@{k}"] = gini(top, len(takers))
    return facts


def length_groups(cases: Cases) -> dict[str, npt.NDArray[np.bool_]]:
    """Which users (U,) fall in each group of history lengths; groups without users are left out."""
    lengths = np.bincount(cases.history_rows, minlength=len(cases))
    ends = [first for first, _ in LENGTHS[1:]]
    groups = {}
    for (first, name), end in zip(LENGTHS, [*ends, np.iinfo(np.int64).max], strict=True):
        inside = (lengths >= first) & (lengths < end)
        if inside.any():
            groups[name] = inside
    return groups


def takers_of(users: Ints, items: Ints, count: int) -> Ints:
    """(I,) how many different users took each item."""
    pairs = np.unique(users * count + items)
    return np.bincount(pairs % max(count, 1), minlength=count)


def means(values: Mapping[str, Values]) -> dict[str, float | None]:
    """The mean of each measure over the users who have it; None: nobody has."""
    return {name: float(np.nanmean(value)) if np.isfinite(value).any() else None for name, value in values.items()}
