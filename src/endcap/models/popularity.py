"""Popularity, of all time or of the last days: the simplest baseline, the fallback, and what stands behind every shelf."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from endcap.data.features import Interactions, to_microseconds
from endcap.models.history import MICROSECONDS_PER_DAY, Floats, History


class Popularity:
    """Counts of target events (purchases, where the shop has them) per item; `days` None: since the beginning."""

    def __init__(self, days: float | None = None) -> None:
        self.days = days
        self.item_ids: Sequence[str] = []
        self.counts = np.zeros(0, np.float32)  # (I,)

    def fit(self, interactions: Interactions, as_of: datetime) -> Popularity:
        """Count what was known at `as_of`."""
        known = interactions.known_at(as_of).targets()
        if self.days is not None:
            known = known.where(known.times_us >= to_microseconds(as_of) - int(self.days * MICROSECONDS_PER_DAY))
        self.item_ids = list(interactions.item_ids)
        self.counts = np.bincount(known.items, minlength=len(self.item_ids)).astype(np.float32)
        return self

    def score(self, histories: Sequence[History], now: datetime) -> Floats:  # noqa: ARG002 -- the interface of scorers
        """(B, I) the same counts for everybody."""
        return np.repeat(self.counts[None, :], len(histories), axis=0)
