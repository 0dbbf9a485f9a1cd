"""The signals that a blend weighs: what each part says about every item for a batch of shoppers, on like scales.

Signals of counts come from arithmetic on histories and a few fitted counts; the sequential model adds its own. Shapes: B shoppers,
I items, E events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from endcap.models.history import Floats, HistoryBatch

OWN_DECAYS_DAYS = (10.0, 60.0)
DENSE = ("sequence", "collaborative", "popular", "recent", "rising")
OWN = ("bought", "bought_often", "bought_lately", "bought_this_season", "days_since", "due", "looked_at")
SIGNALS = (*DENSE, *OWN)
CONTEXT = ("constant", "visits", "days_away")


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What is counted, not trained, as of one moment."""

    all_time: Floats  # (I,) target events
    recent: Floats  # (I,) of the last `recent_days`
    newest: Floats  # (I,) of the last quarter of those
    similarity: sparse.csr_matrix  # (I, I) item to item
    typical_gap_days: float  # between two purchases of an item by one shopper


@dataclass(frozen=True, slots=True, eq=False)
class OwnSignals:
    """Signals of the P (shopper, item) pairs that a history holds; 0 for all others."""

    rows: npt.NDArray[np.int64]  # (P,)
    codes: npt.NDArray[np.int64]  # (P,)
    values: Floats  # (P, len(OWN))


def dense_signals(batch: HistoryBatch, counts: Counts, sequence_BI: Floats) -> dict[str, Floats]:
    """The signals that every item has, by name; each (B, I) or (I,)."""
    shape = (batch.size, len(counts.all_time))
    own = sparse.csr_matrix((np.ones(len(batch.codes), np.float32), (batch.rows, batch.codes)), shape=shape)
    own.data[:] = 1
    near = np.asarray((own @ counts.similarity).toarray(), np.float32)
    near = np.log1p(near / np.maximum(near.mean(axis=1, keepdims=True), 1e-6))
    recent = log_share(counts.recent)
    return {
        "sequence": sequence_BI + np.float32(np.log(shape[1])),
        "collaborative": near,
        "popular": log_share(counts.all_time),
        "recent": recent,
        "rising": log_share(counts.newest) - recent,
    }


def log_share(counts: Floats) -> Floats:
    """(I,) log of the smoothed share of each item, relative to an even share.

    >>> log_share(np.array([1.0, 1.0], np.float32))
    array([0., 0.], dtype=float32)
    """
    smooth = counts + 1
    return np.log(smooth / smooth.mean()).astype(np.float32)


def own_signals(batch: HistoryBatch, targets: npt.NDArray[np.bool_], items: int, gap_days: float) -> OwnSignals:
    """What the history says of each item in it; `targets` flags the type codes that count as taking it."""
    keys, where = np.unique(batch.rows * items + batch.codes, return_inverse=True)
    taken = targets[batch.types]
    size = len(keys)

    def total(weight: npt.NDArray[np.floating]) -> Floats:
        return np.bincount(where, weights=weight, minlength=size).astype(np.float32)

    count = total(taken.astype(np.float32))
    lately, season = (total(np.exp(-batch.ages / days) * taken) for days in OWN_DECAYS_DAYS)
    youngest, oldest = np.full(size, np.inf, np.float32), np.zeros(size, np.float32)
    np.minimum.at(youngest, where[taken], batch.ages[taken])
    np.maximum.at(oldest, where[taken], batch.ages[taken])
    bought = (count > 0).astype(np.float32)
    youngest = np.where(count > 0, youngest, 0)
    # The usual interval of this item for this shopper, shrunk to the shop's; `due` is highest when as much time has passed.
    interval = (oldest - youngest + gap_days) / np.maximum(count, 1)
    due = -np.abs(np.log((youngest + 1) / (interval + 1))) * (count > 1)
    looked = total(np.exp(-batch.ages / OWN_DECAYS_DAYS[0]) * ~taken)
    values = np.stack(
        [bought, np.log1p(count), np.log1p(lately), np.log1p(season), -np.log1p(youngest) * bought, due, np.log1p(looked)],
        axis=1,
    )
    return OwnSignals(keys // max(items, 1), keys % max(items, 1), values.astype(np.float32))


def context(batch: HistoryBatch) -> Floats:
    """(B, len(CONTEXT)) what kind of shopper this is: 1, log visits (distinct days with events), log days since the last event."""
    day = np.floor(batch.ages).astype(np.int64)
    pairs = np.unique(np.stack([batch.rows, day]), axis=1)
    visits = np.bincount(pairs[0], minlength=batch.size)
    away = np.full(batch.size, 365.0)
    np.minimum.at(away, batch.rows, batch.ages)
    columns = [np.ones(batch.size), np.log1p(visits) / 3, np.log1p(away) / 6]
    return np.stack(columns, axis=1).astype(np.float32)
