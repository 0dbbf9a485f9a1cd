"""How each model ranked each week before learning it: the frozen first champion, the champions of the day, baselines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Params

if TYPE_CHECKING:
    import pandas as pd

FROZEN, UPDATED = "champion v1, frozen", "champion, updated"
BASELINES = ("own purchase counts", "item-kNN", "recent popularity", "popularity")


@dataclass(frozen=True, slots=True)
class Week:
    """A replayed week and the model directory that served it."""

    name: str
    start: datetime
    end: datetime
    champion: Path


def measure(dataset: Path, weeks: list[Week], frozen: Path, params: Params) -> pd.DataFrame:
    """One row a (week, model, shopper), see `evaluation.protocol.rank_period`. Baselines learn everything before each week."""
    import pandas as pd

    from endcap.data.features import interactions_from_events
    from endcap.data.partitions import read_events
    from endcap.evaluation.protocol import rank_period
    from endcap.models.blend import BlendedRecommender
    from endcap.models.collaborative import ItemKnn
    from endcap.models.popularity import Popularity
    from endcap.models.repeats import OwnCounts

    events = read_events(dataset).to_pandas()
    interactions = interactions_from_events(events)
    rows = []
    for week in weeks:
        baselines: tuple[Any, ...] = (OwnCounts(params.recent_days), ItemKnn(), Popularity(params.recent_days), Popularity())
        scorers: dict[str, Any] = {FROZEN: BlendedRecommender.load(frozen), UPDATED: BlendedRecommender.load(week.champion)}
        scorers |= {name: scorer.fit(interactions, week.start) for name, scorer in zip(BASELINES, baselines, strict=True)}
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
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def intervals(measured: pd.DataFrame, params: Params) -> list[dict[str, Any]]:
    """The updated champion less each other model, paired by shopper and week, with bootstrap intervals."""
    from endcap.evaluation.significance import paired_bootstrap

    settings = params.evaluate
    found = []
    for metric in (f"recall_at_{settings.k}", f"ndcg_at_{settings.k}", f"ndcg_at_{settings.k}_new"):
        table = measured.pivot_table(index=["week", "user_id"], columns="model", values=metric).dropna()
        for other in (FROZEN, *BASELINES):
            gap = paired_bootstrap(
                table[UPDATED].to_numpy(),
                table[other].to_numpy(),
                settings.bootstrap_samples,
                settings.confidence,
                settings.seed,
            )
            found.append(
                {
                    "metric": metric,
                    "model": UPDATED,
                    "against": other,
                    "difference": round(gap.mean, 4),
                    "low": round(gap.low, 4),
                    "high": round(gap.high, 4),
                    "confidence": settings.confidence,
                    "users": gap.count,
                }
            )
    return found


def plot(rows: list[dict[str, Any]], k: int, path: Path) -> None:
    """NDCG by week, a line a model: all items on the left, items new to the shopper on the right."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    weeks = list(dict.fromkeys(row["week"] for row in rows))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    colours = dict(
        zip((UPDATED, FROZEN, *BASELINES), ("#0b6e4f", "#7cb518", "#f3722c", "#577590", "#b0a8b9", "#d9d4dd"), strict=True)
    )
    for axis, suffix, title in ((axes[0], "", "all items"), (axes[1], "_new", "items new to the shopper")):
        for model, colour in colours.items():
            values = [
                row[f"ndcg_at_{k}{suffix}"] for week in weeks for row in rows if row["week"] == week and row["model"] == model
            ]
            axis.plot(weeks, values, marker="o", color=colour, label=model, linewidth=2.4 if model == UPDATED else 1.4)
        axis.set(title=f"NDCG@{k}, {title}", ylim=(0, None))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_xlabel("week, each ranked before it was learnt")
    axes[1].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
