"""Ways to bring a model from one week to the next, from the same first full fit."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from endcap.benchmark.updates.shop import WeeklyShop
from endcap.models.blend import BlendedRecommender
from endcap.models.history import Floats
from endcap.progress import Progress
from endcap.training.fitting import fit_full
from endcap.training.incremental import fit_update
from endcap.training.options import FitOptions

FULL, INCREMENTAL, NAIVE, FROZEN = "full", "incremental", "naive", "frozen"
STRATEGIES = {
    FULL: "trained from nothing every week",
    INCREMENTAL: "Endcap's update every week",
    NAIVE: "trained on with the new week alone: nothing replayed, neither network nor blend held to the parent's",
    FROZEN: "the first model, never touched",
}


class Stopwatch:
    """Seconds of the processor (all threads of this process) and of the clock inside a `with` block."""

    def __enter__(self) -> Self:
        self._begun = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_seconds = round(time.process_time() - self._begun[0], 2)
        self.wall_seconds = round(time.monotonic() - self._begun[1], 2)

    def facts(self) -> dict[str, float]:
        return {"cpu_seconds": self.cpu_seconds, "wall_seconds": self.wall_seconds}


@dataclass(frozen=True, slots=True, eq=False)
class Updater:
    """Fits of one shop with one seed."""

    shop: WeeklyShop
    text: Floats | None  # (I, E)
    options: FitOptions

    def first(self, until: datetime, progress: Progress) -> BlendedRecommender:
        """A full fit of all that was known at `until`."""
        return fit_full(*self._at(until), until, self.options, progress=progress).model

    def update(
        self, strategy: str, parent: BlendedRecommender, since: datetime, until: datetime, progress: Progress
    ) -> BlendedRecommender:
        """The strategy's model of the week before, brought to `until`."""
        if strategy == NAIVE:
            options = dataclasses.replace(self.options, replay_ratio=0.0, anchor=0.0)
            return fit_update(parent, *self._at(until), since, until, options, progress, hold=0.0).model
        return fit_update(parent, *self._at(until), since, until, self.options, progress).model

    def _at(self, moment: datetime) -> tuple[Any, Any, Floats]:
        shop = self.shop
        return shop.known(moment), shop.catalog(moment), shop.text(self.text, moment)
