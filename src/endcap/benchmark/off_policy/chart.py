"""The picture of what a policy would earn: an estimator a row with its intervals, beside what the log earned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def draw_forest(result: Mapping[str, Any], path: Path) -> None:
    """Thick: bootstrap; thin: empirical Bernstein, cut at the frame; hollow: may be biased; band: what was logged."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    estimates, logging, refused = result["estimates"], result["logging"], result["refused"]
    names = list(estimates)
    figure, axis = plt.subplots(figsize=(7.5, 1.8 + 0.32 * (len(names) + len(refused))), constrained_layout=True)
    axis.axvspan(logging["low"], logging["high"], color="#d9d2e0", zorder=0)
    axis.axvline(logging["value"], color="#6b5b7b", linewidth=1, label="what was logged")
    for place, one in enumerate(estimates.values()):
        if "bernstein" in one:
            axis.plot([one["bernstein"]["low"], one["bernstein"]["high"]], [place, place], color="#8fbfae", linewidth=0.8)
        colour, inside = ("#9a9a9a", "white") if "biased" in one else ("#0b6e4f", "#0b6e4f")
        axis.plot([one["low"], one["high"]], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
        axis.plot(one["value"], place, "o", color=colour, markerfacecolor=inside, markersize=5)
    ends = [logging["low"], logging["high"], *(one[side] for one in estimates.values() for side in ("low", "high"))]
    room = 0.15 * (max(ends) - min(ends) or abs(logging["value"]) or 1.0)
    axis.set_xlim(min(ends) - room, max(ends) + room)
    for place, name in enumerate(refused, start=len(names)):
        told = f"refused: {refused[name]['problem']}"
        axis.text(0.01, place, told, transform=axis.get_yaxis_transform(), va="center", fontsize=7, color="#8c2f39")
    axis.set_yticks(range(len(names) + len(refused)), [*names, *refused])
    axis.set_ylim(len(names) + len(refused) - 0.5, -0.5)
    reward = result["log"]["columns"]["reward"]
    if any("biased" in one for one in estimates.values()):
        axis.plot([], [], "o-", color="#9a9a9a", markerfacecolor="white", label="may be biased: spread alone")
    axis.set(xlabel=f"{reward} per shown item, {result['confidence']:.1%} intervals", title="What the policy would earn")
    axis.legend(loc="lower right", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, dpi=120, format="png", metadata={"Software": None})
    partial.replace(path)
    plt.close(figure)
