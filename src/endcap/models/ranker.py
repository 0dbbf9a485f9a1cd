"""The second stage: which of a shopper's candidates come first. LambdaMART (Burges 2010), as LightGBM builds it.

`candidates` says which pairs are ranked, `ranking_features.features` what is known of them; training/ranking.py learns it.
"""

from __future__ import annotations

from collections.abc import Iterable

import lightgbm
import numpy as np

from endcap.errors import RegistryError
from endcap.models.history import Floats, HistoryBatch, Ints
from endcap.models.ranking_features import FEATURES


class Ranker:
    """Trees over FEATURES. The same pairs get the same scores in any order and company."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self._booster = booster

    def score(self, features: Floats) -> Floats:
        """(P,) float32 of (P, len(FEATURES)): the higher, the sooner shown; only differences within a shopper mean anything."""
        if not len(features):
            return np.zeros(0, np.float32)
        return np.asarray(self._booster.predict(features, num_threads=1), np.float32)

    def gains(self) -> dict[str, float]:
        """The share of each feature in what all splits gained, by name."""
        gain = self._booster.feature_importance("gain")
        return dict(zip(FEATURES, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))

    def to_text(self) -> str:
        """LightGBM's text format; the same trees give the same text."""
        return str(self._booster.model_to_string())

    @classmethod
    def from_text(cls, text: str) -> Ranker:
        """The ranker of `to_text`.

        Raises:
            RegistryError: not such a text, or made for other features than this version computes.
        """
        try:
            booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise RegistryError(
                f"cannot be read as trees ({error})",
                field="ranker",
                value=text[:40],
                action="Download the version again, or train a new one.",
            ) from error
        names = tuple(booster.feature_name())
        if names != FEATURES:
            raise RegistryError(
                "the ranker was made for other features",
                field="ranker",
                value=sorted(set(names) ^ set(FEATURES)),
                action="Train the model again with this version of Endcap.",
            )
        return cls(booster)


def candidates(batch: HistoryBatch, dense: Iterable[Floats], items: int, top: int) -> tuple[Ints, Ints]:
    """(P,) rows and (P,) codes, distinct, ascending by row, then code: what each shopper touched, and the `top` best items of
    each dense signal that she did not. A signal is (B, I), or (I,) where it is the same for all.
    """
    own = np.unique(batch.rows * items + batch.codes)
    keys = [own]
    start = np.arange(batch.size)[:, None] * items
    count = min(top, items)
    for signal in dense:
        values = np.broadcast_to(signal, (batch.size, items)).copy()
        values.reshape(-1)[own] = -np.inf
        best = np.argpartition(-values, count - 1, axis=1)[:, :count] if count else np.zeros((batch.size, 0), np.int64)
        keys.append((start + best).ravel())
    pairs = np.unique(np.concatenate(keys))
    return pairs // max(items, 1), pairs % max(items, 1)
