"""How well everybody ranks, by one judge, and how long each took to get there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers import contestants
from benchmarks.peers.exchange import Cases, Job, judge_slates, read_test
from endcap.evaluation.significance import bootstrap_mean, paired_bootstrap

OURS = "endcap"
JUDGED_BY = "ndcg@10"
SAMPLES, CONFIDENCE, SEED = 500, 0.95, 1
KEPT = (
    "validation", "best_epoch", "stopped_by", "train_seconds", "seconds_to_best", "grid_seconds", "sequences_per_second",
    "peak_above_baseline_mib", "peak_mib", "chosen", "tried", "negatives", "parameters", "mark_epoch", "epochs", "versions",
)  # fmt: skip
Runner = Callable[..., dict[str, Any]]
Values = npt.NDArray[np.float64]


def measure(
    base: Job, folder: Path, digest: str, models: list[str], seeds: int, settings: dict[str, Any], run: Runner = contestants.run
) -> dict[str, Any]:
    """Every model and seed, one after the other; `settings` are the peer's fastest, found by throughput."""
    test = read_test(Path(base.split))
    rows: dict[str, Any] = {}
    values: dict[str, Values] = {}
    for seed in range(1, seeds + 1):
        for model in models:
            fast = settings if model.startswith("rectools") else {}
            facts = run(replace(base, model=model, mode="quality", seed=seed, settings=fast), folder, digest)
            values[f"{model} {seed}"] = judge_slates(np.load(Path(facts["folder"]) / "slates.npy"), test)[JUDGED_BY]
            rows.setdefault(model, []).append(judged(facts, test))
    return {"models": {name: summarise(runs) for name, runs in rows.items()}, "differences": differences(values, models, seeds)}


def judged(facts: dict[str, Any], test: Cases) -> dict[str, Any]:
    """The test's figures of one run: at its best, and of what it had when the clock passed the mark."""
    folder = Path(facts["folder"])
    best = judge_slates(np.load(folder / "slates.npy"), test)
    interval = bootstrap_mean(best[JUDGED_BY], SAMPLES, CONFIDENCE, SEED)
    figures: dict[str, Any] = {name: float(value.mean()) for name, value in best.items()}
    figures["interval"] = [interval.low, interval.high]
    figures["at_mark"] = None  # nothing was ready
    if (folder / "slates_at_mark.npy").exists():
        figures["at_mark"] = float(judge_slates(np.load(folder / "slates_at_mark.npy"), test)[JUDGED_BY].mean())
    elif facts["train_seconds"] <= facts["mark_seconds"]:
        figures["at_mark"] = figures[JUDGED_BY]
    return figures | {name: facts[name] for name in KEPT if name in facts}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, with every run beside them."""
    numbers = [name for name, value in runs[0].items() if isinstance(value, float | int) and not isinstance(value, bool)]
    means = {
        name: float(np.mean([one[name] for one in runs])) for name in numbers if all(one.get(name) is not None for one in runs)
    }
    return {"mean": means, "interval": runs[0]["interval"], "runs": runs}


def differences(values: dict[str, Values], models: list[str], seeds: int) -> dict[str, Any]:
    """Ours less each other's NDCG@10 over the same users, with the interval; users' means over seeds."""
    if OURS not in models:
        return {}
    mean = {model: np.mean([values[f"{model} {seed}"] for seed in range(1, seeds + 1)], axis=0) for model in models}
    pairs = {model: paired_bootstrap(mean[OURS], mean[model], SAMPLES, CONFIDENCE, SEED) for model in models if model != OURS}
    return {model: {"mean": pair.mean, "low": pair.low, "high": pair.high} for model, pair in pairs.items()}
