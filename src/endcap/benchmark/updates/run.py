"""`endcap benchmark updates`: week by week, each ranked before it is learnt, several ways to keep a model fresh side by side.

The figures come from `figures.py`; what the weeks hold from `shop.py`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from endcap.benchmark.baselines import Baseline, all_baselines
from endcap.benchmark.input_files import describe_files
from endcap.benchmark.partial import PartialResults
from endcap.benchmark.result_file import check_out, publish
from endcap.benchmark.texts import encode_texts
from endcap.benchmark.updates.chart import draw_updates
from endcap.benchmark.updates.figures import Judged, figures
from endcap.benchmark.updates.judging import choose_knobs, slates_of
from endcap.benchmark.updates.models import SECONDS, Models
from endcap.benchmark.updates.shop import WeeklyShop, from_files, online_retail
from endcap.benchmark.updates.strategies import STRATEGIES, Stopwatch, Updater
from endcap.config import Params
from endcap.errors import InputError
from endcap.evaluation.report import Confidence
from endcap.progress import Progress, silent
from endcap.training.options import FitOptions

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    interactions: Path | None  # None: Online Retail
    items: Path | None
    start: datetime
    weeks: int
    strategies: tuple[str, ...] = tuple(STRATEGIES)
    seeds: int = 1
    baselines: bool = True
    out: Path | None = None


def run_updates(
    request: Request,
    params: Params,
    options: FitOptions,
    data_dir: Path | None,
    cache: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The whole benchmark; writes `request.out` and a PNG beside it, and returns what it wrote.

    Raises:
        InputError: a strategy is unknown, a file cannot be used, or the weeks lie outside the events.
        ServiceUnavailable: Online Retail is neither in `data_dir` nor to be downloaded.
    """
    begun = time.monotonic()
    check(request)
    shop = read_shop(request, data_dir, cache)
    for note in shop.notes:
        progress(f"note: {note}")
    facts = describe(request, shop)
    finished = PartialResults(request.out, {"data": facts, "params": params.model_dump(mode="json"), "options": options})
    text, text_facts = encode_texts(
        shop.item_table(), shop.events.known_at(shop.weeks[0]), params, cache / "text-vectors", progress
    )
    judged: list[Judged] = []
    if request.baselines:
        for name, baseline in all_baselines(options.recent_days, None).items():
            judged += run_baseline(name, baseline, shop, finished, progress)
    for seed in range(options.seed, options.seed + request.seeds):
        updater = Updater(shop, text, dataclasses.replace(options, seed=seed))
        judged += run_strategies(request.strategies, updater, finished, progress)
    confidence = Confidence(params.evaluate.bootstrap_samples, params.evaluate.confidence, params.evaluate.seed)
    found = {
        "what": "updates", "format": FORMAT, **facts, "text": text_facts, **figures(judged, shop, confidence),
        "hyper_parameters": dataclasses.asdict(options),
    }  # fmt: skip
    return publish(found, begun, request.out, draw_updates, finished)


def check(request: Request) -> None:
    """See that something known is asked for.

    Raises:
        InputError: names what is not.
    """
    check_out(request.out, request.interactions, request.items)
    unknown = sorted(set(request.strategies) - set(STRATEGIES))
    if unknown:
        action = f"Known: {', '.join(STRATEGIES)}."
        raise InputError("no such strategy", field="strategies", value=", ".join(unknown), action=action)
    if request.weeks < 1 or request.seeds < 0:
        value = (request.weeks, request.seeds)
        raise InputError("nothing to judge", field="weeks, seeds", value=value, action="Give at least one week.")
    if not request.baselines and not (request.strategies and request.seeds):
        action = "Give at least one strategy and one seed, or the baselines."
        raise InputError("nothing to fit", field="strategies", value=request.strategies, action=action)


def read_shop(request: Request, data_dir: Path | None, cache: Path) -> WeeklyShop:
    """The shop that is asked for."""
    if request.interactions is None:
        return online_retail(data_dir, cache / "downloads", request.start, request.weeks)
    return from_files(request.interactions, request.items, request.start, request.weeks)


def describe(request: Request, shop: WeeklyShop) -> dict[str, Any]:
    """What was judged on what. No paths: they say nothing elsewhere."""
    files = describe_files(interactions=request.interactions, items=request.items)
    return {
        "protocol": {
            "name": "weekly", "start": shop.weeks[0].isoformat(), "weeks": [week.date().isoformat() for week in shop.weeks],
            "shoppers": [len(shop.cases(week)) for week in shop.weeks], "seeds": request.seeds,
            "listed_items": [len(shop.listed(week)) for week in shop.weeks],
        },
        "data": {
            "shop": shop.name, "interactions": len(shop.events), "users": len(np.unique(shop.events.users)),
            "items": len(shop.events.item_ids), "files": files, "notes": list(shop.notes),
        },
        "strategies": {name: STRATEGIES[name] for name in request.strategies},
    }  # fmt: skip


def run_baseline(name: str, baseline: Baseline, shop: WeeklyShop, finished: PartialResults, progress: Progress) -> list[Judged]:
    """A baseline fitted anew before each week, with knobs chosen before the first."""
    found = []
    knobs: dict[str, Any] | None = None
    for number, week in enumerate(shop.weeks):
        kept = finished.load(f"{name} {week:%Y-%m-%d}", 0)
        if kept is None:
            if knobs is None:
                progress(f"{name}: choosing and fitting")
                knobs = choose_knobs(shop, baseline, lambda line: progress(f"  {line}"))
            with Stopwatch() as watch:
                scorer = baseline.make(**knobs).fit(shop.known(week), week)
            kept = slates_of(scorer, shop, shop.cases(week)), {**watch.facts(), "hyper_parameters": knobs}
            finished.save(f"{name} {week:%Y-%m-%d}", 0, *kept)
        knobs = kept[1]["hyper_parameters"]
        found.append(Judged(name, 0, number, *kept))
    return found


def run_strategies(strategies: Sequence[str], updater: Updater, finished: PartialResults, progress: Progress) -> list[Judged]:
    """Every strategy week after week, all of them in one week before the next, so that a busy machine is busy for all."""
    shop, seed = updater.shop, updater.options.seed
    found: list[Judged] = []
    models = Models(updater, finished, progress)
    for number, week in enumerate(shop.weeks):
        cases = shop.cases(week)
        for strategy in strategies:
            name = f"{strategy} {week:%Y-%m-%d}"
            kept = finished.load(name, seed)
            if kept is None:
                progress(f"{name}, seed {seed}: fitting")
                model = models.get(strategy, number)
                kept = slates_of(model, shop, cases), dict(model.config[SECONDS])
                finished.save(name, seed, *kept)
            else:
                progress(f"{name}, seed {seed}: kept from the run before")
            found.append(Judged(strategy, seed, number, *kept))
    return found
