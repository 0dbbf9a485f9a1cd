"""Item-kNN: items that the same shoppers took, by cosine. A baseline and a part of the blend; counted, not trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from scipy import sparse

from endcap.data.features import Interactions
from endcap.models.history import Floats, History, encode, held

BLOCK = 2048  # items whose likeness to all is held at once


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
        blocks = [nearest(rows, begin, self.neighbours) for begin, rows in products(matrix)]
        self.similarity = sparse.vstack(blocks, "csr") if blocks else sparse.csr_matrix(np.zeros((0, 0), np.float32))
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


def products(matrix: sparse.csr_matrix) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Rows of X'X for X (U, I), (BLOCK, I) with the first one's number: in a dense shop the whole would fill the memory."""
    columns = matrix.T.tocsr()
    for begin in range(0, columns.shape[0], BLOCK):
        yield begin, (columns[begin : begin + BLOCK] @ matrix).tocsr()


def nearest(rows: sparse.csr_matrix, first: int, neighbours: int | None) -> sparse.csr_matrix:
    """The `neighbours` largest values of each row (None: all), without the diagonal; the rows begin with number `first`."""
    own = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)) + first == rows.indices
    rows.data[own] = 0
    rows.eliminate_zeros()
    if neighbours is None:
        return rows
    columns, values, starts = [], [], [0]
    for row in range(rows.shape[0]):
        begin, end = rows.indptr[row], rows.indptr[row + 1]
        column, value = rows.indices[begin:end], rows.data[begin:end]
        if len(value) > neighbours:
            top = np.sort(np.argpartition(-value, neighbours)[:neighbours])
            column, value = column[top], value[top]
        columns.append(column)
        values.append(value)
        starts.append(starts[-1] + len(column))
    return sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), np.array(starts)), shape=rows.shape)
