"""The rules of the shelf that a merchandiser writes: what they may say, and when each holds. Values only: no files, no clock.

Not here: how a slate is filled under them (placing.py), and where they come from (serving/rules_file.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, field_validator, model_validator

from endcap.contracts import MAX_ID, Surface
from endcap.sections import Count, Section

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID, pattern=r"\S")]
PromotionName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
_BEGINNING, _END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Rule(Section):
    """Where and when a rule holds: everywhere and always, unless it says otherwise."""

    surfaces: tuple[Surface, ...] = ()  # none named: all
    since: AwareDatetime | None = Field(None, alias="from")
    until: AwareDatetime | None = None  # exclusive

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Rule:
        if self.since and self.until and self.until <= self.since:
            raise ValueError(f"`until` ({self.until}) must be later than `from` ({self.since})")
        return self

    def holds(self, surface: str, now: datetime) -> bool:
        """Whether it counts for a slate on this surface at this moment."""
        here = not self.surfaces or surface in self.surfaces
        return here and (self.since or _BEGINNING) <= now < (self.until or _END)

    def meets(self, other: Rule) -> bool:
        """Whether some slate is under both."""
        together = not self.surfaces or not other.surfaces or bool({*self.surfaces} & {*other.surfaces})
        begins, ends = max(self.since or _BEGINNING, other.since or _BEGINNING), min(self.until or _END, other.until or _END)
        return together and begins < ends


class Selection(Rule):
    """Items that a rule speaks of: those named, and those of a named category or brand."""

    items: tuple[Name, ...] = ()
    categories: tuple[Name, ...] = ()
    brands: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _speaks_of_something(self) -> Selection:
        if not (self.items or self.categories or self.brands):
            raise ValueError("names none of `items`, `categories` and `brands`")
        return self


class Blocked(Selection):
    """Never shown."""


class Stock(Section):
    """What is sold out and so never shown; what is listed nowhere is in stock."""

    out: tuple[Name, ...] = ()
    file: Name | None = None  # CSV or Parquet with item_id and stock, beside the rules


class AtMost(Rule):
    """At most `items` of one brand (category) in a slate; `only`: of these brands (categories), else of each."""

    items: Count
    per: Literal["brand", "category"]
    only: tuple[Name, ...] = ()


class Pin(Rule):
    """An item at a fixed rank, if it may be shown."""

    item: Name
    rank: Count


class Promotion(Selection):
    """Items lifted into slates, at most `at_most` a slate, from `from_rank` on, `budget` times in all."""

    name: PromotionName  # by which its shows are counted
    budget: Count
    at_most: Count = 1
    from_rank: Count = 1


class Rules(Section):
    """All rules of a shop. Earlier kinds hold against later ones: what is blocked is not pinned, what is pinned stays."""

    blocked: tuple[Blocked, ...] = ()
    stock: Stock = Stock()
    at_most: tuple[AtMost, ...] = ()
    pinned: tuple[Pin, ...] = ()
    promoted: tuple[Promotion, ...] = ()

    @field_validator("pinned")
    @classmethod
    def _one_item_a_place(cls, pins: tuple[Pin, ...]) -> tuple[Pin, ...]:
        for place, pin in enumerate(pins):
            for earlier in pins[:place]:
                if pin.meets(earlier) and (pin.rank == earlier.rank or pin.item == earlier.item):
                    what = f"rank {pin.rank} has" if pin.rank == earlier.rank else f"item {pin.item} has ranks"
                    both = f"{earlier.item} and {pin.item}" if pin.rank == earlier.rank else f"{earlier.rank} and {pin.rank}"
                    raise ValueError(f"{what} {both} on one surface at one time")
        return pins

    @field_validator("promoted")
    @classmethod
    def _one_promotion_a_name(cls, promotions: tuple[Promotion, ...]) -> tuple[Promotion, ...]:
        names = [promotion.name for promotion in promotions]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two promotions are named {twice}: their shows could not be told apart")
        return promotions

    def promotions(self, surface: str, now: datetime) -> Sequence[Promotion]:
        """Those that hold for a slate."""
        return [promotion for promotion in self.promoted if promotion.holds(surface, now)]


NO_RULES = Rules()
