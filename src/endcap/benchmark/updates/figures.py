"""From weekly slates to figures: means over weeks, paired differences with intervals, what updates cost, what is forgotten.

A figure is the mean over weeks of the mean over the shoppers of that week. For intervals whole shoppers are drawn, each with
all her weeks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.benchmark.updates.judging import POPULAR_METRIC, POPULAR_SHARE, Ints, measure_week, popular_at
from endcap.benchmark.updates.shop import WeeklyShop
from endcap.benchmark.updates.strategies import FROZEN, FULL, INCREMENTAL
from endcap.evaluation.report import Confidence
from endcap.evaluation.significance import clustered_bootstrap

METRICS = ("recall@10", "ndcg@10", "recall@20", "recall@10_new", "ndcg@10_new", "recall@20_new")
MAIN = "recall@20"
COSTS = ("cpu_seconds", "wall_seconds")


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """How one model ranked one week."""

    model: str
    seed: int
    week: int
    slates: Ints  # (2, U, K) see judging.slates_of
    facts: dict[str, Any]  # cpu_seconds and wall_seconds of the fit; of baselines their hyper_parameters too


def figures(judged: list[Judged], shop: WeeklyShop, confidence: Confidence) -> dict[str, Any]:
    """`models` by name, `forgetting`, and, where both were run, `updates`: the incremental model against the full one."""
    table = measured(judged, shop)
    names = list(dict.fromkeys(one.model for one in judged))
    ours = INCREMENTAL if INCREMENTAL in names else next((name for name in names if name in (FULL, FROZEN)), None)
    models: dict[str, Any] = {}
    for name in names:
        own = [one for one in judged if one.model == name]
        models[name] = {
            "mean": {metric: _mean_of_weeks(table[name][metric]) for metric in METRICS},
            "by_week": {metric: _by_week(table[name][metric], len(shop.weeks)) for metric in (*METRICS, POPULAR_METRIC)},
            "intervals": {metric: interval(table[name][metric], confidence) for metric in METRICS},
            "seeds": _by_seed(own, shop), "seconds": _costs(own),
        }  # fmt: skip
        if knobs := own[0].facts.get("hyper_parameters"):
            models[name]["hyper_parameters"] = knobs
        if ours and name != ours:
            models[name]["ours_minus_this"] = {
                metric: interval(table[ours][metric] - table[name][metric], confidence) for metric in METRICS
            }
    found: dict[str, Any] = {"ours": ours, "models": models, "forgetting": forgetting(table, len(shop.weeks), confidence)}
    if FULL in names and INCREMENTAL in names and len(shop.weeks) > 1:
        found["updates"] = against_full(table, models, confidence)
    return found


def measured(judged: list[Judged], shop: WeeklyShop) -> pd.DataFrame:
    """One row a (week, shopper), columns (model, metric): each shopper's mean over the seeds."""
    popular = popular_at(shop, shop.weeks[0])
    cases = [shop.cases(week) for week in shop.weeks]
    frames = []
    for one in judged:
        values = measure_week(one.slates, cases[one.week], popular)
        frames.append(pd.DataFrame({"model": one.model, "week": one.week, "user": cases[one.week].user_ids, **values}))
    rows = pd.concat(frames, ignore_index=True)
    means = rows.groupby(["model", "week", "user"], sort=False).mean()
    by_model: dict[str, pd.DataFrame] = {name: means.loc[name] for name in rows["model"].unique()}
    return pd.concat(by_model, axis=1)


def interval(values: pd.Series[Any], confidence: Confidence) -> dict[str, float | int | None]:
    """The mean over weeks of weekly means of a (week, user) column, with its interval over drawn shoppers."""
    known = values.dropna()
    if known.empty:
        return {"mean": None, "low": None, "high": None, "count": 0}
    weeks = known.index.get_level_values("week")
    sizes = known.groupby(weeks).transform("size")
    shares = len(known) / (weeks.nunique() * sizes)  # every week weighs the same
    found = clustered_bootstrap(
        (known * shares).to_numpy(np.float64), known.index.get_level_values("user").to_numpy(),
        confidence.samples, confidence.level, confidence.seed,
    )  # fmt: skip
    return asdict(found)


