"""The page /canary: where a canary stands, each guard's interval with its bar, what happened. It has no scripts.

It asks again every few seconds. Not here: what it shows (canary_shown.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from endcap.release.canary_state import SHADOW

if TYPE_CHECKING:
    from datetime import datetime

    from endcap.release.canary_state import GuardSeen
    from endcap.serving.canary_shown import CanaryShown

REFRESH_SECONDS = 5
_WIDTH, _PAD, _BARS = 340.0, 10.0, 4.0  # pixels; an interval is cut at so many bars, so that the bar stays in sight
NAMES = {
    "clicks": "Clicks",
    "purchases": "Purchases",
    "latency_ms": "Latency",
    "errors": "Errors",
    "fallbacks": "Fallbacks",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where things lie in a guard's drawing, in pixels from the left; `worse` is the side beyond the bar: (from, width)."""

    zero: float
    bar: float
    low: float
    high: float
    estimate: float | None
    worse: tuple[float, float]


def render(shown: CanaryShown, now: datetime) -> str:
    """The page as HTML. Every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:g} %"
    environment.filters["gap"] = gap
    return environment.get_template("canary.html.j2").render(
        shown=shown,
        steps=_steps(shown),
        guards=[(guard, draw(guard)) for guard in (shown.look.guards if shown.look else ())],
        names=NAMES,
        now=now,
        refresh=REFRESH_SECONDS,
        width=_WIDTH,
    )


def gap(value: float | None, relative: bool) -> str:
    """A difference to the champion in words.

    >>> gap(-0.05, True), gap(0.005, False), gap(None, True)
    ('-5.0%', '+0.0050', 'unknown')
    """
    return "unknown" if value is None else f"{value:+.1%}" if relative else f"{value:+.4f}"


def draw(guard: GuardSeen) -> Drawing:
    """Zero in the middle. An end that is unknown lies at the edge."""
    known = [abs(value) for value in (guard.bar, guard.low, guard.high, guard.estimate) if value is not None]
    reach = min(1.1 * max(known), _BARS * abs(guard.bar))

    def place(value: float) -> float:
        inside = max(min(value, reach), -reach)
        return round(_PAD + (_WIDTH - 2 * _PAD) * (inside + reach) / (2 * reach), 1)

    bar, edges = place(guard.bar), (place(-reach), place(reach))
    worse = (edges[0], bar - edges[0]) if guard.bar < 0 else (bar, edges[1] - bar)
    return Drawing(
        zero=place(0.0),
        bar=bar,
        low=edges[0] if guard.low is None else place(guard.low),
        high=edges[1] if guard.high is None else place(guard.high),
        estimate=None if guard.estimate is None else place(guard.estimate),
        worse=worse,
    )


def _steps(shown: CanaryShown) -> list[dict[str, object]]:
    """The way from the shadow to everybody, and which part of it is gone, is now, is to come."""
    names = [*(f"{100 * share:g} %" for share in shown.shares), "everybody"]
    began_in_shadow = bool(shown.history) and shown.history[0].step == SHADOW
    places = list(range(len(names)))
    if began_in_shadow:
        names, places = ["shadow", *names], [SHADOW, *places]
    at = shown.step if shown.step is not None else SHADOW
    return [
        {"name": name, "kind": "gone" if place < at else "to-come" if place > at else "now"}
        for name, place in zip(names, places, strict=True)
    ]
