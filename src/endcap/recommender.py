"""One request, from what a shopper did to what stands on the shelf: retrieve → rank → rerank → choose → explain. READ FIRST.

Pure: a model, an item table and a request in; a slate out. No HTTP, no database, no clock. `serving/` brings those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from endcap.contracts import EventType
from endcap.models.history import Floats, History
from endcap.policy.exploration import Exploration, Explored
from endcap.policy.features import Occasion
from endcap.ranking.business_rules import NO_RULES, Rules
from endcap.ranking.diversity import diversify
from endcap.ranking.explanation import Reason, explain
from endcap.ranking.items import Filters, ItemTable
from endcap.ranking.placing import Chooser, InOrder, Placed, Shelf

GREEDY = "greedy"  # the policy that shows the best first; deterministic, so every propensity is 1
_LOOKS = (EventType.CLICK, EventType.VIEW, EventType.CART)
_HEAD_PER_PLACE = 5  # candidates that are sorted for each place at once


class Model(Protocol):
    """What answers: `models.blend.BlendedRecommender`, or anything that scores items and can say what each part thought."""

    @property
    def item_ids(self) -> Sequence[str]: ...

    @property
    def item_vectors(self) -> Floats:
        """(I, D) where items lie; alike ones near each other."""
        ...

    def score(self, histories: Sequence[History], now: datetime, surface: str = "") -> Floats:
        """(B, I): the higher, the sooner shown on that surface; "": on any."""
        ...

    def score_parts(self, histories: Sequence[History], now: datetime, surface: str = "") -> dict[str, Floats]:
        """The parts that the score was blended from, by name, each (B, I)."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What one shopper asks for. `history` holds all that is known of them at `now`, this session included, oldest first."""

    history: History
    now: datetime
    surface: str = "home"
    k: int = 10
    filters: Filters = field(default_factory=Filters)
    hidden: frozenset[str] = frozenset()  # never shown on this page: the product looked at, what lies in the basket
    diversity: float = 0.0  # 0 best first … 1 as different as possible
    explain: bool = False
    rules: Rules = NO_RULES  # of the shelf
    shows: Mapping[str, int] = field(default_factory=dict)  # promotion → how often this slate may still lift its items
    exploration: Exploration | None = None  # None: greedy


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One place on the shelf."""

    item_id: str
    rank: int  # 1 is first
    score: float
    propensity: float  # the probability with which policy and rules put it there, given what stands above
    reasons: tuple[Reason, ...] = ()
    rule: str = ""  # of the shelf, which put it there: pinned | promoted:NAME; "": the model did
    features: Floats | None = field(default=None, compare=False)  # what policies learn from; None: they do not


class Recommender:
    """Answers requests with one model. `repeat_surfaces` may show again what the shopper already bought."""

    def __init__(self, model: Model, items: ItemTable, repeat_surfaces: Sequence[str]) -> None:
        self.model, self.items, self.repeat_surfaces = model, items, frozenset(repeat_surfaces)
        self._shelf = Shelf(NO_RULES, items)

    def recommend(self, request: Request) -> list[Recommendation]:
        """At most k recommendations, best first; fewer when fewer may be shown, none from an empty catalogue.

        Raises:
            ValueError: the model answered with scores that are no numbers.
        """
        candidates_C = self.retrieve(request)
        if not len(candidates_C):
            return []
        scores_I = self.rank(request)
        order = self.rerank(candidates_C, scores_I, request)
        explored = self.explore(order, scores_I, request)
        chooser = InOrder(order) if explored is None else explored.drawing(InOrder(order))
        slate = self.choose(chooser, candidates_C, scores_I, request)
        reasons = self.explain(slate, request)
        known = explored.note([place.item for place in slate]) if explored else [None] * len(slate)
        return [
            Recommendation(
                self.items.item_ids[place.item], rank, float(scores_I[place.item]), place.propensity, why, place.rule, features
            )
            for rank, (place, why, features) in enumerate(zip(slate, reasons, known, strict=True), start=1)
        ]

    def shelf(self, rules: Rules) -> Shelf:
        """The rules over this item table. The last ones are kept: they change rarely."""
        shelf = self._shelf  # read once: another thread may meet newer rules
        if shelf.rules is not rules:
            self._shelf = shelf = Shelf(rules, self.items)
        return shelf

    def retrieve(self, request: Request) -> npt.NDArray[np.int64]:
        """(C,) positions of the listed items that may be shown. The catalogue is small enough to consider all of it."""
        allowed_I = self.items.passing(request.filters, request.now)
        unwanted = set(request.hidden) | _items_of(request.history, EventType.DISMISS)
        if request.surface not in self.repeat_surfaces:
            unwanted |= _items_of(request.history, EventType.PURCHASE)
        allowed_I[self.items.positions(unwanted)] = False
        self.shelf(request.rules).hide(allowed_I, request.surface, request.now)
        return np.flatnonzero(allowed_I)

    def rank(self, request: Request) -> Floats:
        """(I,) the model's score of every item for this shopper at this moment."""
        scores_I: Floats = self.model.score([request.history], request.now, request.surface)[0]
        if scores_I.shape != (len(self.items),) or not np.isfinite(scores_I).all():
            raise ValueError(f"the model's scores are not {len(self.items)} finite numbers: shape {scores_I.shape}")
        return scores_I

    def rerank(self, candidates_C: npt.NDArray[np.int64], scores_I: Floats, request: Request) -> Iterator[int]:
        """The candidates, best first (ties: the model's own order), k of them with more variety when the request wants it.

        Only the head is sorted before somebody asks for more, as a rule may that passes over many.
        """
        head = len(candidates_C) if request.diversity else min(_HEAD_PER_PLACE * request.k, len(candidates_C))
        ranked: list[int] = candidates_C[_best(scores_I[candidates_C], head)].tolist()
        if request.diversity:
            varied = diversify(ranked, scores_I, self.items, request.k, request.diversity)
            yield from varied
            ranked = [item for item in ranked if item not in varied]
        yield from ranked
        if head < len(candidates_C):
            yield from candidates_C[_best(scores_I[candidates_C], len(candidates_C))[head:]].tolist()

    def explore(self, order: Iterator[int], scores_I: Floats, request: Request) -> Explored | None:
        """Takes from the order the head that a policy draws from; None: the request is greedy."""
        if request.exploration is None:
            return None
        head_H = list(islice(order, request.exploration.head))
        bought = _items_of(request.history, EventType.PURCHASE)
        seen = {item for kind in _LOOKS for item in _items_of(request.history, kind)} - bought
        of_items = (frozenset(self.items.positions(some)) for some in (bought, seen))
        return Explored(request.exploration, head_H, scores_I, Occasion(request.now.timestamp(), request.surface, *of_items))

    def choose(self, chooser: Chooser, candidates_C: npt.NDArray[np.int64], scores_I: Floats, request: Request) -> list[Placed]:
        """Who takes each place: what rules put there, else who is chosen among those that rules allow."""
        shelf = self.shelf(request.rules)
        return shelf.fill(chooser, candidates_C, scores_I, request.k, request.surface, request.now, request.shows)

    def explain(self, slate: Sequence[Placed], request: Request) -> list[tuple[Reason, ...]]:
        """For each place the reasons a shopper would understand; empty unless asked for."""
        if not request.explain:
            return [()] * len(slate)
        shown = [place.item for place in slate]
        found = explain(self.model, self.items, request.history, request.now, shown, request.surface)
        return [(*place.reasons(), *why) for place, why in zip(slate, found, strict=True)]


def _items_of(history: History, kind: EventType) -> set[str]:
    wanted = (history.types == kind.value) & ~(history.quantities <= 0)
    return set(history.item_ids[wanted])


def _best(scores_C: Floats, wanted: int) -> npt.NDArray[np.int64]:
    """Positions of the `wanted` largest, descending, ties in order of position; only the head is sorted."""
    if wanted < len(scores_C):
        threshold = np.partition(scores_C, len(scores_C) - wanted)[len(scores_C) - wanted]
        head = np.flatnonzero(scores_C >= threshold)
    else:
        head = np.arange(len(scores_C))
    return head[np.argsort(-scores_C[head], kind="stable")][:wanted]
