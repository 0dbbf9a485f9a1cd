"""Matrix factorisation by alternating least squares (ALS): a baseline and a part of the blend.

The library implicit learns the vectors of items; whoever asks for a score needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from endcap.data.features import Interactions
from endcap.models.collaborative import taken_matrix
from endcap.models.history import Floats, History, encode, held

if TYPE_CHECKING:
    from scipy import sparse

MAX_HISTORY_ITEMS = 2000  # of one shopper, the newest
REGULARISATION = 0.05
ALPHA = 10.0  # confidence in what was taken; 1 in all that was not


@dataclass(frozen=True, eq=False)
class ItemFactors:
    """The vectors of items; a shopper's is solved from what she holds. Shapes: B shoppers, I items, F factors."""

    values: Floats  # (I, F) zero rows: nobody took them; F = 0: nothing was factorised

    @cached_property
    def gram(self) -> Floats:
        """(F, F) YᵀY + λI."""
        return np.asarray(self.values.T @ self.values + REGULARISATION * np.eye(self.values.shape[1], dtype=np.float32))

    def score(self, held_BI: sparse.csr_matrix) -> Floats:
        """(B, I) p·y with p = (YᵀY + λI + Σ (α - 1) y yᵀ)⁻¹ Σ α y over the held items (Hu, Koren & Volinsky 2008, eq. 4);
        0 where nothing is held. How much of an item is held says nothing.
        """
        shoppers = np.zeros((held_BI.shape[0], self.values.shape[1]), np.float32)
        for row in np.flatnonzero(np.diff(held_BI.indptr)) if shoppers.size else ():
            own = self.values[held_BI.indices[held_BI.indptr[row] : held_BI.indptr[row + 1]]]
            shoppers[row] = np.linalg.solve(self.gram + (ALPHA - 1) * own.T @ own, ALPHA * own.sum(axis=0))
        return np.asarray(shoppers @ self.values.T)


class Als:
    """score(u, i) = p_u · q_i for implicit feedback (Hu, Koren & Volinsky 2008); p_u is solved anew from each history.

    One thread and a fixed seed: the same data give the same factors.
    """

    def __init__(
        self, factors: int = 64, regularisation: float = REGULARISATION, alpha: float = ALPHA, iterations: int = 15
    ) -> None:
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

    @property
    def item_factors(self) -> ItemFactors:
        """What remains of the fit.

        Raises:
            ValueError: fitted with another regularisation or alpha than the ones that its scores are solved with.
        """
        if (self.regularisation, self.alpha) != (REGULARISATION, ALPHA):
            raise ValueError(f"scores are solved with λ {REGULARISATION}, α {ALPHA}; got {self.regularisation}, {self.alpha}")
        return ItemFactors(np.asarray(self._model.item_factors, np.float32))

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        """(B, I) inner products; 0 for an empty history."""
        own = held(encode(histories, self._index, now), len(self.item_ids))
        with one_blas_thread():
            users = self._model.recalculate_user(np.arange(own.shape[0]), own)
            return np.asarray(users @ self._model.item_factors.T, np.float32)


def _library_model(factors: int, regularisation: float, alpha: float, iterations: int) -> Any:
    from implicit.cpu.als import AlternatingLeastSquares  # first: it brings a BLAS of its own, which a limit has to know

    with one_blas_thread():  # the library warns of more than one
        return AlternatingLeastSquares(
            factors=factors, regularization=regularisation, alpha=alpha, iterations=iterations, num_threads=1, random_state=42
        )


def one_blas_thread() -> Any:
    """A context in which BLAS takes one thread."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")
