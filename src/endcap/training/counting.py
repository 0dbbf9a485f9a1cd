"""The counted parts of the blend, as of a moment: popularity, likeness and factors of items, the shop's buying rhythm."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from endcap.data.features import Interactions
from endcap.models.collaborative import ItemKnn
from endcap.models.ease import Ease
from endcap.models.history import MICROSECONDS_PER_DAY
from endcap.models.item_facts import item_facts
from endcap.models.matrix_factorisation import Als, ItemFactors
from endcap.models.popularity import Popularity
from endcap.models.signals import Counts

NEIGHBOURS, EASE_NEIGHBOURS = 100, 200
DEFAULT_GAP_DAYS = 30.0


def count(interactions: Interactions, as_of: datetime, recent_days: float, factors: int = 0) -> Counts:
    """Count what was known at `as_of`; `factors`: numbers an item of the factorisation, 0 for none."""
    return Counts(
        all_time=Popularity().fit(interactions, as_of).counts,
        recent=Popularity(recent_days).fit(interactions, as_of).counts,
        newest=Popularity(recent_days / 4).fit(interactions, as_of).counts,
        similarity=ItemKnn(NEIGHBOURS).fit(interactions, as_of).similarity,
        ease=Ease().fit(interactions, as_of).nearest(EASE_NEIGHBOURS),
        factors=factorise(interactions, as_of, factors),
        facts=item_facts(interactions, as_of),
        typical_gap_days=typical_gap(interactions.known_at(as_of).targets()),
    )


def recount(counts: Counts, interactions: Interactions, as_of: datetime, recent_days: float) -> Counts:
    """What `counts` holds, as of another moment, with as many factors: the blend's weights expect them."""
    return count(interactions, as_of, recent_days, counts.factors.values.shape[1])


def factorise(interactions: Interactions, as_of: datetime, factors: int) -> ItemFactors:
    """The vectors of all items, by ALS."""
    if not factors:
        return ItemFactors(np.zeros((len(interactions.item_ids), 0), np.float32))
    return Als(factors).fit(interactions, as_of).item_factors


def typical_gap(known: Interactions) -> float:
    """Median days between two purchases of one item by one shopper on different days."""
    day = known.times_us // MICROSECONDS_PER_DAY
    table = np.unique(np.stack([known.users, known.items, day]), axis=1)
    same = (table[0, 1:] == table[0, :-1]) & (table[1, 1:] == table[1, :-1])
    gaps = np.diff(table[2])[same]
    return float(np.median(gaps)) if len(gaps) else DEFAULT_GAP_DAYS
