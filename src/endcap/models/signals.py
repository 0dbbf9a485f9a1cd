"""The signals that a blend weighs: what each part says about every item for a batch of shoppers, on like scales.

Signals of counts come from arithmetic on histories and a few fitted counts; the sequential model adds its own.
Shapes: B shoppers, I items, E events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from endcap.models.history import Floats, HistoryBatch, Ints, held
from endcap.models.item_facts import ItemFacts
from endcap.models.matrix_factorisation import ItemFactors

LATELY_DAYS, SEASON_DAYS = 10.0, 80.0
HISTORY_DAYS = 28.0  # likeness "lately": an event so much older than the newest one weighs 1 / e
TAKEN_SCALE = 300.0  # of EASE and ALS, which both predict 1 for what is taken
LIKENESS = ("collaborative", "collaborative_lately", "ease", "ease_lately")
UNSEEN = ("unseen", "unseen_sequence", "unseen_content")  # of items that nobody has taken yet: the counts are silent there
DENSE = ("sequence", "content", *LIKENESS, "factors", "popular", "recent", "rising", *UNSEEN)
# Signals of items in the shopper's history. The first let a dense signal weigh otherwise there than for new items.
OWN = (
    *(f"own_{name}" for name in DENSE),
    "bought", "bought_often", "bought_lately", "bought_this_season", "days_since", "share_of_visits", "visits_since",
    "bought_again", "due", "looked_at",
)  # fmt: skip
SIGNALS = (*DENSE, *OWN)
CONTEXT = ("constant", "visits")


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What is counted, not trained, as of one moment."""

    all_time: Floats  # (I,) target events
    recent: Floats  # (I,) of the last `recent_days`
    newest: Floats  # (I,) of the last quarter of those
    similarity: sparse.csr_matrix  # (I, I) item to item, by cosine
    ease: sparse.csr_matrix  # (I, I) item to item, by EASE
    factors: ItemFactors  # by ALS; of no factors: off
    facts: ItemFacts  # what the second stage knows of each item
    typical_gap_days: float  # between two purchases of an item by one shopper


@dataclass(frozen=True, slots=True, eq=False)
class OwnSignals:
    """Signals of the P (shopper, item) pairs that a history holds; 0 for all others."""

    rows: Ints  # (P,) ascending
    codes: Ints  # (P,)
    values: Floats  # (P, len(OWN))


def dense_signals(batch: HistoryBatch, counts: Counts, sequence_BI: Floats, content_BI: Floats) -> dict[str, Floats]:
    """The signals that every item has, by name; each (B, I) or (I,)."""
    recent = log_share(counts.recent)
    sequence_BI = sequence_BI + np.float32(np.log(len(counts.all_time)))
    unseen = (counts.all_time == 0).astype(np.float32)
    return {
        "sequence": sequence_BI,
        "content": content_BI,
        **likeness_signals(batch, counts),
        "factors": factor_signal(batch, counts),
        "popular": log_share(counts.all_time),
        "recent": recent,
        "rising": log_share(counts.newest) - recent,
        "unseen": unseen,
        "unseen_sequence": unseen * np.maximum(sequence_BI, 0),  # 0: as likely as any other item
        "unseen_content": unseen * content_BI,
    }


def likeness_signals(batch: HistoryBatch, counts: Counts) -> dict[str, Floats]:
    """LIKENESS by name, each (B, I): how alike each item is to what the shopper ever took, and to what she took lately."""
    items = len(counts.all_time)
    lately = held_lately(batch, items)
    near, near_lately = spread(lately, counts.similarity)
    alike, alike_lately = spread(lately, counts.ease)
    return {
        "collaborative": relative(near),
        "collaborative_lately": relative(near_lately),
        "ease": np.log1p(TAKEN_SCALE * alike),
        "ease_lately": np.log1p(TAKEN_SCALE * alike_lately),
    }


def factor_signal(batch: HistoryBatch, counts: Counts) -> Floats:
    """How much ALS expects each item to be taken: (B, I), or (I,) zeros of a model without factors."""
    items, factors = counts.factors.values.shape
    if not factors:
        return np.zeros(items, np.float32)
    return np.asarray(np.log1p(TAKEN_SCALE * np.maximum(counts.factors.score(held(batch, items)), 0)))


def spread(lately_BI: sparse.csr_matrix, alike_II: sparse.csr_matrix) -> tuple[Floats, Floats]:
    """(B, I) twice: how alike each item is to what a shopper holds, each held item the same, and weighed by `lately`.

    Row by row over the held items alone: faster than two sparse products of the batch, and with the same sums.
    """
    ever, lately = (np.zeros(lately_BI.shape, np.float32) for _ in range(2))
    for row in range(lately_BI.shape[0]):
        held_here = slice(lately_BI.indptr[row], lately_BI.indptr[row + 1])
        weights = lately_BI.data[held_here]
        both = alike_II[lately_BI.indices[held_here]].T @ np.stack([np.ones_like(weights), weights], axis=1)
        ever[row], lately[row] = both.T
    return ever, lately


