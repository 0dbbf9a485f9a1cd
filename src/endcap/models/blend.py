"""The recommender in two stages: a learnt blend of many signals retrieves, trees over a shopper's candidates rank.

score(u, i) = sum over signals s of w_s(u) x_s(u, i), where w_s(u) = W_s · context(u). The weights are
learnt in training/blending.py. The first CANDIDATES then get their order from `mix` with the second stage (models/ranker.py),
learnt in training/ranking.py. Items that nobody has taken yet get a few places further down (models/newcomers.py).
A directory holds all of it: config.json, items.parquet, *.safetensors; nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from endcap.models.content import likeness, unit
from endcap.models.history import Floats, History, HistoryBatch, Ints, encode
from endcap.models.newcomers import NewcomerPlaces
from endcap.models.ranker import Ranker
from endcap.models.ranking_features import features
from endcap.models.sequential import SequenceModel
from endcap.models.signals import (
    CONTEXT,
    DENSE,
    OWN,
    SIGNALS,
    Counts,
    OwnSignals,
    context,
    dense_signals,
    held_lately,
    own_signals,
)

if TYPE_CHECKING:
    import pandas as pd

# Before anything is learnt: repeats first, then the model, popularity behind. Rows are SIGNALS, columns CONTEXT.
START_WEIGHTS = {
    "sequence": 0.4,
    "ease_lately": 0.4,
    "collaborative_lately": 0.3,
    "recent": 0.3,
    "bought": 2.0,
    "bought_often": 1.0,
    "bought_lately": 0.3,
}


CANDIDATES = 200  # of a shopper, that the second stage ranks


def start_weights() -> Floats:
    """(S, C) the weights of a blend that has not learnt yet."""
    weights = np.zeros((len(SIGNALS), len(CONTEXT)), np.float32)
    for name, value in START_WEIGHTS.items():
        weights[SIGNALS.index(name), 0] = value
    return weights


@dataclass(eq=False)
class BlendedRecommender:
    """Scores every item of its table for any history. See `load`, `save`, `score`, `score_parts`."""

    items: pd.DataFrame  # item_id, title, category, brand, price, available_from, seen_in_training, in the vocabulary's order
    model: SequenceModel
    counts: Counts
    target_types: npt.NDArray[np.bool_]  # one flag a type code
    weights: Floats = field(default_factory=start_weights)  # (S, C)
    ranker: Ranker | None = None  # None: the first stage alone
    mix: tuple[float, float] = (1.0, 0.0)  # how the first stage's score and the ranker's weigh among candidates
    newcomers: NewcomerPlaces = NewcomerPlaces()  # noqa: RUF009 -- frozen
    config: dict[str, Any] = field(default_factory=dict)  # dataset_version, trained_until, hyper-parameters, …

    def __post_init__(self) -> None:
        self._index = {str(item): code for code, item in enumerate(self.items["item_id"])}
        self.refresh()

    def refresh(self) -> None:
        """Recompute the item vectors after the model's weights changed."""
        self.model.eval()
        with torch.inference_mode():
            self._vectors = self.model.item_vectors()
        self._text = unit(self.model.text.numpy())

    @property
    def item_ids(self) -> Sequence[str]:
        """The vocabulary: scores are in this order."""
        return list(self._index)

    @property
    def item_vectors(self) -> Floats:
        """(I, D) the items in the space of the sequential model, for likeness of items."""
        return np.asarray(self.model.answering(self._vectors).numpy())

    def score(self, histories: Sequence[History], now: datetime, surface: str = "") -> Floats:
        """(B, I) float32, finite; the higher, the sooner shown. Unknown items of a history are ignored.

        `surface` is what the slates are asked for; "": not told.
        """
        batch = encode(histories, self._index, now, surface)
        dense, own = self.signals(batch)
        return self._place(batch, self._rank(batch, dense, self._retrieve(batch, dense, own)))

    def score_parts(self, histories: Sequence[History], now: datetime, surface: str = "") -> dict[str, Floats]:
        """What each signal adds to `score`, by name, and what the later stages change: each (B, I), their sum is `score`."""
        batch = encode(histories, self._index, now, surface)
        dense, own = self.signals(batch)
        weight_BS = context(batch) @ self.weights.T
        shape = (batch.size, len(self._index))
        parts = {name: np.broadcast_to(weight_BS[:, s, None] * dense[name], shape) for s, name in enumerate(DENSE)}
        for place, name in enumerate(OWN):
            part = np.zeros(shape, np.float32)
            part[own.rows, own.codes] = own.values[:, place] * weight_BS[own.rows, len(DENSE) + place]
            parts[name] = part
        first = self._retrieve(batch, dense, own)
        ranked = self._rank(batch, dense, first)
        parts["ranker"] = ranked - first  # zeros without a second stage: the names never change
        parts["newcomers"] = self._place(batch, ranked) - ranked
        return parts

    def signals(self, batch: HistoryBatch) -> tuple[dict[str, Floats], OwnSignals]:
        """The signals before they are weighed."""
        dense = self.dense(batch)
        return dense, own_signals(batch, self.target_types, dense, self.counts)

    def dense(self, batch: HistoryBatch) -> dict[str, Floats]:
        """The signals that every item has, each (B, I) or (I,)."""
        sequence = self.model.score(batch, self._vectors)
        content = likeness(held_lately(batch, len(self._index)), self._text)
        return dense_signals(batch, self.counts, sequence, content)

    def rank_pairs(self, batch: HistoryBatch, dense: dict[str, Floats], rows: Ints, codes: Ints) -> Floats:
        """(P,) the second stage's scores of pairs, zero without one; only differences within a shopper mean anything."""
        if self.ranker is None:
            return np.zeros(len(rows), np.float32)
        return self.ranker.score(features(batch, self.target_types, self.counts.facts, rows, codes, dense))

    def _retrieve(self, batch: HistoryBatch, dense: dict[str, Floats], own: OwnSignals) -> Floats:
        """(B, I) the first stage: the weighed sum of all signals."""
        weight_BS = context(batch) @ self.weights.T
        scores = np.zeros((batch.size, len(self._index)), np.float32)
        for place, name in enumerate(DENSE):
            scores += weight_BS[:, place, None] * dense[name]
        scores[own.rows, own.codes] += (own.values * weight_BS[own.rows, len(DENSE) :]).sum(axis=1)
        return scores

    def _rank(self, batch: HistoryBatch, dense: dict[str, Floats], first_BI: Floats) -> Floats:
        """(B, I) the second stage: each shopper's best CANDIDATES in a new order, all else behind them in the old one."""
        count = min(CANDIDATES, first_BI.shape[1])
        if self.ranker is None or not first_BI.size:
            return first_BI
        codes_BK = np.argpartition(-first_BI, count - 1, axis=1)[:, :count]
        rows = np.repeat(np.arange(batch.size), count)
        second_BK = self.rank_pairs(batch, dense, rows, codes_BK.ravel()).reshape(batch.size, count)
        kept_BK = np.take_along_axis(first_BI, codes_BK, axis=1)
        keep_place(kept_BK, second_BK, self.counts.all_time[codes_BK] == 0)
        mixed_BK = self.mix[0] * kept_BK + self.mix[1] * second_BK
        behind = mixed_BK.min(axis=1, keepdims=True) - kept_BK.min(axis=1, keepdims=True) - 1
        scores = first_BI + behind
        np.put_along_axis(scores, codes_BK, mixed_BK, axis=1)
        return np.asarray(scores, np.float32)

    def _place(self, batch: HistoryBatch, scores_BI: Floats) -> Floats:
        """(B, I) scores with the newcomers that suit each shopper best raised to their places."""
        newcomers = (self.counts.all_time == 0) & self.model.has_text.numpy()
        held_BI = np.zeros(scores_BI.shape, np.bool_)
        held_BI[batch.rows, batch.codes] = True
        return self.newcomers.give(scores_BI, held_BI, newcomers)


def keep_place(first_BK: Floats, second_BK: Floats, unseen_BK: npt.NDArray[np.bool_]) -> None:
    """Give unseen items, in place, the second score that keeps their place of the first stage among the others.

    Trees learn from what was taken: of an item that nobody has taken they know nothing.
    """
    for row in np.flatnonzero(unseen_BK.any(axis=1) & ~unseen_BK.all(axis=1)):
        unseen = unseen_BK[row]
        first, second = np.sort(first_BK[row, ~unseen]), np.sort(second_BK[row, ~unseen])
        second_BK[row, unseen] = np.interp(first_BK[row, unseen], first, second)
