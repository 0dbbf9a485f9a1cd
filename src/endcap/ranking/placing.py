"""A slate under the rules of the shelf: what is hidden, and who takes each place.

Not here: what rules may say (business_rules.py), and how many shows a promotion has left (serving/promotion_budgets.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from endcap.models.history import Floats
from endcap.ranking.business_rules import AtMost, Promotion, Rules, Selection
from endcap.ranking.explanation import Reason
from endcap.ranking.items import ItemTable, Mask

PINNED, PROMOTED = "pinned", "promoted"
_WORDS = {PINNED: "Picked by the shop", PROMOTED: "Promoted by the shop"}


@dataclass(frozen=True, slots=True)
class Placed:
    """One place of a slate: an item (its position) and the rule that put it there, "" where the model did."""

    item: int
    rule: str = ""  # pinned | promoted:NAME
    propensity: float = 1.0  # given what stands above; a pin leaves nothing to chance, nor does greedy

    def reasons(self) -> tuple[Reason, ...]:
        """What to tell the shopper of the rule."""
        kind = self.rule.partition(":")[0]
        return (Reason(kind, _WORDS[kind]),) if kind else ()


def promotion_of(rule: str) -> str | None:
    """The promotion that a place is of, None for others.

    >>> promotion_of("promoted:lights"), promotion_of("pinned")
    ('lights', None)
    """
    kind, _, name = rule.partition(":")
    return name if kind == PROMOTED else None


Drawn = tuple[int, Mapping[int, float]]  # an item, and the chances of all that could have come in its place


class Chooser(Protocol):
    """Who says, place by place, what stands where no rule does."""

    def next(self, allowed: Callable[[int], bool]) -> Drawn | None:
        """One of the items that are allowed at this place; None: there is none. What is not allowed once never is again."""
        ...


class InOrder:
    """Chooses the first that is allowed, with certainty."""

    def __init__(self, order: Iterable[int]) -> None:
        self._rest = iter(order)
        self._waiting: int | None = None

    def next(self, allowed: Callable[[int], bool]) -> Drawn | None:
        """The next item of the order; it waits while a promotion takes its place."""
        while self._waiting is None or not allowed(self._waiting):
            self._waiting = next(self._rest, None)
            if self._waiting is None:
                return None
        return self._waiting, {self._waiting: 1.0}


class Shelf:
    """Rules over one item table: which items a rule speaks of is looked up once, not for each request."""

    def __init__(self, rules: Rules, items: ItemTable) -> None:
        self.rules, self._items = rules, items
        self._blocked = [(rule, _meant(rule, items)) for rule in rules.blocked]
        self._out = np.array(items.positions(rules.stock.out), np.int64)
        self._pinned = {pin.item: np.array(items.positions([pin.item]), np.int64) for pin in rules.pinned}
        self._promoted = {rule.name: _meant(rule, items) for rule in rules.promoted}

    def hide(self, allowed_I: Mask, surface: str, now: datetime) -> None:
        """Make false what is blocked or sold out."""
        for rule, positions in self._blocked:
            if rule.holds(surface, now):
                allowed_I[positions] = False
        allowed_I[self._out] = False

    def fill(
        self,
        chooser: Chooser,
        candidates_C: npt.NDArray[np.int64],
        scores_I: Floats,
        k: int,
        surface: str,
        now: datetime,
        shows: Mapping[str, int],
    ) -> list[Placed]:
        """At most k places: pins at their ranks, then promotions from theirs on, the rest by `chooser`.

        `candidates_C` may be shown; `chooser` chooses among those of them that rules allow at a place. `shows`: what each
        promotion has left for this slate. An item of a promotion that is chosen anyway counts for `at_most`, and costs no show.
        """
        caps = _Caps([rule for rule in self.rules.at_most if rule.holds(surface, now)], self._items)
        pinned = sorted((p for p in self.rules.pinned if p.rank <= k and p.holds(surface, now)), key=lambda pin: pin.rank)
        may = [(pin.rank, item) for pin in pinned for item in _among(self._pinned[pin.item], candidates_C).tolist()]
        pins = {rank: item for rank, item in may if caps.take(item)}
        lifts = []
        for rule in self.rules.promotions(surface, now):
            if shows.get(rule.name):
                theirs = _among(self._promoted[rule.name], candidates_C)
                best_first = theirs[np.argsort(-scores_I[theirs], kind="stable")]
                lifts.append(_Lift(rule, best_first.tolist(), shows[rule.name]))
        return _fill(chooser, pins, lifts, caps, k)


class _Caps:
    """How many more of each brand and category a slate takes."""

    def __init__(self, rules: Sequence[AtMost], items: ItemTable) -> None:
        self._rules = [(rule, items.brands if rule.per == "brand" else items.categories) for rule in rules]
        self._taken: dict[tuple[int, str], int] = {}

    def fits(self, item: int) -> bool:
        return not self._rules or all(self._taken.get(key, 0) < self._rules[key[0]][0].items for key in self._keys(item))

    def take(self, item: int) -> bool:
        """Whether it fits, and if so, count it."""
        if fits := self.fits(item):
            for key in self._keys(item):
                self._taken[key] = self._taken.get(key, 0) + 1
        return fits

    def _keys(self, item: int) -> list[tuple[int, str]]:
        """(rule, brand or category) that the item counts for; an item without a brand is of no brand."""
        found = ((place, rule, column[item]) for place, (rule, column) in enumerate(self._rules))
        return [(place, name) for place, rule, name in found if name and (not rule.only or name in rule.only)]


class _Lift:
    """A promotion while a slate is filled: its items, the best first, and how many more it may lift."""

    def __init__(self, rule: Promotion, items: Sequence[int], shows: int) -> None:
        self.rule, self._waiting, self._members = rule, list(items), frozenset(items)
        self._room, self._shows = rule.at_most, shows

    def next(self, rank: int, taken: set[int], caps: _Caps) -> int | None:
        """The item that it lifts to this rank, if any."""
        if rank < self.rule.from_rank or self._room <= 0 or self._shows <= 0:
            return None
        while self._waiting and (self._waiting[0] in taken or not caps.fits(self._waiting[0])):
            self._waiting.pop(0)  # caps only fill up: what does not fit now never will
        return self._waiting[0] if self._waiting else None

    def holds(self, item: int) -> bool:
        return item in self._members

    def see(self, placed: Placed) -> None:
        """Count what took a place."""
        self._room -= placed.item in self._members
        self._shows -= promotion_of(placed.rule) == self.rule.name


def _fill(chooser: Chooser, pins: Mapping[int, int], lifts: Sequence[_Lift], caps: _Caps, k: int) -> list[Placed]:
    """Rank by rank; where nothing is left for one, what is pinned further down moves up."""
    places: list[Placed] = []
    taken = set(pins.values())
    for item in pins.values():
        for lift in lifts:
            lift.see(Placed(item, PINNED))

    def allowed(item: int) -> bool:
        return item not in taken and caps.fits(item)

    for rank in range(1, k + 1):
        if rank in pins:
            places.append(Placed(pins[rank], PINNED))
            continue
        placed = _who(rank, chooser.next(allowed), lifts, taken, caps)
        if placed is None:
            continue
        caps.take(placed.item)
        taken.add(placed.item)
        for lift in lifts:
            lift.see(placed)
        places.append(placed)
    return places


def _who(rank: int, drawn: Drawn | None, lifts: Sequence[_Lift], taken: set[int], caps: _Caps) -> Placed | None:
    """Who takes a place that is not pinned: the first promotion that is due, unless one of its items was drawn anyway.

    So the item that is lifted comes by its own chance, and by that of all that is not of the promotion.
    """
    item, chances = drawn or (None, {})
    for lift in lifts:
        lifted = lift.next(rank, taken, caps)
        if lifted is not None:
            others = 1 - sum(chance for one, chance in chances.items() if lift.holds(one))
            if item is None or not lift.holds(item):
                return Placed(lifted, f"{PROMOTED}:{lift.rule.name}", min(chances.get(lifted, 0.0) + others, 1.0))
            return Placed(item, "", min(chances[item] + others, 1.0) if item == lifted else chances[item])
    return None if item is None else Placed(item, "", chances[item])


def _meant(rule: Selection, items: ItemTable) -> npt.NDArray[np.int64]:
    """Positions of the items that a rule speaks of, ascending."""
    meant_I = np.isin(items.categories, rule.categories) | np.isin(items.brands, rule.brands)
    meant_I[items.positions(rule.items)] = True
    return np.flatnonzero(meant_I)


def _among(items_P: npt.NDArray[np.int64], candidates_C: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those that are candidates. Both ascend, and there is at least one candidate."""
    places_P = np.searchsorted(candidates_C, items_P).clip(max=len(candidates_C) - 1)
    found: npt.NDArray[np.int64] = items_P[candidates_C[places_P] == items_P]
    return found
