"""The simulated shop with a model that errs: by kinds of items, and a little by single ones. What a slate earns is known.

Visits of a shop are the same for all policies; so are the shoppers' tastes, which stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from endcap.models.history import Floats, History
from endcap.policy.exploration import Exploration
from endcap.policy.features import ItemFacts
from endcap.policy.policies import Policy
from endcap.policy.simulator import simulate
from endcap.ranking.items import ItemTable
from endcap.recommender import Recommendation, Recommender, Request
from endcap.sections import SimulatedShop

NOW = datetime(2025, 2, 1, tzinfo=UTC)
ITEMS, SHOPPERS, DIMS = 120, 200, 32
HEAD, PLACES, BATCH = 30, 5, 100  # candidates, places, visits that are learnt from at once
KIND_ERROR, ITEM_ERROR = 2.0, 0.5  # standard deviations of what the model gets wrong, beside 1 of what it gets right


class Erring:
    """A model whose scores are those of the shopper who is asked for now: right in part."""

    def __init__(self, item_ids: Sequence[str], vectors: Floats) -> None:
        self.item_ids, self.item_vectors = item_ids, vectors
        self.scores = np.zeros(len(item_ids), np.float32)

    def score(self, histories: Sequence[History], now: datetime, surface: str = "") -> Floats:  # noqa: ARG002
        return np.repeat(self.scores[None, :], len(histories), axis=0)

    def score_parts(self, histories: Sequence[History], now: datetime, surface: str = "") -> dict[str, Floats]:
        return {"recent": self.score(histories, now, surface)}


class World:
    """One shop by its seed, with the shoppers of all `visits`."""

    def __init__(self, seed: int, visits: int) -> None:
        random = np.random.default_rng([seed, 0])
        self.shop = simulate(SimulatedShop(seed=seed, items=ITEMS, shoppers=SHOPPERS, days=1))
        rows = [row | {"available_from": None} for row in self.shop.catalog.to_pylist()]
        self.items = ItemTable.of(rows)
        shoppers = self.shop.shoppers
        often = np.array([shopper.visits_a_day for shopper in shoppers])
        self.visits = random.choice(len(shoppers), size=visits, p=often / often.sum())
        appeal_UI = np.stack([self.shop.affinity(shopper) for shopper in shoppers])
        kinds = np.unique(self.items.categories.astype(str), return_inverse=True)[1]
        wrong_I = KIND_ERROR * random.normal(size=kinds.max() + 1)[kinds] + ITEM_ERROR * random.normal(size=ITEMS)
        self._scores_UI = ((appeal_UI - appeal_UI.mean()) / appeal_UI.std() + wrong_I).astype(np.float32)
        liked_I = appeal_UI.mean(axis=0) / appeal_UI.mean()
        facts = np.column_stack([np.eye(kinds.max() + 1)[kinds], liked_I, self.items.prices / 5])
        vectors = facts @ random.normal(size=(facts.shape[1], DIMS)) + 0.3 * random.normal(size=(ITEMS, DIMS))
        self.model = Erring(list(self.items.item_ids), vectors.astype(np.float32))
        self.recommender = Recommender(self.model, self.items, repeat_surfaces=["home"])
        columns = (self.items.categories, self.items.prices, self.items.listed_from, self._scores_UI.mean(axis=0))
        self.facts = ItemFacts.of(*columns, self.model.item_vectors, str(seed))

    def show(
        self, visit: int, policy: Policy, random: np.random.Generator
    ) -> tuple[list[Recommendation], npt.NDArray[np.float64]]:
        """A slate of the recommender, and (K,) the true chance of a click at each place."""
        shopper = self.visits[visit]
        self.model.scores = self._scores_UI[shopper]
        slate = self.recommender.recommend(self._request(policy, random))
        user_id = self.shop.shoppers[shopper].user_id
        return slate, self.shop.chances(user_id, [place.item_id for place in slate])[:, 0]

    def truth(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(N, D) features of the heads of 300 visits, each at the first place, and (N,) the true chance of a click there."""
        features, chances = [], []
        for visit in range(min(300, len(self.visits))):
            shopper = self.visits[visit]
            scores_I = self._scores_UI[shopper]
            head = np.argsort(-scores_I, kind="stable")[:HEAD]
            request = self._request(_NOBODY, np.random.default_rng(0))
            explored = self.recommender.explore(iter(head.tolist()), scores_I, request)
            assert explored is not None
            features.append(explored.known())
            appeal = self.shop.affinity(self.shop.shoppers[shopper])
            chances.append(appeal[head])
        return np.concatenate(features), np.concatenate(chances)

    def _request(self, policy: Policy, random: np.random.Generator) -> Request:
        return Request(History.empty(), NOW, k=PLACES, exploration=Exploration(policy, random, HEAD, self.facts))


_NOBODY = Policy("nobody", "nobody", lambda _scores, _features: lambda open_H: open_H / open_H.sum())
