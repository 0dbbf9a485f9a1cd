"""What the evaluate stage says of a model: flat metrics, one row a shopper, curves and plots, beside the baselines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from endcap.evaluation.significance import Interval, bootstrap_mean, paired_bootstrap

OURS = "blend"
OUTCOMES = ("click", "purchase")  # that a behaviour head gives probabilities of
FIGURES = ("happened", "log_loss", "prior_log_loss", "ece", "prior_ece", "chance_ece")
CURVES = ("train_loss", "validation_loss", "validation_ndcg")


@dataclass(frozen=True, slots=True)
class Confidence:
    """How intervals are computed."""

    samples: int
    level: float
    seed: int


def measures(k: int) -> tuple[str, ...]:
    """The columns that protocol.rank_period measures.

    >>> measures(5)
    ('recall_at_5', 'ndcg_at_5', 'recall_at_5_new', 'ndcg_at_5_new')
    """
    return tuple(f"{name}_at_{k}{suffix}" for suffix in ("", "_new") for name in ("recall", "ndcg"))


def compare(frame: pd.DataFrame, k: int, confidence: Confidence) -> tuple[dict[str, float], dict[str, dict[str, Interval]]]:
    """Flat metrics, and the interval of each measure by model. `frame` has the rows of rank_period, one model named "blend".

    Names: `<measure>` for ours, `<baseline>.<measure>` for the others, `vs_<baseline>.<measure>` with `.low` and `.high` for
    the paired difference over the same shoppers; a blank of a name becomes "_". A measure that no shopper has (nothing new was
    taken) is left out.
    """
    flat: dict[str, float] = {"users": float(frame["user_id"].nunique())}
    intervals: dict[str, dict[str, Interval]] = {}
    options = (confidence.samples, confidence.level, confidence.seed)
    for measure in measures(k):
        table = frame.pivot(index="user_id", columns="model", values=measure).dropna()
        if table.empty:
            continue
        for model in table.columns:
            interval = bootstrap_mean(table[model].to_numpy(), *options)
            intervals.setdefault(model, {})[measure] = interval
            name = str(model).replace(" ", "_")
            flat[measure if model == OURS else f"{name}.{measure}"] = interval.mean
            if model != OURS:
                lead = paired_bootstrap(table[OURS].to_numpy(), table[model].to_numpy(), *options)
                flat |= {
                    f"vs_{name}.{measure}": lead.mean,
                    f"vs_{name}.{measure}.low": lead.low,
                    f"vs_{name}.{measure}.high": lead.high,
                }
    return {name: round(value, 6) for name, value in flat.items()}, intervals


def write_report(
    target: Path,
    frame: pd.DataFrame,
    curve: Mapping[str, Any],
    extra: Mapping[str, float],
    k: int,
    confidence: Confidence,
    behaviour: Mapping[str, Any],
) -> dict[str, float]:
    """Write metrics.json, curves.json, curves.csv, per_user.parquet and plots/*.png below `target`; returns the metrics.

    `behaviour`: what a model's config says of its behaviour head (training/behaviour/days.py); without one it adds nothing.
    """
    (target / "plots").mkdir(parents=True, exist_ok=True)
    metrics, intervals = compare(frame, k, confidence) if len(frame) else ({"users": 0.0}, {})
    metrics |= dict(extra) | behaviour_metrics(behaviour)
    (target / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (target / "curves.json").write_text(json.dumps(curve, sort_keys=True) + "\n", encoding="utf-8")
    epochs = pd.DataFrame({name: pd.Series(curve.get(name, []), dtype=float) for name in CURVES})
    epochs.insert(0, "epoch", np.arange(1, len(epochs) + 1))
    epochs.to_csv(target / "curves.csv", index=False)
    frame.to_parquet(target / "per_user.parquet", index=False)
    plot_training(epochs, target / "plots" / "loss.png")
    plot_comparison(intervals, k, target / "plots" / "baselines.png")
    if "rows" in behaviour:
        plot_reliability({name: behaviour[name] for name in OUTCOMES}, target / "plots" / "reliability.png")
    return metrics


def behaviour_metrics(told: Mapping[str, Any]) -> dict[str, float]:
    """Flat metrics of a behaviour head: rows and figures; none without a head.

    >>> behaviour_metrics({"absent": "nothing was shown"})
    {}
    """
    if "rows" not in told:
        return {}
    rows = {f"behaviour.{part}_rows": float(count) for part, count in told["rows"].items()}
    return rows | {f"behaviour.{name}.{figure}": told[name][figure] for name in OUTCOMES for figure in FIGURES}


def plot_training(epochs: pd.DataFrame, path: Path) -> None:
    """By epoch: the losses, and the quality by which the epoch was chosen."""
    figure, axes = _figure(2)
    for axis, name, label in (
        (axes[0], "train_loss", "training"),
        (axes[0], "validation_loss", "validation"),
        (axes[1], "validation_ndcg", "validation"),
    ):
        if epochs[name].notna().any():
            axis.plot(epochs["epoch"], epochs[name], marker="o", label=label)
            axis.legend()
    axes[0].set(title="Loss of the sequential model", xlabel="epoch", ylabel="negative log-likelihood")
    axes[1].set(title="The sequential model alone", xlabel="epoch", ylabel="NDCG@10")
    _save(figure, path)


def plot_comparison(intervals: Mapping[str, Mapping[str, Interval]], k: int, path: Path) -> None:
    """Bars with bootstrap intervals: ours beside the baselines, for all items and for items new to the shopper."""
    figure, axes = _figure(2)
    for axis, measure, title in (
        (axes[0], f"ndcg_at_{k}", "all items"),
        (axes[1], f"ndcg_at_{k}_new", "items new to the shopper"),
    ):
        rows = sorted((values[measure].mean, name, values[measure]) for name, values in intervals.items() if measure in values)
        for place, (mean, name, interval) in enumerate(rows):
            error = [[mean - interval.low], [interval.high - mean]]
            axis.barh(place, mean, xerr=error, color="#2a6f97" if name == OURS else "#b8c4cc", capsize=3)
        axis.set(title=f"NDCG@{k}, {title}", yticks=range(len(rows)), yticklabels=[name for _, name, _ in rows])
    _save(figure, path)


def plot_reliability(outcomes: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A panel an outcome: predicted against happened, dots with Wilson's 95 % interval; the diagonal is perfect.

    Each outcome has `ece` and `reliability`, the rows of evaluation.calibration.reliability.
    """
    figure, axes = _figure(len(outcomes))
    for axis, (name, told) in zip(axes, outcomes.items(), strict=True):
        bins = told["reliability"]
        x, y = [one["predicted"] for one in bins], [one["happened"] for one in bins]
        below = [max(one["happened"] - one["low"], 0.0) for one in bins]
        above = [max(one["high"] - one["happened"], 0.0) for one in bins]
        top = 1.05 * max(*x, *(one["high"] for one in bins))
        axis.plot([0, top], [0, top], color="#b8c4cc")
        axis.errorbar(x, y, yerr=[below, above], fmt="o", color="#2a6f97", capsize=3)
        title = f"{name}, calibration error {told['ece']:.4f}"
        axis.set(title=title, xlabel="predicted", ylabel="happened", xlim=(0, top), ylim=(0, top))
    _save(figure, path)


def _figure(columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(6 * columns, 3.6), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
