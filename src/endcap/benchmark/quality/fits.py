"""Fit every model for every seed, rank with it, and keep what is finished."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from endcap.benchmark.baselines import Baseline, all_baselines, choose
from endcap.benchmark.judging import rank
from endcap.benchmark.measuring import Cost
from endcap.benchmark.partial import PartialResults
from endcap.benchmark.quality.ours import NAME, fit_ours
from endcap.benchmark.quality.studies import ablations, cold_starts
from endcap.benchmark.quality.summary import Run
from endcap.benchmark.splits import Split
from endcap.models.blend import BlendedRecommender
from endcap.models.history import Floats, Scorer
from endcap.progress import Progress
from endcap.training.options import FitOptions

Fit = Callable[[], tuple[Scorer, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to fit and how to rank."""

    seeds: int
    baselines: bool
    mask_seen: bool
    ablation: bool = False
    cold_start: bool = False


def fit_all(
    split: Split, text: Floats | None, options: FitOptions, plan: Plan, finished: PartialResults, progress: Progress
) -> list[Run]:
    """A run for each baseline (they know no chance, so one seed), for each seed of Endcap's own, and for what is studied of the
    first of those.
    """

    def run(name: str, seed: int, fit: Fit, *, variant: bool = False) -> Run:
        kept = finished.load(name, seed)
        if kept is not None:
            progress(f"{name}, seed {seed}: kept from the run before")
            return Run(name, seed, *kept, variant=variant)
        progress(f"{name}, seed {seed}: fitting")
        scorer, facts = fit()
        with Cost() as cost:
            slates = rank(scorer, split.test, split.item_ids, mask_seen=plan.mask_seen)
        facts |= cost.facts("rank")
        finished.save(name, seed, slates, facts)
        return Run(name, seed, slates, facts, variant)

    def show(line: str) -> None:
        progress(f"  {line}")

    def ours(seed: int) -> tuple[BlendedRecommender, dict[str, Any]]:
        return fit_ours(split, text, options, seed, show)

    first_fit = functools.cache(partial(ours, options.seed))

    def first() -> BlendedRecommender:
        return first_fit()[0]

    baselines = all_baselines(options.recent_days, text) if plan.baselines else {}
    seeds = range(options.seed, options.seed + plan.seeds)
    studied = ablations(first, split, options) if plan.ablation else {}
    studied |= cold_starts(first) if plan.cold_start else {}
    fits: dict[int, Fit] = {seed: partial(ours, seed) for seed in seeds}
    if studied:
        fits[options.seed] = first_fit  # kept in memory; all others are let go, so that none adds to another's peak
    return [
        *(run(name, options.seed, partial(fit_baseline, one, split, plan, show)) for name, one in baselines.items()),
        *(run(NAME, seed, fit) for seed, fit in fits.items()),
        *(run(name, options.seed, fit, variant=True) for name, fit in studied.items()),
    ]


def fit_baseline(baseline: Baseline, split: Split, plan: Plan, progress: Progress) -> tuple[Scorer, dict[str, Any]]:
    """A fitted baseline, and its knobs, how they were chosen and what that cost."""
    with Cost() as cost:
        chosen = choose(baseline, split, mask_seen=plan.mask_seen, progress=progress)
    facts = {"train_seconds": chosen.fit_seconds, "hyper_parameters": chosen.knobs, "tried_on_validation": chosen.tried}
    return chosen.scorer, facts | cost.facts("choose")
