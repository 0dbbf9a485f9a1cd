"""The picture of calibration: what was predicted against what happened, a panel a data set and outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw_reliability(cases: list[dict[str, Any]], path: Path) -> None:
    """A row a case, a column an outcome; dots are bins of equal mass with Wilson's 95 % interval, the diagonal is perfect."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    outcomes = [name for name in ("click", "purchase") if any(name in case["tasks"] for case in cases)]
    size = (4.2 * len(outcomes), 4.0 * len(cases))
    figure, axes = plt.subplots(len(cases), len(outcomes), figsize=size, squeeze=False, constrained_layout=True)
    for row, case in zip(axes, cases, strict=True):
        for axis, name in zip(row, outcomes, strict=True):
            if name in case["tasks"]:
                _panel(axis, case, name)
            else:
                axis.set_axis_off()
    partial = path.with_name(f".{path.name}")
    figure.savefig(partial, dpi=120, format="png")
    partial.replace(path)
    plt.close(figure)


def _panel(axis: Any, case: dict[str, Any], name: str) -> None:
    task = case["tasks"][name]
    bins = task["reliability"]
    x, y = [one["predicted"] for one in bins], [one["happened"] for one in bins]
    below = [max(one["happened"] - one["low"], 0.0) for one in bins]
    above = [max(one["high"] - one["happened"], 0.0) for one in bins]
    top = 1.05 * max(*x, *(one["high"] for one in bins))
    axis.plot([0, top], [0, top], color="#b0a8b9", linewidth=1)
    axis.errorbar(x, y, yerr=[below, above], fmt="o", color="#0b6e4f", markersize=4, linewidth=1)
    error = task["models"]["behaviour head"]["ece"]
    axis.set(
        title=f"{case['name']}: {name}, ECE {error:.4f}", xlabel="predicted", ylabel="happened", xlim=(0, top), ylim=(0, top)
    )
    axis.spines[["top", "right"]].set_visible(False)
