"""The picture beside a benchmark's figures: NDCG@10 by model, by how much a user's history tells, and how it grows with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS_COLOUR, OTHER_COLOUR = "black", "#9aa5ad"


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write a PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    newest = growth(result)
    models = dict(sorted(result["models"].items(), key=lambda pair: pair[1]["mean"]["ndcg@10"] or 0))
    models = {name: model for name, model in models.items() if "newest_events" not in facts_of(model)}
    figure = Figure(figsize=(16 if newest else 11, 4.5 + 0.25 * max(len(models) - 9, 0)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right, *third = figure.subplots(1, 3 if newest else 2)
    ours = result["ours"]
    for place, (name, model) in enumerate(models.items()):
        span = model["intervals"]["ndcg@10"]
        colour = OURS_COLOUR if name == ours else OTHER_COLOUR
        reach = [[span["mean"] - span["low"]], [span["high"] - span["mean"]]]
        left.barh(place, span["mean"], color=colour, xerr=reach, ecolor="#555555")
        if ours and name != ours and name.startswith(ours):
            continue  # a part taken out
        groups = {group: cut["ndcg@10"] for group, cut in model["by_history_length"].items()}
        ys = [cut["mean"] for cut in groups.values()]
        right.plot(list(groups), ys, marker="o", label=name, **({"color": colour, "linewidth": 2.5} if name == ours else {}))
        if name == ours:
            right.fill_between(
                list(groups), [cut["low"] for cut in groups.values()], [cut["high"] for cut in groups.values()],
                color=colour, alpha=0.15,
            )  # fmt: skip
    left.set_yticks(range(len(models)), list(models))
    left.set(xlabel="NDCG@10", title=f"{result['protocol']['name']}, {result['protocol']['judged_users']:,} users")
    right.set(xlabel="events in the history", ylabel="NDCG@10", title="by history length")
    right.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axes in third:
        means, lows, highs = ([cut[key] for cut in newest.values()] for key in ("mean", "low", "high"))
        axes.plot(list(newest), means, marker="o", color=OURS_COLOUR)
        axes.fill_between(list(newest), lows, highs, color=OURS_COLOUR, alpha=0.15)
        axes.set(xlabel="newest events that are known", ylabel="NDCG@10", title=f"{ours}, the same users")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(partial, format="png", dpi=110)
    partial.replace(path)


def facts_of(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the first fit of a model said of itself."""
    facts: Mapping[str, Any] = next(iter(model["training"].values()))
    return facts


def growth(result: Mapping[str, Any]) -> dict[str, Any]:
    """NDCG@10 with its interval by how many of the newest events are known; nothing where that was not studied."""
    cut = {facts_of(model).get("newest_events"): model["intervals"]["ndcg@10"] for model in result["models"].values()}
    found = {str(events): cut[events] for events in sorted(events for events in cut if events is not None)}
    return {**found, "all": result["models"][result["ours"]]["intervals"]["ndcg@10"]} if found else {}
