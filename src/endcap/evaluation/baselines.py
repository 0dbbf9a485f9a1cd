"""The simple counters that every model is compared with, everywhere by the same names, fitted as of one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Protocol

    from endcap.data.features import Interactions
    from endcap.models.history import Scorer

    class Counter(Protocol):
        """Learns by counting what was known at a moment."""

        def fit(self, interactions: Interactions, as_of: datetime) -> Scorer: ...


OWN_COUNTS = "own purchase counts"
BASELINES = ("popularity", "recent popularity", "item-kNN", OWN_COUNTS)


def fit_baselines(interactions: Interactions, as_of: datetime, recent_days: float) -> dict[str, Scorer]:
    """All baselines by name, each knowing exactly what was known at `as_of`."""
    from endcap.models.collaborative import ItemKnn
    from endcap.models.popularity import Popularity
    from endcap.models.repeats import OwnCounts

    counters: tuple[Counter, ...] = (Popularity(), Popularity(recent_days), ItemKnn(), OwnCounts(recent_days))
    return {name: counter.fit(interactions, as_of) for name, counter in zip(BASELINES, counters, strict=True)}
