"""Vectors in which every direction counts alike: PCA whitening, fitted on a catalogue once and kept with its model.

Raw sentence vectors crowd in a narrow cone, so that the cosine of any two is high and says little. Here the mean is taken off
and each principal direction is divided by its spread (Su et al. 2021, arXiv:2103.15316). Few texts do not show the spread of
384 directions: the covariance is shrunk towards a sphere as far as Ledoit and Wolf (2004) find best, so a tiny catalogue is
hardly changed. Not here: which texts (pipeline/text_stages.py), and where the result is kept (space.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from endcap.errors import TrainingError
from endcap.models.text.vector_cache import Floats

MAX_FITTED = 100_000  # rows; more do not move the estimate
MIN_FITTED = 3


@dataclass(frozen=True)
class Whitening:
    """x → unit((x − mean) projection); zero stays zero, since it stands for "no text"."""

    mean: Floats  # (E,)
    projection: Floats  # (E, D)

    def apply(self, vectors_NE: Floats) -> Floats:
        """(N, E) → (N, D) of length one.

        Raises:
            TrainingError: the vectors have another width than those it was fitted on.
        """
        if vectors_NE.shape[1] != len(self.mean):
            raise TrainingError(
                f"the whitening was fitted on vectors of {len(self.mean)} dimensions",
                field="encode.model",
                value=vectors_NE.shape[1],
                action="Keep the encoder that the parent model was trained with, or train in full.",
            )
        whitened = (vectors_NE - self.mean) @ self.projection
        whitened /= np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-9)
        whitened[~vectors_NE.any(axis=1)] = 0.0
        return np.asarray(whitened, np.float32)

    def undo(self, whitened_ND: Floats) -> Floats:
        """(N, D) → (N, E) of length one: from the mean in the direction that was whitened; zero stays zero."""
        plain = whitened_ND @ np.linalg.pinv(self.projection)
        return np.asarray(plain / np.maximum(np.linalg.norm(plain, axis=1, keepdims=True), 1e-9), np.float32)


def fit_whitening(vectors_NE: Floats, dims: int | None = None) -> Whitening | None:
    """Fit on the distinct rows that are not zero; None when there are too few. `dims` keeps the widest directions only."""
    from sklearn.covariance import ledoit_wolf

    rows = np.unique(vectors_NE[vectors_NE.any(axis=1)], axis=0)
    if len(rows) < MIN_FITTED:
        return None
    if len(rows) > MAX_FITTED:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_FITTED).astype(int)]  # sorted rows, evenly: the same every time
    mean_E = rows.mean(axis=0, dtype=np.float64)
    covariance_EE, _ = ledoit_wolf(rows - mean_E, assume_centered=True)
    spread_E, directions_EE = np.linalg.eigh(covariance_EE)
    order = np.argsort(-spread_E, kind="stable")[:dims]
    projection_ED = directions_EE[:, order] / np.sqrt(np.maximum(spread_E[order], 1e-12))
    projection_ED *= np.where(projection_ED[np.abs(projection_ED).argmax(axis=0), np.arange(len(order))] < 0, -1.0, 1.0)
    return Whitening(mean_E.astype(np.float32), np.ascontiguousarray(projection_ED, np.float32))
