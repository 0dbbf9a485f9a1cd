"""Slates under rules, through the recommender: what is hidden, who takes each place, and what always holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.models.history import Floats, History
from endcap.ranking.business_rules import NO_RULES, Rules
from endcap.ranking.diversity import diversify
from endcap.ranking.items import Filters, ItemTable
from endcap.recommender import Recommendation, Recommender, Request

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
KINDS = ["drinks", "drinks", "drinks", "drinks", "pots", "pots", "pots", "", "gifts", "gifts"]
BRANDS = ["Leaf", "Leaf", "Bean", "Bean", "Clay", "Clay", "Leaf", "", "", "Bean"]
IDS = [f"i{place}" for place in range(10)]  # i0 scores best, i9 worst
ROWS = [{"item_id": item, "category": kind, "brand": brand} for item, kind, brand in zip(IDS, KINDS, BRANDS, strict=True)]
ABOUT = {item: {"category": kind, "brand": brand} for item, kind, brand in zip(IDS, KINDS, BRANDS, strict=True)}


class Falling:
    """Scores fall with position, whoever asks."""

    def __init__(self, item_ids: Sequence[str]) -> None:
        self.item_ids, self.item_vectors = item_ids, np.zeros((len(item_ids), 0), np.float32)

    def score(self, histories: Sequence[History], now: datetime, surface: str = "") -> Floats:
        return np.repeat(np.linspace(1, 0, len(self.item_ids), dtype=np.float32)[None, :], len(histories), axis=0)

    def score_parts(self, histories: Sequence[History], now: datetime, surface: str = "") -> dict[str, Floats]:
        return {"recent": self.score(histories, now, surface)}


SHOP = Recommender(Falling(IDS), ItemTable.of(ROWS), repeat_surfaces=["home"])


def slate(rules: dict[str, Any], shows: dict[str, int] | None = None, **request: Any) -> list[Recommendation]:
    asked = {"k": 4, **request}
    return SHOP.recommend(Request(History.empty(), NOW, rules=Rules.model_validate(rules), shows=shows or {}, **asked))


def items(places: Sequence[Recommendation]) -> list[str]:
    return [place.item_id for place in places]


def ruled(places: Sequence[Recommendation]) -> dict[str, str]:
    return {place.item_id: place.rule for place in places if place.rule}


def lights(*names: str, **more: Any) -> dict[str, Any]:
    return {"promoted": [{"name": "lights", "items": names, "budget": 100, **more}]}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"blocked": [{"items": ["i0", "unknown"]}]}, ["i1", "i2", "i3", "i4"]),
        ({"blocked": [{"categories": ["drinks"]}]}, ["i4", "i5", "i6", "i7"]),
        ({"blocked": [{"brands": ["Leaf"], "items": ["i2"]}]}, ["i3", "i4", "i5", "i7"]),
        ({"blocked": [{"items": ["i0"], "surfaces": ["email"]}]}, ["i0", "i1", "i2", "i3"]),
        ({"blocked": [{"items": ["i0"], "until": NOW}]}, ["i0", "i1", "i2", "i3"]),
        ({"blocked": [{"items": ["i0"], "from": NOW}]}, ["i1", "i2", "i3", "i4"]),
        ({"stock": {"out": ["i1", "i3"]}}, ["i0", "i2", "i4", "i5"]),
        ({"blocked": [{"categories": ["drinks", "pots", "gifts"]}]}, ["i7"]),
    ],
)
def test_what_is_blocked_or_sold_out_is_not_shown(rules: dict[str, Any], expected: list[str]) -> None:
    assert items(slate(rules)) == expected


@pytest.mark.parametrize(
    ("cap", "expected"),
    [
        ({"items": 1, "per": "brand"}, ["i0", "i2", "i4", "i7", "i8"]),  # what has no brand is of no brand
        ({"items": 1, "per": "category"}, ["i0", "i4", "i7", "i8"]),
        ({"items": 1, "per": "category", "only": ["drinks"]}, ["i0", "i4", "i5", "i6", "i7"]),
        ({"items": 1, "per": "brand", "surfaces": ["email"]}, ["i0", "i1", "i2", "i3", "i4"]),
    ],
)
def test_a_slate_holds_at_most_so_many_of_a_kind(cap: dict[str, Any], expected: list[str]) -> None:
    assert items(slate({"at_most": [cap]}, k=5)) == expected


def test_a_cap_may_pass_over_many() -> None:
    rows = [{"item_id": f"i{place}", "brand": "Leaf" if place < 40 else "Bean"} for place in range(41)]
    shop = Recommender(Falling([str(row["item_id"]) for row in rows]), ItemTable.of(rows), repeat_surfaces=[])
    rules = Rules.model_validate({"at_most": [{"items": 1, "per": "brand"}]})
    assert items(shop.recommend(Request(History.empty(), NOW, k=2, rules=rules))) == ["i0", "i40"]


def test_variety_and_caps_go_together() -> None:
    places = slate({"at_most": [{"items": 1, "per": "category"}]}, k=4, diversity=0.3)
    assert sorted(KINDS[IDS.index(item)] for item in items(places)) == ["", "drinks", "gifts", "pots"]


def test_a_pin_has_its_rank_and_says_so() -> None:
    places = slate({"pinned": [{"item": "i9", "rank": 2}, {"item": "i0", "rank": 4}]}, explain=True)
    assert items(places) == ["i1", "i9", "i2", "i0"]
    assert ruled(places) == {"i9": "pinned", "i0": "pinned"}
    assert [place.rank for place in places] == [1, 2, 3, 4]
    assert {place.propensity for place in places} == {1.0}
    assert (places[1].reasons[0].kind, places[1].reasons[0].text) == ("pinned", "Picked by the shop")
    assert all(reason.kind != "pinned" for reason in places[0].reasons)


@pytest.mark.parametrize(
    ("more", "request_"),
    [
        ({"blocked": [{"items": ["i9"]}]}, {}),
        ({"stock": {"out": ["i9"]}}, {}),
        ({}, {"filters": Filters(brands=frozenset({"Leaf", "Clay"}))}),
        ({}, {"hidden": frozenset({"i9"})}),
        ({}, {"k": 1}),
        ({}, {"surface": "email"}),
    ],
)
def test_a_pin_that_may_not_be_shown_is_not(more: dict[str, Any], request_: dict[str, Any]) -> None:
    places = slate({"pinned": [{"item": "i9", "rank": 2, "surfaces": ["home"]}], **more}, **request_)
    assert "i9" not in items(places)
    assert not ruled(places)


def test_a_pin_moves_up_in_a_slate_too_short_for_it() -> None:
    places = slate({"pinned": [{"item": "i4", "rank": 4}]}, filters=Filters(categories=frozenset({"pots"})))
    assert [(place.item_id, place.rank) for place in places] == [("i5", 1), ("i6", 2), ("i4", 3)]


def test_pins_count_for_caps_and_the_lower_one_gives_way() -> None:
    pins = [{"item": "i3", "rank": 3}, {"item": "i9", "rank": 1}]
    places = slate({"pinned": pins, "at_most": [{"items": 1, "per": "brand"}]})
    assert items(places) == ["i9", "i0", "i4", "i7"]  # i9 and i3 are of one brand


def test_a_promotion_lifts_its_best_from_its_rank_on() -> None:
    places = slate(lights("i9", "i7", "i8", from_rank=2, at_most=2), {"lights": 5}, explain=True)
    assert items(places) == ["i0", "i7", "i8", "i1"]
    assert ruled(places) == {"i7": "promoted:lights", "i8": "promoted:lights"}
    assert places[1].reasons[0].text == "Promoted by the shop"
    assert items(slate({"promoted": [{"name": "pots", "categories": ["pots"], "budget": 9}]}, {"pots": 9}))[0] == "i4"


def test_what_the_model_shows_by_itself_costs_no_show_and_counts_for_the_slate() -> None:
    places = slate(lights("i0", "i1", "i9", at_most=2), {"lights": 5})
    assert items(places) == ["i0", "i1", "i2", "i3"]
    assert not ruled(places)
    assert ruled(slate(lights("i0", "i9", at_most=2), {"lights": 5})) == {"i9": "promoted:lights"}


def test_a_promotion_without_shows_left_lifts_nothing() -> None:
    for shows in ({}, {"lights": 0}, {"others": 3}):
        assert items(slate(lights("i9"), shows)) == ["i0", "i1", "i2", "i3"]
    assert items(slate(lights("i8", "i9", at_most=2), {"lights": 1})) == ["i8", "i0", "i1", "i2"]


def test_promotions_stand_in_the_order_of_the_file_and_pins_stay() -> None:
    def two(*theirs: str) -> list[str]:
        promoted = [{"name": "a", "items": ["i9"], "budget": 1}, {"name": "b", "items": theirs, "budget": 1}]
        return items(slate({"promoted": promoted, "pinned": [{"item": "i5", "rank": 1}]}, {"a": 1, "b": 1}))

    assert two("i8") == ["i5", "i9", "i8", "i0"]
    assert two("i8", "i9") == ["i5", "i9", "i0", "i1"]  # i9 is one of both: b has its item in the slate


NAMES = st.lists(st.sampled_from([*IDS, "unknown"]), min_size=1, max_size=4, unique=True)
LIMITS = st.fixed_dictionaries(
    {}, optional={"surfaces": st.just(["home"]) | st.just(["email"]), "until": st.just(NOW) | st.just(NOW + timedelta(1))}
)


def limited(rule: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda found, limits: {**found, **limits}, rule, LIMITS)


BLOCKS = st.fixed_dictionaries({"items": NAMES}, optional={"brands": st.just(["Bean"]), "categories": st.just(["pots"])})
CAPS = st.fixed_dictionaries({"items": st.integers(1, 3), "per": st.sampled_from(["brand", "category"])})
PINS = st.lists(st.tuples(st.sampled_from(IDS), st.integers(1, 9)), max_size=4, unique_by=(lambda p: p[0], lambda p: p[1]))
PROMOTIONS = st.fixed_dictionaries(
    {"items": NAMES, "at_most": st.integers(1, 3), "from_rank": st.integers(1, 6), "budget": st.just(99)}
)
RULES = st.fixed_dictionaries(
    {
        "blocked": st.lists(limited(BLOCKS), max_size=2),
        "stock": st.fixed_dictionaries({"out": st.lists(st.sampled_from(IDS), max_size=2)}),
        "at_most": st.lists(limited(CAPS), max_size=2),
        "pinned": PINS.map(lambda pins: [{"item": item, "rank": rank} for item, rank in pins]),
        "promoted": st.lists(limited(PROMOTIONS), max_size=2).map(
            lambda found: [{**rule, "name": f"p{place}"} for place, rule in enumerate(found)]
        ),
    }
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    rules=RULES,
    k=st.integers(1, 12),
    shows=st.fixed_dictionaries({"p0": st.integers(0, 3), "p1": st.integers(0, 3)}),
    diversity=st.sampled_from([0.0, 0.5]),
)
def test_whatever_the_rules_say_together(rules: dict[str, Any], k: int, shows: dict[str, int], diversity: float) -> None:
    found = Rules.model_validate(rules)
    places = slate(rules, shows, k=k, diversity=diversity)
    shown = items(places)
    assert len(shown) == len(set(shown)) <= k
    assert [place.rank for place in places] == list(range(1, len(places) + 1))
    assert not {*shown} & {*found.stock.out}
    for rule in found.blocked:
        if rule.holds("home", NOW):
            assert not {*shown} & {*rule.items}
            assert not [
                item for item in shown if ABOUT[item]["brand"] in rule.brands or ABOUT[item]["category"] in rule.categories
            ]
    for cap in found.at_most:
        if cap.holds("home", NOW):
            counts = Counter(ABOUT[item][cap.per] for item in shown)
            assert all(count <= cap.items for name, count in counts.items() if name)
    ranks = {pin.item: pin.rank for pin in found.pinned}
    for place in places:
        if place.rule == "pinned":
            assert place.rank == ranks[place.item_id] or (len(places) < k and place.rank < ranks[place.item_id])
    for rule in found.promoted:
        lifted = [place for place in places if place.rule == f"promoted:{rule.name}"]
        assert len(lifted) <= min(shows[rule.name], rule.at_most) * rule.holds("home", NOW)
        assert {place.item_id for place in lifted} <= {*rule.items}
        assert all(place.rank >= rule.from_rank for place in lifted) or len(places) < k


@settings(max_examples=60, deadline=None, derandomize=True)
@given(k=st.integers(1, 12), diversity=st.sampled_from([0.0, 0.4]), brands=st.sampled_from([frozenset(), frozenset({"Leaf"})]))
def test_without_rules_that_hold_a_slate_is_the_models_own(k: int, diversity: float, brands: frozenset[str]) -> None:
    allowed = [place for place in range(len(IDS)) if not brands or BRANDS[place] in brands]
    scores_I = SHOP.model.score([History.empty()], NOW)[0]
    own = [IDS[item] for item in (diversify(allowed, scores_I, SHOP.items, k, diversity) if diversity else allowed[:k])]
    elsewhere = {
        "blocked": [{"items": IDS, "surfaces": ["email"]}],
        "at_most": [{"items": 1, "per": "brand", "until": NOW}],
        "pinned": [{"item": "i9", "rank": 1, "from": NOW + timedelta(1)}],
    }
    for rules in (NO_RULES.model_dump(), elsewhere):
        places = slate(rules, k=k, diversity=diversity, filters=Filters(brands=brands))
        assert items(places) == own
        assert not ruled(places)
