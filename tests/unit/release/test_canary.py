"""A canary's decisions and their words, who is in it, and what is refused."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from endcap.config import load_params
from endcap.errors import InputError
from endcap.evaluation.sequential import Tally
from endcap.release import canary
from endcap.release.canary import Arms, decide, decide_shadow, levels, share_of
from endcap.sections import Canary, CanaryStep, Guard, Shadow

CLICKS = Guard(better="higher", bar=-0.05, scale="relative", ceiling=1.0)
ERRORS = Guard(better="lower", bar=0.005, scale="absolute", ceiling=1.0)
LATENCY = Guard(better="lower", bar=0.1, scale="relative", ceiling=500.0)
SMALL = CanaryStep(share=0.1, slack=4.0, min_shoppers=100, min_hours=24.0, patience_hours=100.0)
LARGE = CanaryStep(share=0.5, slack=1.0, min_shoppers=100, min_hours=24.0, patience_hours=100.0)
SETTINGS = Canary(confidence=0.95, steps=(SMALL, LARGE), guards={"clicks": CLICKS, "errors": ERRORS, "latency_ms": LATENCY})
ENOUGH = 200_000


def tally(mean: float, shoppers: int = ENOUGH) -> Tally:
    """One request a shopper: 0 or 1, or milliseconds whose standard deviation is half their mean."""
    squares = mean if mean <= 1 else 1.25 * mean**2
    return Tally(shoppers, shoppers, shoppers * mean, shoppers, shoppers * mean, shoppers * squares)


def arms(clicks: float = 0.3, errors: float = 0.001, latency: float = 30.0, shoppers: int = ENOUGH) -> dict[str, Arms]:
    """A champion with 30 % clicks, .1 % errors and 30 ms, and a candidate as told."""
    told = {"clicks": (clicks, 0.3), "errors": (errors, 0.001), "latency_ms": (latency, 30.0)}
    return {name: Arms(tally(ours, shoppers), tally(theirs)) for name, (ours, theirs) in told.items()}


def test_the_examples_hold() -> None:
    assert doctest.testmod(canary) == doctest.TestResults(failed=0, attempted=1)


def test_surely_not_worse_goes_on_to_the_next_share_and_after_the_last_to_everybody() -> None:
    first, last = (decide(SETTINGS, step, 24.0, arms()) for step in (0, 1))
    assert (first.action, first.share) == ("advance", 0.5)
    assert (last.action, last.share) == ("advance", 1.0)
    assert len(last.reasons) == 3
    assert all("surely within the bar" in reason for reason in last.reasons)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"clicks": 0.27},
            r"^clicks -10\.0% \[-11\.\d%, -8\.\d%\] against the champion, the bar is -5\.0%: surely beyond the bar$",
        ),
        ({"clicks": 0.0}, r"^clicks -100\.0% \[-100\.0%, -(100\.0|9\d\.\d)%\]"),
        ({"errors": 0.02}, r"^errors \+0\.0190 \[\+0\.01\d\d, \+0\.02\d\d\] against the champion, the bar is \+0\.0050"),
        ({"latency": 40.0}, r"^latency_ms \+33\.3% \[\+3\d\.\d%, \+3\d\.\d%\] against the champion, the bar is \+10\.0%"),
    ],
)
def test_a_bar_that_is_surely_broken_rolls_back_at_once_and_says_why(wrong: dict[str, float], words: str) -> None:
    found = decide(SETTINGS, 1, 0.0, arms(**wrong))
    assert (found.action, found.share) == ("roll_back", 0.0)
    assert len(found.reasons) == 1
    assert re.search(words, found.reasons[0]), found.reasons[0]


def test_every_broken_bar_is_told() -> None:
    assert [one.split()[0] for one in decide(SETTINGS, 1, 0.0, arms(clicks=0.2, errors=0.1)).reasons] == ["clicks", "errors"]


def test_bars_are_wider_at_an_early_step() -> None:
    worse = arms(clicks=0.27)
    assert decide(SETTINGS, 0, 24.0, worse).action == "advance"
    assert decide(SETTINGS, 1, 24.0, worse).action == "roll_back"
    assert decide(SETTINGS, 0, 24.0, arms(clicks=0.2)).action == "roll_back"


def test_a_candidate_at_the_bar_waits_and_then_asks_a_person() -> None:
    early, late = (decide(SETTINGS, 1, hours, arms(clicks=0.285)) for hours in (99.0, 100.0))
    assert (early.action, early.share, early.overdue, len(early.reasons)) == ("wait", 0.5, False, 1)
    assert "not sure yet" in early.reasons[0]
    assert (late.action, late.overdue) == ("wait", True)
    assert late.reasons[-1] == "100 h are over the patience of 100 h: an operator has to decide"


def test_too_few_shoppers_wait_however_bad_it_looks() -> None:
    found = decide(SETTINGS, 1, 30.0, arms(errors=1.0, shoppers=99))
    assert (found.action, found.share, found.overdue) == ("wait", 0.5, False)
    assert found.reasons == ("99 shoppers in the smaller arm, 100 are wanted",)
    assert decide(SETTINGS, 1, 100.0, arms(shoppers=99)).overdue
    assert decide(SETTINGS, 1, 0.0, arms(errors=1.0, shoppers=100)).action == "roll_back"


def test_a_good_candidate_still_waits_for_the_hours() -> None:
    found = decide(SETTINGS, 0, 23.5, arms())
    assert (found.action, found.reasons) == ("wait", ("23.5 h of at least 24 h",))
    assert not found.overdue


def test_nothing_seen_waits() -> None:
    nobody = {name: Arms(tally(0.0, 0), tally(0.0, 0)) for name in SETTINGS.guards}
    assert decide(SETTINGS, 0, 0.0, nobody).reasons == ("0 shoppers in the smaller arm, 100 are wanted",)


def test_a_champion_without_a_click_can_be_compared_with_nothing() -> None:
    found = decide(SETTINGS, 1, 30.0, arms() | {"clicks": Arms(tally(0.3), tally(0.0))})
    assert found.action == "wait"
    assert found.reasons[0].startswith("clicks unknown [-100.0%, unknown] against the champion")


def test_roll_backs_share_the_error_and_advancing_does_not() -> None:
    assert levels(SETTINGS) == pytest.approx((0.05 / 6, 0.05))
    reading = decide(SETTINGS, 1, 24.0, arms()).readings[0]
    assert reading.sure[0] < reading.likely[0] < reading.likely[1] < reading.sure[1]


def test_a_guard_is_read_once_its_own_shoppers_suffice() -> None:
    """Errors are known at once, clicks after a day."""
    unsettled = Arms(tally(0.0, 0), tally(0.0, 0))
    found = decide(SETTINGS, 0, 0.0, arms(errors=0.2) | {"clicks": unsettled})
    assert (found.action, found.reasons[0].split()[0]) == ("roll_back", "errors")
    found = decide(SETTINGS, 0, 48.0, arms() | {"clicks": unsettled})
    assert (found.action, found.reasons) == ("wait", ("0 shoppers in the smaller arm, 100 are wanted",))


SHADOWED = SETTINGS.model_copy(update={"shadow": Shadow(share=0.1, min_requests=500, min_hours=2.0)})


@pytest.mark.parametrize(
    ("hours", "compared", "errors", "action", "says"),
    [
        (3.0, 600, 0.0, "advance", "600 requests compared"),
        (1.0, 600, 0.0, "wait", "1 h of at least 2 h in the shadow"),
        (3.0, 400, 0.0, "wait", "400 requests compared, 500 are wanted"),
        (0.0, 400, 0.3, "roll_back", "errors +0.3000"),
        (9.0, 20, 1.0, "wait", "20 requests compared"),
    ],
)
def test_the_shadow_is_judged_by_errors_alone(hours: float, compared: int, errors: float, action: str, says: str) -> None:
    found = decide_shadow(SHADOWED, hours, compared, Arms(tally(errors, compared), tally(0.0, compared)))
    assert found.action == action
    assert found.reasons[0].startswith(says)
    assert found.share == (0.1 if action == "advance" else 0.0)


def test_the_shadow_takes_its_part_of_the_error_and_must_be_set() -> None:
    assert levels(SHADOWED) == pytest.approx((0.05 / 7, 0.05))
    with pytest.raises(InputError, match=r"canary\.shadow: is not set"):
        decide_shadow(SETTINGS, 1.0, 500, Arms(tally(0.0), tally(0.0)))


@pytest.mark.parametrize(
    ("step", "hours", "metrics", "says"),
    [
        (2, 1.0, arms(), r"step: no such step; got 2\. Steps are 0 to 1; after the last"),
        (-1, 1.0, arms(), r"step: no such step; got -1"),
        (0, -1.0, arms(), r"hours: is no time since the step began; got -1\.0\. Give hours"),
        (0, float("nan"), arms(), r"hours: .*got nan"),
        (
            0,
            1.0,
            arms() | {"carts": arms()["clicks"]},
            r"metrics: no guard has such a name; got 'carts'\. Known: clicks, errors",
        ),
        (0, 1.0, {"clicks": arms()["clicks"]}, r"metrics: is not there; got 'errors'\. Give every metric"),
    ],
)
def test_what_cannot_be_judged_is_refused(step: int, hours: float, metrics: dict[str, Arms], says: str) -> None:
    with pytest.raises(InputError, match=says):
        decide(SETTINGS, step, hours, metrics)


def test_a_metric_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"values: is no measured value; got nan"):
        Tally.of([0.1, float("nan")], np.array(["ann", "bob"]), 1.0)


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_share_keeps_its_shoppers(shopper: str, salt: str, one: float, other: float) -> None:
    place = share_of(shopper, salt)
    assert 0 <= place < 1
    assert place == share_of(shopper, salt)
    assert (place < min(one, other)) <= (place < max(one, other))


def test_shares_are_close_to_what_is_asked_and_salts_independent() -> None:
    ids = [f"{number:016x}" for number in range(20_000)]
    first, second = (np.array([share_of(one, salt) for one in ids]) for salt in ("41", "42"))
    for share in (0.01, 0.1, 0.5):
        spread = np.sqrt(share * (1 - share) / len(ids))
        assert abs((first < share).mean() - share) < 4 * spread
        both = ((first < share) & (second < share)).mean()
        assert abs(both - share**2) < 4 * np.sqrt(share**2 / len(ids))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(ids))


def test_the_project_has_a_canary_whose_last_step_compares_halves() -> None:
    settings = load_params(Path(__file__).resolve().parents[3] / "params.yaml").canary
    assert settings is not None
    assert [step.share for step in settings.steps] == [0.01, 0.1, 0.5]
    assert (settings.enabled, settings.confirm) == (False, True), "promotion is direct until somebody asks for canaries"
    assert set(settings.guards) == {"clicks", "purchases", "latency_ms", "errors", "fallbacks"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": ()}, "at least 1"),
        ({"guards": {}}, "at least 1"),
        ({"guards": {"carts": CLICKS}}, "carts"),
        ({"steps": (LARGE, SMALL)}, r"shares of canary\.steps must grow, not \[0\.5, 0\.1\]"),
        ({"steps": (LARGE, LARGE)}, "must grow"),
        ({"steps": (SMALL,)}, "the last of canary.steps must have slack 1, not 4"),
        ({"guards": {"clicks": CLICKS.model_copy(update={"bar": -0.25})}}, "clicks: a bar of -1 .* can never be broken"),
        ({"guards": {"errors": ERRORS.model_copy(update={"bar": 0.3})}}, "errors: a bar of 1.2 .* can never be broken"),
    ],
)
def test_settings_that_cannot_decide_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Canary(**{"confidence": 0.95, "steps": (SMALL, LARGE), "guards": {"clicks": CLICKS}} | change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"share": -0.1}, "greater than 0"),
        ({"share": 1.0}, "less than 1"),
        ({"slack": 0.5}, "greater than or equal to 1"),
        ({"min_shoppers": 5}, "greater than or equal to 30"),
        ({"patience_hours": 1.0}, r"patience_hours \(1\) must not be below min_hours \(24\)"),
    ],
)
def test_steps_out_of_range_are_refused(change: dict[str, float], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CanaryStep(**LARGE.model_dump() | change)


@pytest.mark.parametrize(
    ("guard", "bar", "says"),
    [
        (CLICKS, 0.05, r"bar \(0\.05\) must be negative"),
        (ERRORS, -0.1, r"bar \(-0\.1\) must be positive"),
        (LATENCY, 0.0, "positive"),
    ],
)
def test_bars_of_the_wrong_sign_are_refused(guard: Guard, bar: float, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Guard(**guard.model_dump() | {"bar": bar})
