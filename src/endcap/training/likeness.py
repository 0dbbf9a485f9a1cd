"""How like an item is to what a shopper took, as of a moment: EASE and item-kNN from one table of co-occurrence."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from scipy import sparse

from endcap.data.features import Interactions
from endcap.models.collaborative import nearest, taken_matrix
from endcap.models.ease import MAX_HISTORY_ITEMS, solve
from endcap.models.history import Floats, HistoryBatch, held

REGULARISATION, MAX_COLUMNS = 500.0, 15_000  # of EASE
EASE_NEIGHBOURS, NEIGHBOURS = 200, 100  # kept of each item
LATELY_DAYS = 60.0


class Likeness:
    """The dense signals LIKENESS as of a moment."""

    def __init__(self, interactions: Interactions, as_of: datetime) -> None:
        taken = taken_matrix(interactions.known_at(as_of), MAX_HISTORY_ITEMS)
        gram = (taken.T @ taken).tocsr()
        takers = gram.diagonal()
        self.ease = sparse_ease(gram, takers)
        norm = sparse.diags_array((1 / np.sqrt(np.maximum(takers, 1))).astype(np.float32))
        self.similarity = nearest((norm @ gram @ norm).tocsr(), NEIGHBOURS)

    def of(self, batch: HistoryBatch) -> dict[str, Floats]:
        """LIKENESS by name, each (B, I)."""
        items = self.ease.shape[0]
        own = held(batch, items)
        weights = np.exp(-batch.ages / LATELY_DAYS)
        lately = sparse.csr_matrix((weights, (batch.rows, batch.codes)), shape=(batch.size, items))
        near = np.asarray((own @ self.similarity).toarray(), np.float32)
        return {
            "ease": np.asarray((own @ self.ease).toarray(), np.float32),
            "ease_lately": np.asarray((lately @ self.ease).toarray(), np.float32),
            "collaborative": np.log1p(near / np.maximum(near.mean(axis=1, keepdims=True), 1e-6)),
        }


def sparse_ease(gram: sparse.csr_matrix, takers: Floats) -> sparse.csr_matrix:
    """(I, I) the EASE_NEIGHBOURS largest weights of each item."""
    columns = np.sort(np.argsort(-takers, kind="stable")[: min(MAX_COLUMNS, int((takers > 0).sum()))])
    if not len(columns):
        return gram * 0
    weights = solve(gram[columns][:, columns], REGULARISATION)
    kept = min(EASE_NEIGHBOURS, len(columns))
    best = np.sort(np.argpartition(-weights, kept - 1, axis=1)[:, :kept], axis=1)
    rows = np.repeat(columns, kept)
    values = np.take_along_axis(weights, best, axis=1).ravel()
    return sparse.csr_matrix((values, (rows, columns[best.ravel()])), shape=gram.shape)
