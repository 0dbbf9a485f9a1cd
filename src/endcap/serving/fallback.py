"""What stands on the shelf when no model can answer: what sold most in the last days (in a shop without purchases: what was
looked at or put into the basket most). Always marked, always counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from endcap.data.events import EventLog
from endcap.errors import ServiceUnavailable
from endcap.models.history import Floats, History
from endcap.ranking.items import ItemTable
from endcap.recommender import Recommender

POLICY = "fallback-popularity"
LIMIT = 1000
_RETRY_EMPTY_SECONDS = 1.0  # a new shop should not stay empty for long
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Counts:
    """A model that scores every item by how often it sold."""

    def __init__(self, item_ids: Sequence[str], counts_I: Floats) -> None:
        self.item_ids, self.counts_I = item_ids, counts_I

    @property
    def item_vectors(self) -> Floats:
        return np.zeros((len(self.item_ids), 0), np.float32)

    def score(self, histories: Sequence[History], now: datetime, surface: str = "") -> Floats:  # noqa: ARG002
        return np.repeat(self.counts_I[None, :], len(histories), axis=0)

    def score_parts(self, histories: Sequence[History], now: datetime, surface: str = "") -> dict[str, Floats]:
        return {"recent": self.score(histories, now, surface)}


@dataclass(frozen=True, slots=True)
class _Kept:
    day: datetime
    until: float  # monotonic seconds
    recommender: Recommender


class Fallback:
    """Popularity of the last `recent_days` before a request, counted anew after `refresh_seconds` or on another day."""

    def __init__(
        self,
        log: EventLog,
        recent_days: int,
        repeat_surfaces: Sequence[str],
        refresh_seconds: float = 30,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._recent = log, timedelta(days=recent_days)
        self._repeat_surfaces, self._refresh_seconds, self._clock = repeat_surfaces, refresh_seconds, clock
        self._kept: _Kept | None = None
        self._counting = threading.Lock()

    def recommender(self, now: datetime) -> Recommender:
        """A recommender over the popular items; while the event log is away the last one counted, at worst empty."""
        with self._counting:  # one count at a time, however many shoppers wait
            day = now.replace(hour=0, minute=0, second=0, microsecond=0)
            kept = self._kept
            if kept and kept.day == day and self._clock() < kept.until:
                return kept.recommender
            try:
                fresh = self._count(now)
            except ServiceUnavailable:
                return kept.recommender if kept else self._over([], [])
            keep = self._refresh_seconds if len(fresh.items) else _RETRY_EMPTY_SECONDS
            self._kept = _Kept(day, self._clock() + keep, fresh)
            return fresh

    def _count(self, now: datetime) -> Recommender:
        counts = self._log.recent_popularity(now - self._recent, now, LIMIT)
        if not counts:  # a quiet shop: better what ever sold than nothing
            counts = self._log.recent_popularity(_EPOCH, now, LIMIT)
        rows = self._log.read_catalog().select(["item_id", "title", "category", "brand", "price"]).to_pylist()
        return self._over(rows, counts)

    def _over(self, rows: Sequence[dict[str, Any]], counts: Sequence[tuple[str, int]]) -> Recommender:
        items = ItemTable.of(rows, [item for item, _ in counts])
        model = _Counts(items.item_ids, np.array([count for _, count in counts], dtype=np.float32))
        return Recommender(model, items, self._repeat_surfaces)
