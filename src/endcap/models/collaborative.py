"""Item-kNN: items that the same shoppers took, by cosine. A baseline and a part of the blend; counted, not trained."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from scipy import sparse

from endcap.data.features import Interactions
from endcap.models.history import Floats, History, encode, held


class ItemKnn:
    """score(u, i) = sum over items j of u of cos(i, j) over the sets of shoppers; the `neighbours` nearest kept (None: all)."""

    def __init__(self, neighbours: int | None = None, max_users_items: int = 2000) -> None:
        self.neighbours, self.max_users_items = neighbours, max_users_items
        self.item_ids: Sequence[str] = []
        self.similarity = sparse.csr_matrix(np.zeros((0, 0), np.float32))  # (I, I)

    def fit(self, interactions: Interactions, as_of: datetime) -> ItemKnn:
        """Count co-occurrence in what was known at `as_of`; of a shopper the newest `max_users_items` items at most."""
        known = interactions.known_at(as_of)
        self.item_ids = list(interactions.item_ids)
        self._index = {item: code for code, item in enumerate(self.item_ids)}
        matrix = taken_matrix(known, self.max_users_items)
        norm = 1 / np.sqrt(np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1))
        matrix = (matrix @ sparse.diags_array(norm.astype(np.float32))).tocsr()
        self.similarity = nearest((matrix.T @ matrix).tocsr(), self.neighbours)
        return self

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        """(B, I) sums of cosines; 0 for an empty history."""
        batch = encode(histories, self._index, now)
        return np.asarray((held(batch, len(self.item_ids)) @ self.similarity).toarray(), np.float32)


def taken_matrix(known: Interactions, max_items: int) -> sparse.csr_matrix:
    """(U, I) ones where a shopper took an item; of very long histories only the newest `max_items` pairs."""
    users, items = known.users[::-1], known.items[::-1]
    _pairs, first = np.unique(users * len(known.item_ids) + items, return_index=True)
    first.sort()
    users, items = users[first], items[first]
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    starts = np.searchsorted(users, users)
    keep = np.arange(len(users)) - starts < max_items
    shape = (len(known.user_ids), len(known.item_ids))
    return sparse.csr_matrix((np.ones(int(keep.sum()), np.float32), (users[keep], items[keep])), shape=shape)


def nearest(similarity: sparse.csr_matrix, neighbours: int | None) -> sparse.csr_matrix:
    """Each row's `neighbours` largest values (None: all), without the diagonal."""
    similarity.setdiag(0)
    similarity.eliminate_zeros()
    if neighbours is None:
        return similarity
    columns, values, starts = [], [], [0]
    for row in range(similarity.shape[0]):
        begin, end = similarity.indptr[row], similarity.indptr[row + 1]
        column, value = similarity.indices[begin:end], similarity.data[begin:end]
        if len(value) > neighbours:
            top = np.sort(np.argpartition(-value, neighbours)[:neighbours])
            column, value = column[top], value[top]
        columns.append(column)
        values.append(value)
        starts.append(starts[-1] + len(column))
    if not columns:
        return similarity
    return sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), np.array(starts)), shape=similarity.shape)
