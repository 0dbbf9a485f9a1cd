"""A simulated shop after its history: shoppers come, are shown slates and answer, and the true probabilities are written down.

For experiments that need exposures whose truth is known. Not here: how a slate is chosen; that is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from endcap.contracts import EventType, Surface
from endcap.models.history import History

if TYPE_CHECKING:
    import pandas as pd

    from endcap.policy.simulator import Shopper, SimulatedShop

Choice = tuple[str, float, float]  # item id, score, propensity
Chooser = Callable[[History, datetime, str, np.random.Generator], Sequence[Choice]]
NAMED = 0.8  # share of events that name the request they answer; the others are found by shopper, item and time
SURFACES = tuple(str(surface) for surface in Surface)
SURFACE_SHARES = (0.5, 0.2, 0.2, 0.1)


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """What was logged (exposure_schema and event columns, raw user ids), and what is true of each exposure."""

    exposures: pd.DataFrame
    events: pd.DataFrame
    truth: pd.DataFrame  # request_id, rank, click, purchase: probabilities


@dataclass(eq=False)
class Storefront:
    """The shop from `start` on. `histories`: past events by raw user id (dicts as in an event log), which grow."""

    shop: SimulatedShop
    choose: Chooser
    start: datetime
    seed: int
    histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def live(self, days: int) -> Visits:
        """Open for so many days. Once a day tastes drift; each visit is one slate on one surface."""
        import pandas as pd

        random = np.random.default_rng(self.seed)
        exposures: list[dict[str, Any]] = []
        events: list[dict[str, Any]] = []
        truth: list[dict[str, Any]] = []
        for day in range(days):
            for shopper in self.shop.shoppers:
                self.shop.drift(shopper, random)
                if random.random() >= 1 - np.exp(-shopper.visits_a_day):
                    continue
                time = self.start + timedelta(days=day, minutes=int(random.integers(8 * 60, 20 * 60)))
                shown, acts, chances = self._visit(shopper, f"request-{day}-{shopper.user_id}", time, random)
                exposures += shown
                events += acts
                truth += chances
        frames = (pd.DataFrame(rows) for rows in (exposures, events, truth))
        return Visits(*frames)

    def _visit(
        self, shopper: Shopper, request_id: str, time: datetime, random: np.random.Generator
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        surface = str(random.choice(SURFACES, p=SURFACE_SHARES))
        past = self.histories.setdefault(shopper.user_id, [])
        slate = self.choose(History.from_events(past), time, surface, random)
        items = [item for item, _, _ in slate]
        chances = self.shop.chances(shopper.user_id, items, surface)
        answers = self.shop.respond(shopper.user_id, items, random, surface)
        about = {"request_id": request_id, "user_id": shopper.user_id, "surface": surface, "time": time}
        about |= {"policy": "simulated", "model_version": "simulated", "fallback": False}
        shown = [
            {**about, "item_id": item, "rank": rank, "score": score, "propensity": propensity}
            for rank, (item, score, propensity) in enumerate(slate, start=1)
        ]
        truth = [
            {"request_id": request_id, "rank": rank, "click": click, "purchase": purchase}
            for rank, (click, purchase) in enumerate(chances.tolist(), start=1)
        ]
        acts = self._answer(shopper, list(zip(items, answers, strict=True)), request_id, time, random)
        past += sorted(acts, key=lambda act: act["time"])
        return shown, acts, truth

    def _answer(
        self,
        shopper: Shopper,
        answers: Sequence[tuple[str, str | None]],
        request_id: str,
        time: datetime,
        random: np.random.Generator,
    ) -> list[dict[str, Any]]:
        """Events of one slate: a click within minutes, a purchase within two hours of it."""
        acts: list[dict[str, Any]] = []
        for place, (item, answer) in enumerate(answers):
            if answer is None:
                continue
            clicked = time + timedelta(seconds=int(random.integers(5, 300)))
            kinds = [(EventType.CLICK, clicked)]
            if answer == "purchase":
                kinds.append((EventType.PURCHASE, clicked + timedelta(seconds=int(random.integers(60, 7200)))))
                self.shop.buy(shopper.user_id, item)
            named = request_id if random.random() < NAMED else None
            acts += [
                {
                    "event_id": f"{request_id}-{place}-{kind}", "type": str(kind), "user_id": shopper.user_id, "item_id": item,
                    "time": at, "quantity": 1.0, "request_id": named, "country": shopper.country,
                }
                for kind, at in kinds
            ]  # fmt: skip
        return acts
