"""The baselines that every model is compared with, fitted as of one moment."""

from __future__ import annotations

from datetime import datetime

from endcap.data.features import Interactions
from endcap.models.collaborative import ItemKnn
from endcap.models.history import Scorer
from endcap.models.popularity import Popularity
from endcap.models.repeats import OwnCounts

BASELINES = ("popularity", "recent_popularity", "item_knn", "own_counts")


def fit_baselines(interactions: Interactions, as_of: datetime, recent_days: float) -> dict[str, Scorer]:
    """All baselines by name, each knowing exactly what was known at `as_of`."""
    return {
        "popularity": Popularity().fit(interactions, as_of),
        "recent_popularity": Popularity(recent_days).fit(interactions, as_of),
        "item_knn": ItemKnn(neighbours=None).fit(interactions, as_of),
        "own_counts": OwnCounts(recent_days).fit(interactions, as_of),
    }
