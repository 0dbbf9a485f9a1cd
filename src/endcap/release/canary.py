"""Whether a candidate that answers part of the shoppers goes on, goes back or waits. Values in, a decision out.

A step is judged by what happened since it began: pooled over steps, days of unlike shares would be compared with each other.
Not here: who routes requests and who counts them, and the statistics (`evaluation/sequential.py`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from endcap.errors import InputError
from endcap.evaluation.sequential import Floats, Tally, difference, relative_difference
from endcap.sections import Canary, CanaryStep, Guard

if TYPE_CHECKING:
    import numpy as np

Action = Literal["advance", "wait", "roll_back"]
BITS = 53  # of a float between 0 and 1
FEWEST = 30  # shoppers in an arm, below which no interval can be trusted


@dataclass(frozen=True, slots=True)
class Arms:
    """One metric since the step began, with the candidate and with the champion."""

    candidate: Tally
    champion: Tally


@dataclass(frozen=True, slots=True)
class Reading:
    """What a guard says: the estimate, both confidence sequences and the bar of this step, as differences to the champion."""

    metric: str
    estimate: float
    sure: tuple[float, float]  # at the level of a roll back
    likely: tuple[float, float]  # at the level of advancing
    bar: float
    broken: bool
    passed: bool
    relative: bool

    def __str__(self) -> str:
        low, high = self.likely if self.passed else self.sure
        says = "surely beyond the bar" if self.broken else "surely within the bar" if self.passed else "not sure yet"
        gap, least, most, bar = (self._told(one) for one in (self.estimate, low, high, self.bar))
        return f"{self.metric} {gap} [{least}, {most}] against the champion, the bar is {bar}: {says}"

    def _told(self, value: float) -> str:
        return "unknown" if not math.isfinite(value) else f"{value:+.1%}" if self.relative else f"{value:+.4f}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, the candidate's share of shoppers from now on, and why. `overdue`: patience is over, ask a person."""

    action: Action
    share: float
    reasons: tuple[str, ...]
    readings: tuple[Reading, ...] = ()
    overdue: bool = False