def against_full(table: pd.DataFrame, models: dict[str, Any], confidence: Confidence) -> dict[str, Any]:
    """What incremental updates reach of a full retrain every week, from the first update on, and what they cost of it."""
    updated = table[table.index.get_level_values("week") > 0]
    quality = {}
    for metric in METRICS:
        full, ours = updated[FULL][metric], updated[INCREMENTAL][metric]
        quality[metric] = {
            "full": _mean_of_weeks(full), "incremental": _mean_of_weeks(ours), "ratio": _ratio(ours, full),
            "difference": interval(ours - full, confidence),
        }  # fmt: skip
    cost = {}
    for kind in COSTS:
        ours_seconds, full_seconds = (models[name]["seconds"][f"{kind}_an_update"] for name in (INCREMENTAL, FULL))
        ratio = ours_seconds / full_seconds if full_seconds else None
        cost[kind] = {"incremental": ours_seconds, "full": full_seconds, "ratio": ratio}
    return {"since_week": 1, "quality": quality, "cost": cost}


def forgetting(table: pd.DataFrame, weeks: int, confidence: Confidence) -> dict[str, Any]:
    """Recall@20 over the items that were popular at the start, in the last week: after the last update."""
    last = table[table.index.get_level_values("week") == weeks - 1]
    names = list(table.columns.unique(0))
    found: dict[str, Any] = {
        "metric": POPULAR_METRIC, "popular_share": POPULAR_SHARE, "updates": weeks - 1,
        "models": {name: interval(last[name][POPULAR_METRIC], confidence) for name in names},
    }  # fmt: skip
    if FULL in names and INCREMENTAL in names:
        ours, full = last[INCREMENTAL][POPULAR_METRIC], last[FULL][POPULAR_METRIC]
        found |= {"incremental_to_full": _ratio(ours, full), "difference": interval(ours - full, confidence)}
    return found


def _mean_of_weeks(values: pd.Series[Any]) -> float | None:
    means = values.groupby(level="week").mean().dropna()
    return float(means.mean()) if len(means) else None


def _by_week(values: pd.Series[Any], weeks: int) -> list[float | None]:
    """(weeks,) means; None where nobody came."""
    means = values.groupby(level="week").mean().reindex(range(weeks))
    return [None if value != value else float(value) for value in means]


def _ratio(ours: pd.Series[Any], theirs: pd.Series[Any]) -> float | None:
    top, below = _mean_of_weeks(ours), _mean_of_weeks(theirs)
    return top / below if top is not None and below else None


def _by_seed(own: list[Judged], shop: WeeklyShop) -> dict[str, dict[str, float | None]]:
    none: npt.NDArray[np.bool_] = np.zeros(len(shop.events.item_ids), np.bool_)
    found: dict[str, dict[str, float | None]] = {}
    for seed in sorted({one.seed for one in own}):
        weeks = [measure_week(one.slates, shop.cases(shop.weeks[one.week]), none) for one in own if one.seed == seed]
        found[str(seed)] = {
            metric: float(np.mean(means)) if (means := [m for m in (_finite_mean(w[metric]) for w in weeks) if m is not None])
            else None for metric in METRICS
        }  # fmt: skip
    return found


def _finite_mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def _costs(own: list[Judged]) -> dict[str, float | None]:
    """Seconds of the first fit and, as the mean over later weeks, of an update; each a mean over the seeds."""
    found: dict[str, float | None] = {}
    for kind in COSTS:
        first = [one.facts[kind] for one in own if one.week == 0]
        later = [one.facts[kind] for one in own if one.week > 0]
        none_needed = own[0].model == FROZEN
        found[f"{kind}_first"] = float(np.mean(first)) if first else None
        found[f"{kind}_an_update"] = 0.0 if none_needed else float(np.mean(later)) if later else None
    return found


def table_rows(result: dict[str, Any]) -> list[list[str]]:
    """A printed table, best first: the header, then a row a model."""
    header = [
        "model",
        "Recall@10",
        "NDCG@10",
        "Recall@20",
        "new R@10",
        "new NDCG@10",
        "new R@20",
        "ours − this, Recall@20",
        "CPU s",
    ]
    rows = []
    for name, model in sorted(result["models"].items(), key=lambda pair: -(pair[1]["mean"][MAIN] or 0)):
        lead = model.get("ours_minus_this", {}).get(MAIN)
        gap = f"{lead['mean']:+.4f} [{lead['low']:+.4f}, {lead['high']:+.4f}]" if lead and lead["count"] else ""
        cost = model["seconds"]["cpu_seconds_an_update"]
        figures_of = [_number(model["mean"][metric]) for metric in METRICS]
        rows.append([name, *figures_of, gap, "–" if cost is None else f"{cost:.1f}"])
    return [header, *rows]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}".removeprefix("0")
