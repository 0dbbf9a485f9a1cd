"""Content-kNN: items whose texts are like what the shopper took last. The baseline of cold items."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from scipy import sparse

from endcap.data.features import Interactions
from endcap.models.history import Floats, History, encode


class ContentKnn:
    """score(u, i) = cosine of item i's text vector and the mean vector of the `newest` events of u."""

    def __init__(self, text_IE: Floats, newest: int = 10) -> None:
        """`text_IE` in the order of the interactions' items; zero rows are items without text."""
        self.vectors = unit(text_IE)
        self.newest = newest
        self.item_ids: Sequence[str] = []

    def fit(self, interactions: Interactions, as_of: datetime) -> ContentKnn:  # noqa: ARG002 -- the interface of baselines
        """Nothing is learnt but the vocabulary."""
        self.item_ids = list(interactions.item_ids)
        self._index = {item: code for code, item in enumerate(self.item_ids)}
        return self

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        """(B, I) cosines; 0 for an empty history and for items without text."""
        batch = encode(histories, self._index, now)
        ends = np.searchsorted(batch.rows, batch.rows, side="right")
        late = ends - np.arange(len(batch.rows)) <= self.newest
        shape = (batch.size, len(self.item_ids))
        own = sparse.csr_matrix((np.ones(int(late.sum()), np.float32), (batch.rows[late], batch.codes[late])), shape=shape)
        return likeness(own, self.vectors)


def likeness(own_BI: sparse.csr_matrix, vectors_IE: Floats) -> Floats:
    """(B, I) cosine of each item and the weighted mean of a shopper's items; `vectors_IE` have length one, or zero."""
    return np.asarray(unit(own_BI @ vectors_IE) @ vectors_IE.T, np.float32)


def unit(vectors: Floats) -> Floats:
    """Rows of length one; zero rows stay zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
