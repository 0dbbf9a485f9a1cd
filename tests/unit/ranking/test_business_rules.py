"""What rules may say, and when each holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from endcap.ranking.business_rules import Blocked, Pin, Rules

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def blocked(**limits: Any) -> Blocked:
    return Blocked.model_validate({"items": ["tea"], **limits})


def test_a_rule_holds_from_its_first_moment_until_before_its_last() -> None:
    rule = blocked(**{"from": NOON, "until": NOON + HOUR})
    held = [rule.holds("home", NOON + HOUR * hours) for hours in (-0.001, 0, 0.999, 1)]
    assert held == [False, True, True, False]
    assert blocked().holds("home", NOON)


def test_a_rule_holds_on_its_surfaces_alone() -> None:
    rule = blocked(surfaces=["home", "email"])
    assert [rule.holds(surface, NOON) for surface in ("home", "product", "email")] == [True, False, True]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ({}, {}, True),
        ({"surfaces": ["home"]}, {"surfaces": ["email"]}, False),
        ({"surfaces": ["home"]}, {}, True),
        ({"until": NOON}, {"from": NOON}, False),
        ({"until": NOON + HOUR}, {"from": NOON}, True),
        ({"until": NOON + HOUR, "surfaces": ["home"]}, {"from": NOON, "surfaces": ["email"]}, False),
    ],
)
def test_rules_meet_where_some_slate_is_under_both(one: dict[str, Any], other: dict[str, Any], meet: bool) -> None:
    assert blocked(**one).meets(blocked(**other)) is meet
    assert blocked(**other).meets(blocked(**one)) is meet


def pin(item: str, rank: int, **limits: Any) -> dict[str, Any]:
    return {"item": item, "rank": rank, **limits}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"pinned": [pin("tea", 0)]}, "greater than or equal to 1"),
        ({"pinned": [pin("tea", 1), pin("mug", 1)]}, "rank 1 has tea and mug"),
        ({"pinned": [pin("tea", 1), pin("tea", 2, surfaces=["home"])]}, "item tea has ranks 1 and 2"),
        ({"pinned": [pin(" ", 1)]}, "should match"),
        ({"blocked": [{"surfaces": ["home"]}]}, "names none of"),
        ({"blocked": [{"items": ["tea"], "from": NOON, "until": NOON}]}, "must be later"),
        ({"blocked": [{"items": ["tea"], "from": NOON.replace(tzinfo=None)}]}, "timezone"),
        ({"blocked": [{"items": ["tea"], "surfaces": ["window"]}]}, "should be 'home'"),
        ({"at_most": [{"items": 0, "per": "brand"}]}, "greater than or equal to 1"),
        ({"promoted": [{"name": "a", "items": ["tea"]}]}, "Field required"),
        ({"promoted": [{"name": "a", "items": ["tea"], "budget": 1}] * 2}, "two promotions are named a"),
        ({"pined": []}, "Extra inputs"),
    ],
)
def test_what_no_rule_may_say_is_refused(rules: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Rules.model_validate(rules)


def test_one_rank_may_have_two_pins_that_never_meet() -> None:
    pins = [pin("tea", 1, surfaces=["home"]), pin("mug", 1, surfaces=["email"]), pin("pot", 1, surfaces=["basket"], until=NOON)]
    pins.append(pin("mate", 1, surfaces=["basket"], **{"from": NOON}))
    assert [type(one) for one in Rules.model_validate({"pinned": pins}).pinned] == [Pin] * 4
