"""The second stage: which of a shopper's candidates come first. LambdaMART (Burges 2010), as LightGBM builds it.

`candidates` says which pairs are ranked, `ranking_features.features` what is known of them; training/ranking.py learns it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import lightgbm
import numpy as np

from endcap.errors import RegistryError
from endcap.models.history import Floats, HistoryBatch, Ints
from endcap.models.ranking_features import FEATURES

_BETWEEN = "\n\f\n"  # groups of a text


class Ranker:
    """Groups of trees over FEATURES, grown apart and averaged. The same pairs get the same scores in any order and company."""

    def __init__(self, boosters: Sequence[lightgbm.Booster]) -> None:
        self._boosters = tuple(boosters)

    def score(self, features: Floats) -> Floats:
        """(P,) float32 of (P, len(FEATURES)): the higher, the sooner shown; only differences within a shopper mean anything."""
        if not len(features):
            return np.zeros(0, np.float32)
        scores = [np.asarray(booster.predict(features, num_threads=1)) for booster in self._boosters]
        return np.asarray(np.mean(scores, axis=0), np.float32)

    def gains(self) -> dict[str, float]:
        """The share of each feature in what all splits gained, by name."""
        gain = np.sum([booster.feature_importance("gain") for booster in self._boosters], axis=0)
        return dict(zip(FEATURES, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))

    def to_text(self) -> str:
        """LightGBM's text format, group after group; the same trees give the same text."""
        return _BETWEEN.join(str(booster.model_to_string()) for booster in self._boosters)

    @classmethod
    def from_text(cls, text: str) -> Ranker:
        """The ranker of `to_text`.

        Raises:
            RegistryError: not such a text, or made for other features than this version computes.
        """
        return cls([_read(part) for part in text.split(_BETWEEN)])


def _read(text: str) -> lightgbm.Booster:
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
    return booster


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
