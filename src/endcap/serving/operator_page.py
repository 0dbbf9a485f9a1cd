"""The page /operator: how the shelf does now, what state the service is in. Made on the server; its script only refreshes it.

Not here: the counting (online_figures.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from endcap.config import Settings
from endcap.errors import ServiceUnavailable
from endcap.ranking.business_rules import Rules
from endcap.serving.canary_shown import CanaryShown
from endcap.serving.metrics import Metrics
from endcap.serving.model_store import ModelStore
from endcap.serving.online_figures import WINDOWS, Bar, Figures, OnlineFigures
from endcap.serving.rules_store import RulesStore
from endcap.serving.schemas import Readiness

_ROUTES = ("/v1/recommendations", "/v1/items/{item_id:path}/related", "/v1/events")
_SHARES = (0.5, 0.95, 0.99)
_WIDTH, _HEIGHT = 640.0, 120.0  # of the chart, in its own units


@dataclass(frozen=True, slots=True)
class Column:
    """One bar of the chart: slates as its height, fallbacks a part of it, the click rate as a dot; None: nothing shown."""

    x: float
    width: float
    height: float
    fallback_height: float
    dot: float | None
    text: str


class OperatorPage:
    """Renders what it was made with. Blocks: call it from a thread."""

    def __init__(
        self, settings: Settings, figures: OnlineFigures, metrics: Metrics, models: ModelStore, rules: RulesStore
    ) -> None:
        self._settings, self._figures, self._metrics = settings, figures, metrics
        self._models, self._rules, self._since = models, rules, datetime.now(UTC)

    def render(self, window: str, *, newest: bool, ready: Readiness, canary: CanaryShown) -> str:
        """The page as HTML; every value is escaped."""
        figures, away = self._read(window, newest=newest)
        return _template().render(
            windows=list(WINDOWS),
            window=window,
            ends_newest=newest,
            figures=figures,
            away=away,
            columns=columns(figures.bars) if figures else [],
            width=_WIDTH,
            height=_HEIGHT,
            most=max((bar.slates for bar in figures.bars), default=0) if figures else 0,
            ready=ready,
            model=self._models.state(),
            rules=_rules_facts(self._rules.current, str(self._settings.rules or "")),
            rules_refused=self._rules.refused,
            promotions=self._metrics.samples("endcap_promotion_shows_total"),
            fallbacks=[(labels["reason"], int(count)) for labels, count in self._metrics.samples("endcap_fallbacks_total")],
            requests=self._requests(),
            canary=canary,
            storefront=self._settings.storefront,
            since=self._since,
        )

    def _read(self, window: str, *, newest: bool) -> tuple[Figures | None, str]:
        try:
            return self._figures.of(window, newest=newest), ""
        except ServiceUnavailable as error:  # the rest of the page is worth showing
            return None, str(error)

    def _requests(self) -> list[dict[str, Any]]:
        """Requests, errors and latency of each route of the shop since the process started."""
        samples = self._metrics.samples("endcap_requests_total")
        rows = []
        for route in _ROUTES:
            mine = [(labels["status"], int(count)) for labels, count in samples if labels["route"] == route]
            milliseconds = [None if math.isnan(s) else s * 1000 for s in self._metrics.latency(route, _SHARES)]
            errors = sum(count for status, count in mine if status.startswith("5"))
            rows.append(
                {"route": route, "count": sum(count for _, count in mine), "errors": errors, "milliseconds": milliseconds}
            )
        return rows


@cache
def _template() -> Template:
    folder = FileSystemLoader(Path(__file__).parent / "browser")
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("operator.html.j2")


def columns(bars: tuple[Bar, ...]) -> list[Column]:
    """Where the chart's bars and dots lie; the highest bar fills the chart, the dot's scale is 0 to 100 %."""
    most = max((bar.slates for bar in bars), default=0) or 1
    step = _WIDTH / max(len(bars), 1)
    found = []
    for number, bar in enumerate(bars):
        rate = bar.clicked / bar.slates if bar.slates else None
        clicked = "" if rate is None else f", {rate:.0%} clicked, {bar.fallbacks:,} fallbacks"
        found.append(
            Column(
                x=round(number * step + step * 0.1, 1),
                width=round(step * 0.8, 1),
                height=round(_HEIGHT * bar.slates / most, 1),
                fallback_height=round(_HEIGHT * bar.fallbacks / most, 1),
                dot=None if rate is None else round(_HEIGHT * (1 - rate), 1),
                text=f"{bar.start:%a %H:%M} UTC: {bar.slates:,} slates{clicked}",
            )
        )
    return found


def _rules_facts(rules: Rules, file: str) -> list[tuple[str, str]]:
    if not file:
        return [("file", "none: slates are the model's own")]
    kinds = {"blocked": rules.blocked, "sold out": rules.stock.out, "at most": rules.at_most, "pinned": rules.pinned}
    counts = [f"{len(found):,} {name}" for name, found in kinds.items() if found]
    counts += [f"{len(rules.promoted):,} promoted"] if rules.promoted else []
    return [("file", file), ("in force", ", ".join(counts) or "no rule")]
