"""The picture beside a benchmark's figures: NDCG@10 by model, and by how much a user's history tells."""

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

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    models = dict(sorted(result["models"].items(), key=lambda pair: pair[1]["mean"]["ndcg@10"] or 0))
    ours = result["ours"]
    for place, (name, model) in enumerate(models.items()):
        span = model["intervals"]["ndcg@10"]
        colour = OURS_COLOUR if name == ours else OTHER_COLOUR
        reach = [[span["mean"] - span["low"]], [span["high"] - span["mean"]]]
        left.barh(place, span["mean"], color=colour, xerr=reach, ecolor="#555555")
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
    right.legend(fontsize="small")
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(partial, format="png", dpi=110)
    partial.replace(path)
