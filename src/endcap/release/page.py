"""The scorecard as one self-contained HTML page that a merchandiser can read. Not here: what the gates ask (gates.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from endcap.release.scorecard import Comparison, Gate, Scorecard

_WIDTH, _PAD = 220.0, 8.0  # of an interval's drawing, in pixels
_INTRO = {
    "Quality": "On purchases of the newest days, which no model has seen: candidate less reference, over the same shoppers.",
    "Slices": "The same for groups that an average can hide. Too few shoppers: shown as a warning.",
    "Behaviour": "What a recommender must do whatever its figures say.",
    "Budgets": "What the shop can afford.",
    "Servability": "Whether it can be served away from where it was trained.",
    "Data": "What it learnt from, and what it is judged on.",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the lineage block."""

    name: str
    value: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where an interval lies in its drawing, in pixels from the left."""

    zero: float
    allowed: float
    low: float
    mean: float
    high: float


def render(scorecard: Scorecard, title: str, subtitle: str, lineage: Sequence[Fact], links: Sequence[Fact]) -> str:
    """The page as text. Every value is escaped; nothing is loaded from elsewhere."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("scorecard.html.j2").render(
        card=scorecard,
        title=title,
        subtitle=subtitle,
        lineage=lineage,
        links=links,
        groups=_groups(scorecard),
        bars=_bars(scorecard.metrics),
        warnings=[gate.result.name for gate in scorecard.gates if not gate.result.passed and not gate.result.blocking],
        width=_WIDTH,
    )


def _groups(scorecard: Scorecard) -> list[dict[str, Any]]:
    found = []
    for name, intro in _INTRO.items():
        gates = [gate for gate in scorecard.gates if gate.group == name]
        if not gates:
            continue
        reach = _reach([gate.comparison for gate in gates if gate.comparison])
        rows = [{"gate": gate, "drawing": draw(gate.comparison, reach) if gate.comparison else None} for gate in gates]
        found.append(
            {"name": name, "intro": intro, "rows": rows, "good": sum(_fine(gate) for gate in gates), "drawn": reach > 0}
        )
    return found


def _fine(gate: Gate) -> bool:
    return gate.result.passed


def _reach(comparisons: list[Comparison]) -> float:
    """The largest distance from zero that a group's drawings must show, so that its rows share one scale."""
    return max((abs(value) for c in comparisons for value in (c.difference.low, c.difference.high, c.allowed)), default=0.0)


def draw(comparison: Comparison, reach: float) -> Drawing:
    """Zero in the middle, `reach` at either edge."""

    def place(value: float) -> float:
        return round(_PAD + (_WIDTH - 2 * _PAD) * (value + reach) / (2 * reach or 1.0), 1)

    difference = comparison.difference
    return Drawing(place(0.0), place(comparison.allowed), place(difference.low), place(difference.mean), place(difference.high))


def _bars(metrics: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Mean NDCG of every model, the best as the full width."""
    key = next(
        (name for values in metrics.values() for name in values if name.startswith("ndcg") and not name.endswith("_new")), ""
    )
    recall = key.replace("ndcg", "recall")
    top = max((values[key] for values in metrics.values()), default=0.0) or 1.0
    return [
        {
            "name": name,
            "ndcg": values[key],
            "recall": values[recall],
            "ndcg_new": values[f"{key}_new"],
            "share": values[key] / top,
        }
        for name, values in sorted(metrics.items(), key=lambda pair: -pair[1][key])
    ]
