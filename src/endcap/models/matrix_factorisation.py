"""Matrix factorisation by alternating least squares, from the library implicit. A baseline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from endcap.data.features import Interactions
from endcap.models.collaborative import taken_matrix
from endcap.models.history import Floats, History, encode, held

MAX_HISTORY_ITEMS = 2000  # of one shopper, the newest


class Als:
    """score(u, i) = p_u · q_i for implicit feedback (Hu, Koren & Volinsky 2008); p_u is solved anew from each history.

    One thread and a fixed seed: the same data give the same factors.
    """

    def __init__(self, factors: int = 64, regularisation: float = 0.05, alpha: float = 10.0, iterations: int = 15) -> None:
        self.factors, self.regularisation, self.alpha, self.iterations = factors, regularisation, alpha, iterations
        self.item_ids: Sequence[str] = []

    def fit(self, interactions: Interactions, as_of: datetime) -> Als:
        """Factorise what was known at `as_of`."""
        known = interactions.known_at(as_of)
        self.item_ids = list(interactions.item_ids)
        self._index = {item: code for code, item in enumerate(self.item_ids)}
        self._model = _library_model(self.factors, self.regularisation, self.alpha, self.iterations)
        with one_blas_thread():
            self._model.fit(taken_matrix(known, MAX_HISTORY_ITEMS), show_progress=False)
        return self

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        """(B, I) inner products; 0 for an empty history."""
        own = held(encode(histories, self._index, now), len(self.item_ids))
        with one_blas_thread():
            users = self._model.recalculate_user(np.arange(own.shape[0]), own)
            return np.asarray(users @ self._model.item_factors.T, np.float32)


def _library_model(factors: int, regularisation: float, alpha: float, iterations: int) -> Any:
    with one_blas_thread():  # the library warns of more than one
        from implicit.cpu.als import AlternatingLeastSquares

        return AlternatingLeastSquares(
            factors=factors, regularization=regularisation, alpha=alpha, iterations=iterations, num_threads=1, random_state=42
        )


def one_blas_thread() -> Any:
    """A context in which BLAS takes one thread."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")
