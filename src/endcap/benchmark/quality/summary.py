"""From slates to figures: means, intervals over users, spread over seeds, slices, and the paired lead over each baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from endcap.benchmark.judging import CUTS, beyond_accuracy, length_groups, means, measure, takers_of
from endcap.benchmark.splits import Split
from endcap.evaluation.report import Confidence
from endcap.evaluation.significance import Interval, bootstrap_columns

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
BY_LENGTH = ("recall@10", "ndcg@10", "recall@20")  # measures that are told by history length


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One finished fit."""

    model: str
    seed: int
    slates: Ints  # (U, K)
    facts: dict[str, Any]
    variant: bool = False  # of our own fit of the same seed: held against that one, not against the mean of all seeds


def summarise(runs: list[Run], ours: str | None, split: Split, confidence: Confidence, *, mask_seen: bool) -> dict[str, Any]:
    """All figures of each model, by model. Intervals are over users, each with her mean over the seeds."""
    learnt = split.known if split.learn_validation else split.train
    takers = takers_of(learnt.users, learnt.items, len(split.item_ids))
    people = len(np.unique(learnt.users))
    measured = [measure(run.slates, split.test, split.cold, mask_seen=mask_seen) for run in runs]

    def mean_of(name: str, seeds: set[int] | None = None) -> dict[str, Values]:
        """Each user's mean over the seeds; None: all."""
        own = [m for run, m in zip(runs, measured, strict=True) if run.model == name and (not seeds or run.seed in seeds)]
        return {key: np.mean([each[key] for each in own], axis=0) for key in own[0]}

    values: dict[str, dict[str, Values]] = {}
    leads: dict[str, dict[str, Values]] = {}
    models: dict[str, Any] = {}
    for name in dict.fromkeys(run.model for run in runs):
        own = [run for run in runs if run.model == name]
        values[name] = mean_of(name)
        if ours and name != ours:
            best = mean_of(ours, {run.seed for run in own} if own[0].variant else None)
            leads[name] = {key: best[key] - value for key, value in values[name].items()}
        beyond = [beyond_accuracy(run.slates, takers, people) for run in own]
        each = [m for run, m in zip(runs, measured, strict=True) if run.model == name]
        by_seed = {str(run.seed): {**means(m), **b} for run, m, b in zip(own, each, beyond, strict=True)}
        models[name] = {
            "mean": {**means(values[name]), **{key: float(np.mean([each[key] for each in beyond])) for key in beyond[0]}},
            "seeds": by_seed, "spread": _spread(by_seed), "training": {str(run.seed): run.facts for run in own},
        }  # fmt: skip
    _add_intervals(models, values, leads, length_groups(split.test), confidence)
    return models


def _spread(by_seed: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """Mean, standard deviation (over the seeds drawn, n - 1) and each value; nothing for a single seed."""
    if len(by_seed) < 2:
        return {}
    found = {}
    for key in next(iter(by_seed.values())):
        each = [value for seed in by_seed.values() if (value := seed[key]) is not None]
        if each:
            found[key] = {"mean": float(np.mean(each)), "std": float(np.std(each, ddof=1)), "each": each}
    return found


def _add_intervals(
    models: dict[str, Any], values: dict[str, dict[str, Values]], leads: dict[str, dict[str, Values]],
    groups: dict[str, npt.NDArray[np.bool_]], confidence: Confidence,
) -> None:  # fmt: skip
    """Every mean over users with its interval, all from the same drawn users."""
    columns: dict[tuple[str, str, str], Values] = {}
    for name, own in values.items():
        columns |= {(name, "intervals", key): value for key, value in own.items()}
        for group, inside in groups.items():
            columns |= {(name, f"history {group}", key): np.where(inside, own[key], np.nan) for key in BY_LENGTH}
        columns |= {(name, "lead", key): value for key, value in leads.get(name, {}).items()}
    matrix = np.stack(list(columns.values()), axis=1)
    found = bootstrap_columns(matrix, confidence.samples, confidence.level, confidence.seed)
    for (name, kind, key), interval in zip(columns, found, strict=True):
        target = models[name]
        if kind.startswith("history "):
            target = target.setdefault("by_history_length", {})
            kind = kind.removeprefix("history ")
        elif kind == "lead":
            kind = "endcap_minus_this"
        target.setdefault(kind, {})[key] = _plain(interval)


def _plain(interval: Interval) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in asdict(interval).items()}


def table_rows(models: Mapping[str, Any]) -> list[list[str]]:
    """A printed table, best first: the header, then a row a model."""
    header = ["model", *(f"Recall@{k}" for k in CUTS), "NDCG@10", "interval", "Endcap − this", "cold Recall@20", "fit s"]
    rows = []
    for name, model in sorted(models.items(), key=lambda pair: -(pair[1]["mean"]["ndcg@10"] or 0)):
        span, lead = model["intervals"]["ndcg@10"], model.get("endcap_minus_this", {}).get("ndcg@10")
        seconds = [facts.get("train_seconds", 0.0) for facts in model["training"].values()]
        rows.append([
            name, *(_number(model["mean"][f"recall@{k}"]) for k in CUTS), _number(model["mean"]["ndcg@10"]),
            f"{_number(span['low'])}-{_number(span['high'])}",
            f"{lead['mean']:+.4f} [{lead['low']:+.4f}, {lead['high']:+.4f}]" if lead else "",
            _number(model["mean"]["cold.recall@20"]), f"{float(np.mean(seconds)):.1f}",
        ])  # fmt: skip
    return [header, *rows]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}".removeprefix("0")
