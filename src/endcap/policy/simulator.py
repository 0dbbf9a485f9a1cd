"""A shop of simulated shoppers, deterministic by seed: where no data can be reached, and for experiments that need the truth.

Items have text, brand, category and price. A shopper has tastes over categories that drift, a favourite brand, a budget, and
buys again what was bought; the chance that a shown item is looked at falls with its position. Not here: real shops
(`data/shops.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from endcap import contracts
from endcap.data.privacy import pseudonymise_all
from endcap.sections import SimulatedShop as Settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

START = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday
CATEGORIES = {
    "kitchen": ("Kettle", "Teapot", "Cake Stand", "Mug", "Chopping Board", "Jam Jar"),
    "garden": ("Plant Pot", "Lantern", "Bird Feeder", "Watering Can", "Wind Chime", "Herb Marker"),
    "christmas": ("Bauble", "Advent Candle", "Paper Chain", "Stocking", "Reindeer Ornament", "Gift Tag"),
    "stationery": ("Notebook", "Fountain Pen", "Wrapping Paper", "Postcard Set", "Pencil Case", "Ribbon"),
    "toys": ("Wooden Train", "Doll", "Puzzle", "Skittles", "Kite", "Paint Set"),
    "bathroom": ("Soap Dish", "Hand Towel", "Bath Salt", "Laundry Bag", "Mirror", "Sponge"),
}
ADJECTIVES = (
    "Red Spotty",
    "Vintage",
    "Hand Painted",
    "Rustic",
    "Blue Stripe",
    "Enamel",
    "Retro",
    "Woodland",
    "Ivory",
    "Floral",
)
BRANDS = ("Alder & Finch", "Hearthstone", "Moorland", "Pippin", "Saltmarsh", "Thistledown")
COUNTRIES = ("United Kingdom", "France", "Germany", "EIRE")
NEW_ITEM_SHARE = 0.15  # items listed after the first day
LOOK_DECAY = 0.85  # P(look at rank r) = attention of the surface * LOOK_DECAY ** (r - 1)
ATTENTION = {"home": 1.0, "product": 0.8, "basket": 0.6, "email": 0.4}  # P(look at the first place) by surface
BUYS = 0.3  # P(purchase | likes what was looked at)


@dataclass(slots=True)
class Shopper:
    """One simulated person; `taste`, shape (C,), sums to one over categories and drifts each day."""

    user_id: str  # raw, as the shop knows it
    country: str
    taste: np.ndarray
    brand: int
    budget: float  # shop currency a visit
    visits_a_day: float
    bought: list[int] = field(default_factory=list)


class SimulatedShop:
    """The shop's whole past and shoppers that answer to slates.

    `events` and `catalog` are in the contract's schemas; `lines` are the same events as a frame with raw user ids.
    """

    name = "simulated"

    def __init__(self, settings: Settings, key: bytes = b"simulated shop") -> None:
        self._settings, self._key = settings, key
        self._random = np.random.default_rng(settings.seed)
        self.start, self.end = START, START + timedelta(days=settings.days)
        self._make_items()
        self._shoppers = {shopper.user_id: shopper for shopper in map(self._make_shopper, range(settings.shoppers))}
        self.lines = self._live()
        self.events: pa.Table = self._pseudonymous()
        self.catalog: pa.Table = self._catalog()

    def period(self, start: datetime, end: datetime) -> tuple[pa.Table, pa.Table]:
        """(events, catalogue) of start <= time < end; the catalogue holds the items listed before `end`."""
        import pyarrow.compute as pc

        times = self.events["time"]
        events = self.events.filter(pc.and_(pc.greater_equal(times, start), pc.less(times, end)))
        return events, self.catalog.filter(pc.less(self.catalog["available_from"], end))

    def respond(
        self, user_id: str, item_ids: Sequence[str], random: np.random.Generator, surface: str = "home"
    ) -> list[str | None]:
        """What a shopper does with a slate: for each item purchase, click or None (not looked at, not liked, or unknown)."""
        appeal = self.affinity(self._shoppers[user_id])
        answers: list[str | None] = []
        for position, item_id in enumerate(item_ids):
            item = self._index.get(item_id)
            looked = random.random() < ATTENTION[surface] * LOOK_DECAY**position
            if item is None or not looked:
                answers.append(None)
                continue
            draw = random.random()
            answers.append("purchase" if draw < BUYS * appeal[item] else "click" if draw < appeal[item] else None)
        return answers

    def chances(self, user_id: str, item_ids: Sequence[str], surface: str = "home") -> np.ndarray:
        """(K, 2) the truth behind `respond`: P(click or purchase) and P(purchase) at each place."""
        appeal = self.affinity(self._shoppers[user_id])
        liked = np.array([appeal[self._index[item]] if item in self._index else 0.0 for item in item_ids])
        acted = ATTENTION[surface] * LOOK_DECAY ** np.arange(len(item_ids)) * liked
        return np.stack([acted, BUYS * acted], axis=1)

    def buy(self, user_id: str, item_id: str) -> None:
        """The shopper has bought it, and likes it the more."""
        self._shoppers[user_id].bought.append(self._index[item_id])

    def drift(self, shopper: Shopper, random: np.random.Generator, season: float = 0.0) -> None:
        """A day passes over the shopper's tastes; `season` turns them to Christmas."""
        taste = 0.97 * shopper.taste + 0.03 * random.dirichlet(np.full(len(CATEGORIES), 0.4))
        taste[list(CATEGORIES).index("christmas")] += 0.1 * season
        shopper.taste = taste / taste.sum()

    def affinity(self, shopper: Shopper) -> np.ndarray:
        """The truth that experiments compare with: each item's appeal to a shopper in [0, 1], shape (I,)."""
        liking = shopper.taste[self._category] * (1 + (self._brand == shopper.brand)) * self._quality
        liking = liking * np.exp(-np.maximum(0, self._price / shopper.budget - 1))
        liking[shopper.bought] *= 3
        return np.asarray(np.clip(liking, 0, 1))

    @property
    def shoppers(self) -> list[Shopper]:
        return list(self._shoppers.values())

    def _make_items(self) -> None:
        random, count = self._random, self._settings.items
        self._category = random.integers(len(CATEGORIES), size=count)
        self._brand = random.integers(len(BRANDS), size=count)
        self._price = np.round(np.exp(random.normal(1.2, 0.8, size=count)) + 0.25, 2)
        self._quality = random.beta(1.5, 3, size=count)
        self._listed = np.where(
            random.random(count) < NEW_ITEM_SHARE, random.integers(1, max(2, self._settings.days), count), 0
        )
        kinds = list(CATEGORIES.values())
        self._titles = [
            f"{ADJECTIVES[random.integers(len(ADJECTIVES))]} {kinds[c][random.integers(len(kinds[c]))]}".upper()
            for c in self._category
        ]
        self._ids = [str(20000 + index) for index in range(count)]
        self._index = {item_id: index for index, item_id in enumerate(self._ids)}

    def _make_shopper(self, number: int) -> Shopper:
        random = self._random
        return Shopper(
            user_id=f"shopper-{number}",
            country=str(random.choice(COUNTRIES, p=[0.85, 0.05, 0.05, 0.05])),
            taste=random.dirichlet(np.full(len(CATEGORIES), 0.4)),
            brand=int(random.integers(len(BRANDS))),
            budget=float(np.exp(random.normal(1.8, 0.5))),
            visits_a_day=float(random.gamma(1.0, 0.08)),
        )

    def _live(self) -> pd.DataFrame:
        """Every shopper's visits, day by day. Tastes drift; before the shop's last weeks everybody turns to Christmas."""
        import pandas as pd

        random, rows, number = self._random, [], 0
        for day in range(self._settings.days):
            season = max(0.0, (day - 0.75 * self._settings.days) / self._settings.days)
            for shopper in self._shoppers.values():
                self.drift(shopper, random, season)
                if random.random() >= 1 - np.exp(-shopper.visits_a_day):
                    continue
                number += 1
                time = START + timedelta(days=day, minutes=int(random.integers(8 * 60, 20 * 60)))
                rows += self._visit(shopper, f"order-{number}", time, np.flatnonzero(self._listed <= day))
        return pd.DataFrame(rows).sort_values(["time", "event_id"], ignore_index=True)

    def _pseudonymous(self) -> pa.Table:
        import pyarrow as pa

        frame = self.lines.assign(request_id=None, surface=None)
        frame["user_id"] = pseudonymise_all(frame["user_id"], self._key)
        return pa.Table.from_pandas(
            frame[contracts.event_schema().names], schema=contracts.event_schema(), preserve_index=False
        )

    def _visit(self, shopper: Shopper, order: str, time: datetime, listed: np.ndarray) -> list[dict[str, object]]:
        random = self._random
        appeal = self.affinity(shopper)[listed] + 1e-6
        count = min(1 + random.poisson(3), len(listed))
        chosen = random.choice(listed, size=count, replace=False, p=appeal / appeal.sum())
        rows: list[dict[str, object]] = []
        for line, item in enumerate(chosen, start=1):
            rows.append(
                {
                    "event_id": f"{order}-{line}",
                    "type": contracts.EventType.PURCHASE.value,
                    "user_id": shopper.user_id,
                    "item_id": self._ids[item],
                    "time": time,
                    "quantity": float(random.integers(1, 7)),
                    "price": float(self._price[item]),
                    "country": shopper.country,
                }
            )
            shopper.bought.append(int(item))
        return rows

    def _catalog(self) -> pa.Table:
        import pyarrow as pa

        categories = list(CATEGORIES)
        rows = [
            {
                "item_id": self._ids[item],
                "title": self._titles[item],
                "description": f"{self._titles[item].title()} by {BRANDS[self._brand[item]]}.",
                "brand": BRANDS[self._brand[item]],
                "category": categories[self._category[item]],
                "price": float(self._price[item]),
                "available_from": START + timedelta(days=int(self._listed[item])),
                "updated_at": START + timedelta(days=int(self._listed[item])),
            }
            for item in range(self._settings.items)
        ]
        return pa.Table.from_pylist(rows, schema=contracts.catalog_schema())


def simulate(settings: Settings, key: bytes = b"simulated shop") -> SimulatedShop:
    """The shop of `params.yaml: shop.simulated`. The same settings and key give the same shop."""
    return SimulatedShop(settings, key)
