"""EASE: a linear item-to-item model with a closed form. A baseline and a part of the blend; solved, not trained."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from endcap.data.features import Interactions
from endcap.errors import TrainingError
from endcap.models.collaborative import products, taken_matrix
from endcap.models.history import Floats, History, encode, held

MAX_HISTORY_ITEMS = 2000  # of one shopper, the newest
BLOCK = 1024
REGULARISATION = 5.0  # of the mean diagonal of X'X: near the best λ of sparse and of dense shops alike (docs/experiments.md)


class Ease:
    """score(u, i) = sum over items j of u of B_ji, with B = I - P diag(1 / diag P), P = (X'X + λ I)^-1 (Steck 2019, eq. 8).

    Memory is 4 · columns² bytes twice, time columns³: so only the `max_columns` most popular items get a column, and all other
    items score 0, as an item that nobody took with another does.
    """

    def __init__(self, regularisation: float | None = None, max_columns: int = 15_000) -> None:
        """`regularisation` None: REGULARISATION times the mean number of shoppers who took an item."""
        self.regularisation, self.max_columns = regularisation, max_columns
        self.item_ids: Sequence[str] = []

    def fit(self, interactions: Interactions, as_of: datetime) -> Ease:
        """Solve for what was known at `as_of`.

        Raises:
            TrainingError: the matrix cannot be inverted.
        """
        known = interactions.known_at(as_of)
        self.item_ids = list(interactions.item_ids)
        self._index = {item: code for code, item in enumerate(self.item_ids)}
        taken = taken_matrix(known, MAX_HISTORY_ITEMS)
        popularity = np.asarray(taken.sum(axis=0)).ravel()
        self.columns = np.sort(np.argsort(-popularity, kind="stable")[: min(self.max_columns, int((popularity > 0).sum()))])
        taken = taken[:, self.columns]
        mean = float(popularity[self.columns].mean()) if len(self.columns) else 0.0
        strength = REGULARISATION * mean if self.regularisation is None else self.regularisation
        gram_JJ = np.empty((len(self.columns), len(self.columns)), np.float32)
        for begin, rows in products(taken):
            rows.toarray(out=gram_JJ[begin : begin + rows.shape[0]])
        self.weights = solve(gram_JJ, strength)
        return self

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        """(B, I) sums of weights; 0 for an empty history."""
        batch = encode(histories, self._index, now)
        own = held(batch, len(self.item_ids))
        scores = np.zeros((batch.size, len(self.item_ids)), np.float32)
        scores[:, self.columns] = own[:, self.columns] @ self.weights
        return scores

    def nearest(self, neighbours: int) -> sparse.csr_matrix:
        """(I, I) each row's largest positive weights, at most `neighbours` of them."""
        size, wide = len(self.columns), min(neighbours, len(self.columns))
        rows, columns, values = [], [], []
        for begin in range(0, size, BLOCK):
            block = self.weights[begin : begin + BLOCK]
            best = np.argpartition(-block, wide - 1, axis=1)[:, :wide]
            value = np.take_along_axis(block, best, axis=1)
            row, place = np.nonzero(value > 0)
            rows.append(self.columns[begin + row])
            columns.append(self.columns[best[row, place]])
            values.append(value[row, place])
        items = len(self.item_ids)
        if not rows:
            none = np.zeros(0, np.int64)
            return sparse.csr_matrix((none.astype(np.float32), (none, none)), shape=(items, items))
        where = (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_matrix((np.concatenate(values), where), shape=(items, items))


def solve(gram_JJ: Floats, regularisation: float) -> Floats:
    """(J, J) the weights B of EASE for X'X, in its place, by a Cholesky inverse (half the work and memory of a plain one)."""
    size = len(gram_JJ)
    if not size:
        return gram_JJ
    dense = gram_JJ.T  # symmetric: the transpose has the order that LAPACK wants
    dense[np.arange(size), np.arange(size)] += np.float32(regularisation)
    dense, failed = lapack.spotrf(dense, lower=1, overwrite_a=1, clean=0)
    if not failed:
        dense, failed = lapack.spotri(dense, lower=1, overwrite_c=1)
    if failed:
        action = "Raise the regularisation."
        raise TrainingError("EASE has no solution", field="regularisation", value=regularisation, action=action)
    for begin in range(0, size, BLOCK):  # only the lower half was computed
        end = min(begin + BLOCK, size)
        corner = np.tril(dense[begin:end, begin:end])
        dense[begin:end, begin:end] = corner + np.tril(corner, -1).T
        dense[begin:end, end:] = dense[end:, begin:end].T
    weights = dense.T  # the same values in rows
    weights /= -np.diag(dense).copy()[None, :]
    weights[np.arange(size), np.arange(size)] = 0
    return np.asarray(weights)