def relative(near_BI: Floats) -> Floats:
    """(B, I) log of 1 + likeness, in units of the shopper's mean likeness."""
    return np.asarray(np.log1p(near_BI / np.maximum(near_BI.mean(axis=1, keepdims=True), 1e-6)))


def held_lately(batch: HistoryBatch, items: int) -> sparse.csr_matrix:
    """(B, I) how fresh a shopper's newest event with each item is: 1 for the newest of all, less by e every HISTORY_DAYS."""
    order = np.argsort(-batch.ages, kind="stable")  # of several events with an item the last assignment, the youngest, stays
    youngest = np.full(batch.size, np.inf, np.float32)
    np.minimum.at(youngest, batch.rows, batch.ages)
    keys, last = np.unique((batch.rows * items + batch.codes)[order][::-1], return_index=True)
    newest = order[::-1][last]
    weights = np.exp((youngest[batch.rows[newest]] - batch.ages[newest]) / HISTORY_DAYS).astype(np.float32)
    return sparse.csr_matrix((weights, (keys // max(items, 1), keys % max(items, 1))), shape=(batch.size, items))


def log_share(counts: Floats) -> Floats:
    """(I,) log of the smoothed share of each item, relative to an even share.

    >>> log_share(np.array([1.0, 1.0], np.float32))
    array([0., 0.], dtype=float32)
    """
    smooth = counts + 1
    shares: Floats = np.log(smooth / smooth.mean()).astype(np.float32)
    return shares


def own_signals(batch: HistoryBatch, targets: npt.NDArray[np.bool_], dense: dict[str, Floats], counts: Counts) -> OwnSignals:
    """What the history says of each item in it; `targets` flags the type codes that count as taking it."""
    items = len(counts.all_time)
    keys, where = np.unique(batch.rows * items + batch.codes, return_inverse=True)
    rows, codes = keys // max(items, 1), keys % max(items, 1)
    size, taken = len(keys), targets[batch.types]

    def total(weight: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.bincount(where, weights=weight, minlength=size).astype(np.float64)

    youngest, oldest = np.full(size, np.inf), np.zeros(size)
    np.minimum.at(youngest, where[taken], batch.ages[taken])
    np.maximum.at(oldest, where[taken], batch.ages[taken])
    bought = np.isfinite(youngest)
    youngest = np.where(bought, youngest, 0)
    days, visits, visits_since = _visits(batch, rows, youngest)
    bought_days = np.bincount(np.unique(where[taken] * (1 << 20) + days[taken]) >> 20, minlength=size)
    # The usual interval of this item for this shopper, shrunk to the shop's; `due` is highest when as much time has passed.
    interval = (oldest - youngest + counts.typical_gap_days) / np.maximum(bought_days, 1)
    again = bought_days > 1
    columns = [np.broadcast_to(dense[name], (batch.size, items))[rows, codes] * bought for name in DENSE]
    columns += [
        bought,
        np.log1p(total(taken)),
        np.log1p(total(np.exp(-batch.ages / LATELY_DAYS) * taken)),
        np.log1p(total(np.exp(-batch.ages / SEASON_DAYS) * taken)),
        -np.log1p(youngest) * bought,
        np.log((bought_days + 0.5) / (visits + 2)) * bought,
        -np.log1p(visits_since) * bought,
        again,
        -np.abs(np.log((youngest + 1) / (interval + 1))) * again,
        np.log1p(total(np.exp(-batch.ages / LATELY_DAYS) * ~taken)),
    ]
    return OwnSignals(rows, codes, np.stack(columns, axis=1).astype(np.float32))


def _visits(batch: HistoryBatch, rows: Ints, youngest: npt.NDArray[Any]) -> tuple[Ints, Ints, Ints]:
    """The day of each event (E,); for each pair (P,) the shopper's visits (days with events), in all and since it was taken."""
    days = np.floor(batch.ages).astype(np.int64)
    visit = np.unique(batch.rows * (1 << 20) + days)  # ascending by shopper, then the newest first
    first = np.searchsorted(visit, rows << 20)
    visits = np.searchsorted(visit, (rows + 1) << 20) - first
    return days, visits, np.searchsorted(visit, (rows << 20) + np.floor(youngest).astype(np.int64)) - first


def context(batch: HistoryBatch) -> Floats:
    """(B, len(CONTEXT)) what kind of shopper this is: 1, and the logarithm of visits (days with events)."""
    pairs = np.unique(batch.rows * (1 << 20) + np.floor(batch.ages).astype(np.int64)) >> 20
    visits = np.bincount(pairs, minlength=batch.size)
    return np.stack([np.ones(batch.size), np.log1p(visits) / 3], axis=1).astype(np.float32)