def share_of(shopper_id: str, salt: str) -> float:
    """Where a shopper lies in [0, 1), for ever: with the candidate while this is below its share, so a growing share keeps all.

    Uniform over shoppers, and independent between salts: with the canary's name as salt, others come first each time.

    >>> round(share_of("437d716ac40e553b", "41"), 4), round(share_of("437d716ac40e553b", "42"), 4)
    (0.6294, 0.171)
    """
    digest = hashlib.sha256(f"{salt}\0{shopper_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - BITS)) / 2.0**BITS


def decide(settings: Canary, step: int, hours: float, metrics: Mapping[str, Arms]) -> Decision:
    """Judge one step, `hours` after it began, as often as one likes.

    Roll back once any guard is surely beyond its bar. Advance once all are surely within theirs and `min_hours` are over.
    Else wait: time alone never advances. A guard is read once its own arms have enough shoppers, so that errors, which are
    known at once, need not wait for clicks, which are not.

    Raises:
        InputError: no such step or hours, or metrics that are not those of the guards.
    """
    here = _step(settings, step)
    if not (math.isfinite(hours) and hours >= 0):
        raise InputError("is no time since the step began", field="hours", value=hours, action="Give hours, 0 or more.")
    _same_metrics(settings, metrics)
    overdue = hours >= here.patience_hours
    note = (f"{hours:.3g} h are over the patience of {here.patience_hours:g} h: an operator has to decide",) * overdue
    readings = tuple(_read(settings, step, name, arms) for name, arms in metrics.items() if _fewest(arms) >= here.min_shoppers)
    if broken := tuple(str(one) for one in readings if one.broken):
        return Decision("roll_back", 0.0, broken, readings)
    if len(readings) < len(metrics):
        fewest = int(min(_fewest(arms) for arms in metrics.values()))
        why = f"{fewest} shoppers in the smaller arm, {here.min_shoppers} are wanted"
        return Decision("wait", here.share, (why, *note), readings, overdue)
    if unsure := tuple(str(one) for one in readings if not one.passed):
        return Decision("wait", here.share, (*unsure, *note), readings, overdue)
    if hours < here.min_hours:
        return Decision("wait", here.share, (f"{hours:.3g} h of at least {here.min_hours:g} h",), readings)
    following = settings.steps[step + 1].share if step + 1 < len(settings.steps) else 1.0
    return Decision("advance", following, tuple(map(str, readings)), readings)


def decide_shadow(settings: Canary, hours: float, compared: int, errors: Arms) -> Decision:
    """Judge the time before the first step: only errors can be, since nobody saw an answer and it was not timed alike.

    Roll back once the candidate surely errs more than the first step would bear. Go on to the first step once enough requests
    were compared for long enough; with a share that nobody sees, waiting harms nobody, so there is no patience.

    Raises:
        InputError: `canary.shadow` is not set.
    """
    shadow = settings.shadow
    if shadow is None:
        raise InputError(
            "is not set", field="canary.shadow", action="Set share, min_requests and min_hours, or begin at step 0."
        )
    readings: tuple[Reading, ...] = ()
    if "errors" in settings.guards and _fewest(errors) >= FEWEST:
        readings = (_read(settings, 0, "errors", errors),)
    if readings and readings[0].broken:
        return Decision("roll_back", 0.0, (str(readings[0]),), readings)
    if compared < shadow.min_requests:
        return Decision("wait", 0.0, (f"{compared} requests compared, {shadow.min_requests} are wanted",), readings)
    if hours < shadow.min_hours:
        return Decision("wait", 0.0, (f"{hours:.3g} h of at least {shadow.min_hours:g} h in the shadow",), readings)
    return Decision("advance", settings.steps[0].share, (f"{compared} requests compared", *map(str, readings)), readings)


def levels(settings: Canary) -> tuple[float, float]:
    """α of a roll back, and of advancing.

    Any guard at any step may roll back, and errors in the shadow, so α is shared among them (Bonferroni): a candidate within
    all bars is rolled back with probability α at most. To advance all have to agree, so none of them needs less than α
    (intersection-union, Berger 1982).
    """
    alpha = 1 - settings.confidence
    tests = len(settings.guards) * len(settings.steps) + (settings.shadow is not None and "errors" in settings.guards)
    return alpha / tests, alpha


def bounds(guard: Guard, step: CanaryStep, arms: Arms, alpha: float) -> tuple[Floats, Floats]:
    """The confidence sequence of a guard's difference; tightest for effects as large as the bar."""
    compare = relative_difference if guard.scale == "relative" else difference
    return compare(arms.candidate, arms.champion, guard.ceiling, abs(guard.bar) * step.slack, alpha)


def beyond(guard: Guard, bar: float, low: Floats, high: Floats) -> np.bool_ | np.ndarray:
    """Whether all of the interval is on the wrong side of the bar."""
    return high < bar if guard.better == "higher" else low > bar


def within(guard: Guard, bar: float, low: Floats, high: Floats) -> np.bool_ | np.ndarray:
    """Whether all of the interval is on the right side of the bar: not worse than allowed."""
    return low > bar if guard.better == "higher" else high < bar


def _read(settings: Canary, step: int, metric: str, arms: Arms) -> Reading:
    guard, here = settings.guards[metric], _step(settings, step)  # type: ignore[index]
    sure, likely = (bounds(guard, here, arms, alpha) for alpha in levels(settings))
    ours, theirs = float(arms.candidate.mean), float(arms.champion.mean)
    relative = guard.scale == "relative"
    estimate = ours - theirs if not relative else ours / theirs - 1 if theirs > 0 else math.nan
    bar = guard.bar * here.slack
    flags = bool(beyond(guard, bar, *sure)), bool(within(guard, bar, *likely))
    ends = [(float(low), float(high)) for low, high in (sure, likely)]
    return Reading(metric, estimate, ends[0], ends[1], bar, *flags, relative)


def _step(settings: Canary, step: int) -> CanaryStep:
    if not 0 <= step < len(settings.steps):
        action = f"Steps are 0 to {len(settings.steps) - 1}; after the last there is no champion left to compare with."
        raise InputError("no such step", field="step", value=step, action=action)
    return settings.steps[step]


def _same_metrics(settings: Canary, metrics: Mapping[str, Arms]) -> None:
    if unknown := sorted(set(metrics) - set(settings.guards)):
        action = f"Known: {', '.join(settings.guards)} (canary.guards)."
        raise InputError("no guard has such a name", field="metrics", value=unknown[0], action=action)
    if missing := [name for name in settings.guards if name not in metrics]:
        raise InputError("is not there", field="metrics", value=missing[0], action="Give every metric of canary.guards.")


def _fewest(arms: Arms) -> float:
    return min(float(arms.candidate.shoppers), float(arms.champion.shoppers))
