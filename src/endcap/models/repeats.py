"""What a shopper already took: own purchase counts as a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from endcap.data.features import Interactions
from endcap.models.history import Floats, History, HistoryBatch, encode
from endcap.models.popularity import Popularity


class OwnCounts:
    """The shopper's own counts of target events; ties and the rest by recent popularity."""

    def __init__(self, recent_days: float = 28) -> None:
        self.recent = Popularity(recent_days)
        self.item_ids: Sequence[str] = []

    def fit(self, interactions: Interactions, as_of: datetime) -> OwnCounts:
        """Only recent popularity is learnt; the counts come from the history of the request."""
        self.recent.fit(interactions, as_of)
        self.item_ids = self.recent.item_ids
        self._index = {item: code for code, item in enumerate(self.item_ids)}
        self._targets = interactions.target_types
        return self

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        """(B, I) own count + recent popularity scaled below 1."""
        batch = encode(histories, self._index, now).of_types(self._targets)
        behind = self.recent.counts / (self.recent.counts.max(initial=0.0) + 1)
        scores: Floats = own_counts(batch, len(self.item_ids)) + behind[None, :]
        return scores


def own_counts(batch: HistoryBatch, items: int) -> Floats:
    """(B, I) how often each shopper took each item."""
    counts = np.bincount(batch.rows * items + batch.codes, minlength=batch.size * items)
    return counts.astype(np.float32).reshape(batch.size, items)
