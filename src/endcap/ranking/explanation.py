"""Why an item is shown, in words a shopper understands, from what each part of the model thought of each past item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from endcap.contracts import EventType
from endcap.models.history import Floats, History
from endcap.ranking.items import ItemTable

# Names of parts, see models/signals.py. What several say of one thing is added up: alone, one may speak against another.
TOGETHER = ("collaborative", "collaborative_lately", "ease", "ease_lately")
POPULAR = ("popular", "recent", "rising")
_PAST_ITEMS = 20  # the newest different items that a reason may refer to
_POPULAR_SHARE = 0.02  # of the catalogue: what may be called popular
_LIKE_SHARE = 0.01  # of the catalogue: what may be called similar to an item
_REASONS_AN_ITEM = 2


@dataclass(frozen=True, slots=True)
class Reason:
    """`kind`: repeat | together | similar | popular | taste, or of a rule: pinned | promoted.

    `item_id`: the past item it refers to, if any.
    """

    kind: str
    text: str
    item_id: str | None = None


class Explainable(Protocol):
    """A model that can say what each of its parts thought, and where items lie."""

    @property
    def item_vectors(self) -> Floats:
        """(I, D) near each other: alike. D may be 0."""
        ...

    def score_parts(self, histories: Sequence[History], now: datetime, surface: str = "") -> dict[str, Floats]: ...


def explain(
    model: Explainable, items: ItemTable, history: History, now: datetime, shown: Sequence[int], surface: str = ""
) -> list[tuple[Reason, ...]]:
    """For each shown item (a position in `items`) at most two reasons, the strongest first, never none.

    Each past item is scored as if it were all that is known of the shopper: what a part then thinks of a shown item is what
    that past item says for it.
    """
    if not shown:
        return []
    past = _newest_items(history, items)
    alone = [History.empty(), *(History([items.item_ids[item]], [now], EventType.PURCHASE.value) for item in past)]
    parts = model.score_parts(alone, now, surface)  # row 0: a stranger; row 1 + p: past item p alone
    bought = _purchases(history)
    popular, together = _popular(_sum(parts, POPULAR)), _sum(parts, TOGETHER)
    likeness_PI = _likeness(model.item_vectors, past)
    reasons = []
    for item in shown:
        count = bought.get(items.item_ids[item], 0)
        found = [_repeat(count)] if count else []
        found += _together(together, past, item, items)
        found += _similar(likeness_PI, past, item, items)
        if item in popular:
            found.append(Reason("popular", "Popular this month"))
        reasons.append(tuple(found[:_REASONS_AN_ITEM]) or (_last_resort(history),))
    return reasons


def _sum(parts: Mapping[str, Floats], names: Sequence[str]) -> Floats | None:
    """(P, I) what these parts say together; None where a model has none of them."""
    found = [parts[name] for name in names if name in parts]
    return np.asarray(np.sum(found, axis=0)) if found else None


def _newest_items(history: History, items: ItemTable) -> list[int]:
    """Positions of the newest different known items, newest first."""
    newest = dict.fromkeys(item for item in history.item_ids[::-1] if item in items.index)
    return [items.index[item] for item in newest][:_PAST_ITEMS]


def _purchases(history: History) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item, kind, quantity in zip(history.item_ids, history.types, history.quantities, strict=True):
        if kind == EventType.PURCHASE and not quantity <= 0:
            counts[item] = counts.get(item, 0) + 1
    return counts


def _popular(scores: Floats | None) -> set[int]:
    """The items at the top for a stranger."""
    if scores is None or not scores.shape[1]:
        return set()
    stranger_I = scores[0]
    top = max(10, int(_POPULAR_SHARE * len(stranger_I)))
    return {int(item) for item in np.argsort(-stranger_I, kind="stable")[:top] if stranger_I[item] > stranger_I.min()}


def _together(scores: Floats | None, past: list[int], item: int, items: ItemTable) -> list[Reason]:
    """The past item that speaks most for this one, if any says more for it than knowing nothing does."""
    others = [row for row, other in enumerate(past, start=1) if other != item]
    if scores is None or not others:
        return []
    best = max(others, key=lambda row: float(scores[row, item]))
    if not scores[best, item] > scores[0, item]:
        return []
    because = past[best - 1]
    return [Reason("together", f"Bought together with {items.titles[because]}", items.item_ids[because])]


def _similar(likeness_PI: Floats, past: list[int], item: int, items: ItemTable) -> list[Reason]:
    """The past item that this one is most alike, if it is among the nearest of that item."""
    others = [row for row, other in enumerate(past) if other != item]
    if not likeness_PI.size or not others:
        return []
    best = max(others, key=lambda row: float(likeness_PI[row, item]))
    nearest = max(2, int(_LIKE_SHARE * len(items)))  # the item itself is always one of them
    if likeness_PI[best, item] <= 0 or (likeness_PI[best] > likeness_PI[best, item]).sum() >= nearest:
        return []
    because = past[best]
    return [Reason("similar", f"Similar to {items.titles[because]}", items.item_ids[because])]


def _likeness(vectors_ID: Floats, past: list[int]) -> Floats:
    """(P, I) cosines of past items with all items; empty when items have no place."""
    if not vectors_ID.shape[1]:
        return np.zeros((0, 0), np.float32)
    unit_ID = vectors_ID / np.maximum(np.linalg.norm(vectors_ID, axis=1, keepdims=True), 1e-9)
    cosines_PI: Floats = unit_ID[past] @ unit_ID.T
    return cosines_PI


def _repeat(count: int) -> Reason:
    return Reason("repeat", "You bought this before" if count == 1 else f"You bought this {count} times")


def _last_resort(history: History) -> Reason:
    if len(history):
        return Reason("taste", "Fits what you looked at and bought")
    return Reason("popular", "Liked by many shoppers")
