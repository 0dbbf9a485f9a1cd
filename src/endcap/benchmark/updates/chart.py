"""The picture of a benchmark of updates: quality and forgetting week by week, a line a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from endcap.benchmark.updates.judging import POPULAR_METRIC
from endcap.benchmark.updates.strategies import FROZEN, FULL, INCREMENTAL, NAIVE

COLOURS = {INCREMENTAL: "black", FULL: "#0b6e4f", NAIVE: "#f3722c", FROZEN: "#7cb518"}
OTHER_COLOUR = "#9aa5ad"
STYLES = ("-", "--", ":", "-.")
PANELS = {
    "recall@20": "Recall@20",
    "ndcg@10_new": "NDCG@10, new to the shopper",
    POPULAR_METRIC: "Recall@20, popular at the start",
}


def draw_updates(result: Mapping[str, Any], path: Path) -> None:
    """Write a PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    weeks = [week[5:] for week in result["protocol"]["weeks"]]
    axes = figure.subplots(1, len(PANELS))
    for axis, (metric, title) in zip(axes, PANELS.items(), strict=True):
        for place, (name, model) in enumerate(result["models"].items()):
            values = [float("nan") if value is None else value for value in model["by_week"][metric]]
            own = name in COLOURS
            axis.plot(
                weeks, values, marker="o" if own else None, markersize=3, label=name, color=COLOURS.get(name, OTHER_COLOUR),
                linestyle="-" if own else STYLES[place % len(STYLES)], linewidth=2 if own else 1,
            )  # fmt: skip
        axis.set(title=title, xlabel="week, ranked before it was learnt", ylim=(0, None))
        axis.tick_params(axis="x", rotation=60)
        axis.grid(alpha=0.25)
    axes[0].legend(fontsize="x-small", ncols=2)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(partial, format="png", dpi=110)
    partial.replace(path)
