"""One request under a policy: its head, the drawing from it, and what is written down of what was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from endcap.policy.drawing import Behind, Drawing, Floats
from endcap.policy.features import ItemFacts, Occasion, features
from endcap.policy.policies import Policy


@dataclass(frozen=True, slots=True, eq=False)
class Exploration:
    """How a slate is drawn: by a policy, from the `head` best candidates.

    `facts`: what learning policies may know of items; what they knew is written down. None: nobody learns.
    """

    policy: Policy
    random: np.random.Generator
    head: int
    facts: ItemFacts | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Explored:
    """The head of one request. With variety an item is worth what stands at its place without."""

    exploration: Exploration
    head: Sequence[int]  # (H,) items in the order of the model
    scores: npt.NDArray[np.float32]  # (I,)
    occasion: Occasion

    def drawing(self, behind: Behind) -> Drawing:
        """Fills places; `behind` goes on after the head."""
        chances = self.exploration.policy.weigh(self._scores(), self.known())
        return Drawing(self.head, chances, behind, self.exploration.random)

    def known(self) -> Floats:
        """(H, D) what is known of the head, as if for the first place: which place it is adds the same to all."""
        return self._features(np.array(self.head, np.int64), self._scores(), np.ones(len(self.head), np.int64))

    def note(self, items: Sequence[int]) -> list[npt.NDArray[np.float32] | None]:
        """What was known of the items of a slate, each at its place (from 1); None of each where nobody learns."""
        if self.exploration.facts is None:
            return [None] * len(items)
        order = {item: place for place, item in enumerate(self.head)}
        ranked = self._scores()
        scores = [ranked[order[item]] if item in order else float(self.scores[item]) for item in items]
        known = self._features(np.array(items, np.int64), np.array(scores), np.arange(1, len(items) + 1))
        return list(known.astype(np.float32))

    def _scores(self) -> Floats:
        scores_H: Floats = -np.sort(-self.scores[list(self.head)].astype(np.float64))
        return scores_H

    def _features(self, items_N: npt.NDArray[np.int64], scores_N: Floats, places_N: npt.NDArray[np.int64]) -> Floats:
        if self.exploration.facts is None:
            return np.zeros((len(items_N), 0))
        order = {item: place for place, item in enumerate(self.head, start=1)}
        orders_N = np.array([order.get(item, len(self.head) + 1) for item in items_N.tolist()], np.int64)
        head_H = self._scores()
        spread = (float(head_H.mean()), float(head_H.std())) if len(head_H) else (0.0, 0.0)
        return features(self.exploration.facts, self.occasion, items_N, scores_N, orders_N, places_N, *spread)
