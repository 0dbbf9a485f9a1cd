"""Requests to a shop with a candidate on part of it, made block after block, and the tallies of both arms at each look.

Shoppers, how often they come and how gladly they click and buy are those of the simulated shop, shown its ten most liked items.
Requests of a shopper go together, hours of a day differ in clicks, and errors cost clicks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from endcap.evaluation.sequential import Tally
from endcap.policy.simulator import simulate
from endcap.release.canary import Arms, share_of
from endcap.sections import SimulatedShop

Floats = npt.NDArray[np.float64]
SHOPPERS = 50_000
BATCH, BLOCK = 500, 50_000  # requests between two looks, and that are made at once
DAY, RHYTHM = 48_000, 0.2  # requests a day, and how much more is clicked at its best hour
LATENCY_MS, LATENCY_SIGMA = 30.0, 0.6
ERRORS, FALLBACKS = 0.001, 0.005


@dataclass(frozen=True, slots=True)
class Candidate:
    """What it does to the champion's rates."""

    clicks: float = 1.0
    latency: float = 1.0
    errors: float = ERRORS


CANDIDATES = {
    "equal": Candidate(),
    "worse": Candidate(clicks=0.9),
    "better": Candidate(clicks=1.05),
    "slower": Candidate(latency=1.25),
    "failing": Candidate(errors=0.01),
    "at the bar": Candidate(clicks=0.95),
}


class Shop:
    """(S,) places of the shoppers by their hash, and profiles (P, 3): how often one comes, P(click), P(purchase)."""

    def __init__(self, clicks: float, shoppers: int = SHOPPERS) -> None:
        shop = simulate(SimulatedShop(seed=7, items=600, shoppers=2000, days=1))
        liked = np.mean([shop.affinity(one) for one in shop.shoppers], axis=0)
        items = [shop.catalog["item_id"][int(item)].as_py() for item in np.argsort(-liked)[:10]]
        chances = np.stack([shop.chances(one.user_id, items) for one in shop.shoppers])
        acted = clicks * (1 - np.prod(1 - chances, axis=1))
        self.profiles = np.column_stack([[one.visits_a_day for one in shop.shoppers], acted])
        self.places = np.array([share_of(f"{number:016x}", "2") for number in range(shoppers)])

    def rates(self) -> dict[str, float]:
        """Of requests at the best hour, over the shoppers as often as they come."""
        visits = self.profiles[:, 0]
        return {name: float(visits @ self.profiles[:, i] / visits.sum()) for i, name in enumerate(("clicks", "purchases"), 1)}


class Visits:
    """The requests of one step, block after block, and the tallies of both arms at each look."""

    def __init__(
        self, shop: Shop, candidate: Candidate, share: float, rng: np.random.Generator, metrics: tuple[str, ...]
    ) -> None:
        self._rng, self._candidate, self._metrics, self.made = rng, candidate, metrics, 0
        self._profiles = shop.profiles[rng.integers(0, len(shop.profiles), len(shop.places))]
        self._often = np.cumsum(self._profiles[:, 0]) / self._profiles[:, 0].sum()
        self._with_candidate = shop.places < share
        self._requests = np.zeros(len(shop.places))
        self._totals = {name: np.zeros(len(shop.places)) for name in metrics}
        self._sums: dict[tuple[str, str], Floats] = {}

    def block(self) -> dict[str, Arms]:
        """The next requests; each field of a tally is (looks,)."""
        rng, begun = self._rng, self.made
        drawn = np.searchsorted(self._often, np.sort(rng.random(BLOCK))).clip(max=len(self._often) - 1)  # sorted: much faster
        shoppers = rng.permutation(drawn).astype(np.min_scalar_type(len(self._often)))  # small integers sort much faster, too
        order, who = np.argsort(shoppers, kind="stable"), drawn  # by shopper, and each one's requests in time
        first = np.flatnonzero(np.r_[True, who[1:] != who[:-1]])
        of_first = np.repeat(first, np.diff(np.r_[first, BLOCK]))
        earlier = self._requests[who] + np.arange(BLOCK) - of_first
        cell = self._with_candidate[who] * (BLOCK // BATCH) + order // BATCH  # (arm, look)
        common = {
            "shoppers": self._add("", "shoppers", cell, earlier == 0),
            "requests": self._add("", "requests", cell, np.ones(BLOCK)),
            "requests_squared": self._add("", "requests_squared", cell, 2 * earlier + 1),
        }
        values, found = self._values(who, begun + order), {}
        for name in self._metrics:
            value = values[name]
            running = np.cumsum(value) - value
            before = self._totals[name][who] + running - running[of_first]
            own = {
                "total": self._add(name, "total", cell, value),
                "product": self._add(name, "product", cell, before + value * (earlier + 1)),
                "total_squared": self._add(name, "total_squared", cell, value * (2 * before + value)),
            }
            champion, ours = (Tally(**{field: rows[arm] for field, rows in (common | own).items()}) for arm in (0, 1))
            found[name] = Arms(ours, champion)
            self._totals[name] += np.bincount(who, weights=value, minlength=len(self._requests))
        self._requests += np.bincount(who, minlength=len(self._requests))
        self.made += BLOCK
        return found

    def _add(self, name: str, field: str, cell: npt.NDArray[np.int64], more: npt.ArrayLike) -> Floats:
        """(2, looks) sums since the step began, by arm."""
        added = np.bincount(cell, weights=np.asarray(more, np.float64), minlength=2 * (BLOCK // BATCH)).reshape(2, -1)
        sums = self._sums.get((name, field), np.zeros((2, 1))) + np.cumsum(added, axis=1)
        self._sums[name, field] = sums[:, -1:]
        return sums

    def _values(self, who: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> dict[str, Floats]:
        rng, ours, count = self._rng, self._with_candidate[who], len(who)
        wave = (1 + RHYTHM * np.sin(2 * np.pi * at / DAY)) / (1 + RHYTHM) * np.where(ours, self._candidate.clicks, 1.0)
        works = rng.random(count) >= np.where(ours, self._candidate.errors, ERRORS)
        draw = rng.random(count)
        slow = LATENCY_MS * np.exp(LATENCY_SIGMA * rng.standard_normal(count)) * np.where(ours, self._candidate.latency, 1.0)
        return {
            "clicks": (works & (draw < wave * self._profiles[who, 1])).astype(np.float64),
            "purchases": (works & (draw < wave * self._profiles[who, 2])).astype(np.float64),
            "latency_ms": np.minimum(slow, 500.0),
            "errors": (~works).astype(np.float64),
            "fallbacks": (works & (rng.random(count) < FALLBACKS)).astype(np.float64),
        }
