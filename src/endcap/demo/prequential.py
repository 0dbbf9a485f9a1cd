"""How each model ranked each week before learning it: the frozen first champion, the champions of the day, baselines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Params
from endcap.evaluation.baselines import BASELINES

if TYPE_CHECKING:
    import pandas as pd

FROZEN, UPDATED = "champion v1, frozen", "champion, updated"


@dataclass(frozen=True, slots=True)
class Week:
    """A replayed week and the model directory that served it."""

    name: str
    start: datetime
    end: datetime
    champion: Path | None  # None: nothing had been promoted yet, the service fell back


def measure(dataset: Path, weeks: list[Week], frozen: Path | None, params: Params) -> pd.DataFrame:
    """One row a (week, model, shopper), see `evaluation.protocol.rank_period`. Baselines learn everything before each week."""
    import pandas as pd

    from endcap.data.features import interactions_from_events
    from endcap.data.partitions import read_events
    from endcap.evaluation.baselines import fit_baselines
    from endcap.evaluation.protocol import rank_period
    from endcap.models.model_files import load_model

    events = read_events(dataset).to_pandas()
    interactions = interactions_from_events(events)
    rows = []
    for week in weeks:
        models = {FROZEN: frozen, UPDATED: week.champion}
        scorers: dict[str, Any] = {name: load_model(model) for name, model in models.items() if model and week.champion}
        scorers |= fit_baselines(interactions, week.start, params.recent_days)
        seen = events[events["time"] < week.end]
        ranked = rank_period(scorers, seen, None, week.start, week.end, params.evaluate.k)
        rows.append(ranked.drop(columns="top").assign(week=week.name))
    return pd.concat(rows, ignore_index=True)


def weekly(measured: pd.DataFrame, k: int) -> list[dict[str, Any]]:
    """Means by week and model, for all items and (`_new`) for items new to the shopper."""
    columns = [f"recall_at_{k}", f"ndcg_at_{k}", f"recall_at_{k}_new", f"ndcg_at_{k}_new"]
    means = measured.groupby(["week", "model"], sort=False)[columns].mean().round(4)
    users = measured.groupby(["week", "model"], sort=False)["user_id"].nunique()
    table = means.assign(users=users).reset_index()
    return [{str(name): None if value != value else value for name, value in row.items()} for row in table.to_dict("records")]


def intervals(measured: pd.DataFrame, params: Params) -> list[dict[str, Any]]:
    """The updated champion less each other model on the same shoppers: a week by itself, then all weeks (`week` null).

    Bootstrap over shoppers; one who came in several weeks is drawn with all of them.
    """
    k = params.evaluate.k
    others = [model for model in (FROZEN, *BASELINES) if model in set(measured["model"])]
    found = []
    for metric in (f"recall_at_{k}", f"ndcg_at_{k}", f"recall_at_{k}_new", f"ndcg_at_{k}_new"):
        table = measured.pivot_table(index=["week", "user_id"], columns="model", values=metric)
        of_week = table.index.get_level_values("week")
        for week in (*dict.fromkeys(measured["week"]), None):
            rows = table if week is None else table[of_week == week]
            gaps = (_gap(rows, other, params) for other in others)
            found += [{"week": week, "metric": metric, **gap} for gap in gaps if gap]
    return found


def _gap(table: pd.DataFrame, other: str, params: Params) -> dict[str, Any]:
    from endcap.evaluation.significance import clustered_bootstrap

    if UPDATED not in table or other not in table:
        return {}
    both = table[[UPDATED, other]].dropna()
    if both.empty:
        return {}
    settings = params.evaluate
    gap = clustered_bootstrap(
        (both[UPDATED] - both[other]).to_numpy(),
        both.index.get_level_values("user_id").to_numpy(),
        settings.bootstrap_samples,
        settings.confidence,
        settings.seed,
    )
    return {
        "model": UPDATED,
        "against": other,
        "difference": round(gap.mean, 4),
        "low": round(gap.low, 4),
        "high": round(gap.high, 4),
        "confidence": settings.confidence,
        "users": gap.count,
    }


def plot(rows: list[dict[str, Any]], k: int, path: Path) -> None:
    """NDCG by week, a line a model: all items on the left, items new to the shopper on the right."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    weeks = list(dict.fromkeys(row["week"] for row in rows))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    colours = dict(
        zip((UPDATED, FROZEN, *BASELINES), ("#0b6e4f", "#7cb518", "#d9d4dd", "#b0a8b9", "#577590", "#f3722c"), strict=True)
    )
    for axis, suffix, title in ((axes[0], "", "all items"), (axes[1], "_new", "items new to the shopper")):
        for model, colour in colours.items():
            own = {row["week"]: row[f"ndcg_at_{k}{suffix}"] for row in rows if row["model"] == model}
            values = [float("nan") if own.get(week) is None else own[week] for week in weeks]
            axis.plot(weeks, values, marker="o", color=colour, label=model, linewidth=2.4 if model == UPDATED else 1.4)
        axis.set(title=f"NDCG@{k}, {title}", ylim=(0, None))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_xlabel("week, each ranked before it was learnt")
    axes[1].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
