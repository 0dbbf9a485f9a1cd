"""What stands beside the behaviour head: one rate for all, the popularity prior (smoothed rates by item), LightGBM.

Each is given the same rows and, where it takes any, the same features; each is chosen and calibrated on the calibration rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from endcap.benchmark.behaviour.case import Case, Floats
from endcap.models.behaviour.item_rates import ItemRates
from endcap.progress import Progress
from endcap.training.behaviour.calibration import choose_map
from endcap.training.behaviour.head import TASKS

STRENGTHS = (10.0, 30.0, 100.0, 300.0, 1000.0, 10_000.0)
LEAVES = (4, 8, 16, 31)
Predictions = dict[str, dict[str, Floats]]  # model → task → (N,) probabilities of the test rows


def one_rate(case: Case, task: int) -> dict[str, Floats]:
    """The rate of everything before the test."""
    rate = (case.before.outcomes[:, task].sum() + 0.5) / (len(case.before.outcomes) + 1)
    return {"one rate": np.full(len(case.test.outcomes), rate)}


def popularity_prior(case: Case, task: int) -> dict[str, Floats]:
    """Rates by item; how strongly they are drawn to the mean is chosen on the calibration rows, then they count those too."""
    before, other = case.before, ~case.learn
    early = ItemRates.count(before.item_ids[case.learn], before.outcomes[case.learn])
    happened = before.outcomes[other, task]
    tried = {strength: early.rates(before.item_ids[other], strength)[:, task] for strength in STRENGTHS}
    best = min(STRENGTHS, key=lambda strength: _loss(tried[strength], happened))
    raw = case.rates.rates(case.test.item_ids, best)[:, task]
    return {"popularity prior, raw": raw, "popularity prior": choose_map(tried[best], happened, before.shoppers[other])(raw)}


def lightgbm_trees(case: Case, task: int, seed: int, progress: Progress) -> dict[str, Floats]:
    """Boosted trees (Ke et al. 2017), one model a task; leaves and rounds chosen on the calibration rows."""
    import lightgbm

    before, other = case.before, ~case.learn
    happened = before.outcomes[:, task]
    if not 0 < happened[case.learn].sum() < case.learn.sum() or not 0 < happened[other].sum() < other.sum():
        return {}
    x = before.features.values
    best: tuple[float, Any] = (float("inf"), None)
    for leaves in LEAVES:
        options = {
            "objective": "binary", "num_leaves": leaves, "learning_rate": 0.03, "min_data_in_leaf": 50, "lambda_l2": 10.0,
            "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "num_threads": 1, "seed": seed,
            "deterministic": True, "verbosity": -1,
        }  # fmt: skip
        train = lightgbm.Dataset(x[case.learn], happened[case.learn])
        valid = lightgbm.Dataset(x[other], happened[other], reference=train)
        model = lightgbm.train(
            options, train, 600, valid_sets=[valid], callbacks=[lightgbm.early_stopping(40, verbose=False)]
        )  # fmt: skip
        loss = float(model.best_score["valid_0"]["binary_logloss"])
        progress(f"LightGBM, {TASKS[task]}, {leaves} leaves: validation loss {loss:.5f} after {model.best_iteration} rounds")
        best = min(best, (loss, model), key=lambda one: one[0])
    trees = best[1]
    raw = np.asarray(trees.predict(case.test.features.values))
    calibrated = choose_map(np.asarray(trees.predict(x[other])), happened[other], before.shoppers[other])(raw)
    return {"LightGBM, raw": raw, "LightGBM": calibrated}


def _loss(chances: Floats, happened: Floats) -> float:
    p = np.clip(chances, 1e-7, 1 - 1e-7)
    return float(-np.mean(happened * np.log(p) + (1 - happened) * np.log1p(-p)))
