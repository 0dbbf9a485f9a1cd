"""TIFU-kNN: what the shopper and shoppers like her put into their last baskets. A strong, simple baseline for repeat buying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from scipy import sparse

from endcap.data.features import Interactions, to_microseconds
from endcap.models.history import MICROSECONDS_PER_DAY, Floats, History, encode

Ints = npt.NDArray[np.int64]
BATCH_NUMBERS = 8_000_000  # distances held at once


@dataclass(frozen=True, slots=True)
class Decay:
    """How baskets become one vector: at most `groups` groups of them, newest last."""

    groups: int = 7
    within: float = 0.9  # r_b: a basket against the next one of its group
    between: float = 0.7  # r_g: a group against the next one


class TifuKnn:
    """score(u) = α v_u + (1 - α) mean of v_w over the k users w nearest to u (Hu et al., SIGIR 2020).

    v_u = 1/G sum_g r_g^(G-g) · 1/n_g sum_b r_b^(n_g-b) x_b over the G groups of a user's baskets x_b (one a day with target
    events, 0/1); of n > m baskets the newest groups hold one more where n is no multiple of m. Nearest by Euclidean
    distance among all fitted users. A user may be her own neighbour, as histories come without names.
    """

    def __init__(self, decay: Decay = Decay(), neighbours: int = 300, alpha: float = 0.7) -> None:
        self.decay, self.neighbours, self.alpha = decay, neighbours, alpha
        self.item_ids: Sequence[str] = []

    def fit(self, interactions: Interactions, as_of: datetime) -> TifuKnn:
        """One vector a user of what was known at `as_of`."""
        known = interactions.known_at(as_of).targets()
        self.item_ids = list(interactions.item_ids)
        self._index = {item: code for code, item in enumerate(self.item_ids)}
        self._targets = interactions.target_types
        users, rows = np.unique(known.users, return_inverse=True)
        days = (to_microseconds(as_of) - known.times_us) // MICROSECONDS_PER_DAY
        self.vectors = basket_vectors(rows, known.items, -days, (len(users), len(self.item_ids)), self.decay)
        self._lengths = np.asarray(self.vectors.multiply(self.vectors).sum(axis=1)).ravel().astype(np.float32)
        return self

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        """(B, I); an empty history is answered by the users with the shortest vectors."""
        batch = encode(histories, self._index, now).of_types(self._targets)
        days = -np.floor(batch.ages).astype(np.int64)
        own = basket_vectors(batch.rows, batch.codes, days, (batch.size, len(self.item_ids)), self.decay)
        scores = self.alpha * own
        if len(self._lengths) and self.alpha < 1:
            scores = scores + (1 - self.alpha) * self._around(own)
        return np.asarray(scores.toarray(), np.float32)

    def _around(self, own: sparse.csr_matrix) -> sparse.csr_matrix:
        """(B, I) mean vector of the nearest users."""
        count = min(self.neighbours, len(self._lengths))
        step = max(1, BATCH_NUMBERS // len(self._lengths))
        near = [
            nearest_rows(own[begin : begin + step], self.vectors, self._lengths, count)
            for begin in range(0, own.shape[0], step)
        ]
        columns = np.concatenate(near) if near else np.zeros((0, count), np.int64)
        starts = np.arange(len(columns) + 1) * count
        shape = (len(columns), len(self._lengths))
        chosen = sparse.csr_matrix((np.full(columns.size, 1 / count, np.float32), columns.ravel(), starts), shape=shape)
        around: sparse.csr_matrix = (chosen @ self.vectors).tocsr()
        return around


def nearest_rows(own: sparse.csr_matrix, vectors: sparse.csr_matrix, lengths: Floats, count: int) -> Ints:
    """(B, count) the rows of `vectors` at the smallest distance from each row of `own`, in no order."""
    distance = lengths[None, :] - 2 * np.asarray(
        (own @ vectors.T).toarray(), np.float32
    )  # less |own|², which is the same for all
    if count == len(lengths):
        return np.tile(np.arange(count), (own.shape[0], 1))
    return np.argpartition(distance, count - 1, axis=1)[:, :count].astype(np.int64)


def basket_vectors(rows: Ints, codes: Ints, days: Ints, shape: tuple[int, int], decay: Decay) -> sparse.csr_matrix:
    """(R, I) the decayed mean of each row's baskets; a basket is what a row took on one day. Later days are larger."""
    if not len(rows):
        return sparse.csr_matrix(np.zeros(shape, np.float32))
    lines = np.unique(np.stack([rows, days, codes]), axis=1)  # by row, then day
    fresh = np.r_[True, (np.diff(lines[:2], axis=1) != 0).any(axis=0)]
    basket = np.cumsum(fresh) - 1  # of each line
    owner = lines[0, fresh]  # (baskets,)
    first = np.searchsorted(owner, owner)
    count = np.searchsorted(owner, owner, side="right") - first
    weights = basket_weights(np.arange(len(owner)) - first, count, decay)
    vectors = sparse.csr_matrix((weights[basket].astype(np.float32), (lines[0], lines[2])), shape=shape)
    vectors.sum_duplicates()
    return vectors


def basket_weights(place: Ints, count: Ints, decay: Decay) -> npt.NDArray[np.float64]:
    """The weight of basket number `place` (from 0, the oldest) of `count`.

    >>> basket_weights(np.array([0, 1, 2]), np.array([3, 3, 3]), Decay(groups=2, within=0.5, between=0.1)).tolist()
    [0.05, 0.125, 0.25]
    """
    groups = np.minimum(count, decay.groups)
    size, extra = count // groups, count % groups
    small = (groups - extra) * size  # baskets in groups of the smaller size, which come first
    group = np.where(place < small, place // size, groups - extra + (place - small) // (size + 1))
    length = np.where(place < small, size, size + 1)
    inside = np.where(place < small, place % size, (place - small) % (size + 1))
    weights = decay.within ** (length - 1 - inside) / length * decay.between ** (groups - 1 - group) / groups
    return np.asarray(weights, np.float64)
