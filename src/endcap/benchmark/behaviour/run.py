"""Behaviour prediction, side by side: the head, one rate, the popularity prior and LightGBM, judged on the newest exposures.

Log loss, Brier score and calibration error with intervals over shoppers, by slice, and where the world is simulated against the
true probabilities.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from endcap.benchmark.behaviour.case import Case, Floats
from endcap.benchmark.behaviour.chart import draw_reliability
from endcap.benchmark.behaviour.files import file_case
from endcap.benchmark.behaviour.peers import Predictions, lightgbm_trees, one_rate, popularity_prior
from endcap.benchmark.behaviour.shop import simulated_case
from endcap.benchmark.measuring import Cost, surroundings
from endcap.benchmark.result_file import check_out, write_json
from endcap.config import Params
from endcap.errors import InputError
from endcap.evaluation.calibration import brier_scores, calibration_error, log_losses, reliability
from endcap.evaluation.significance import clustered_bootstrap
from endcap.models.behaviour.head import BehaviourModel
from endcap.progress import Progress, silent
from endcap.training.behaviour.head import TASKS, fit_head

HEAD, PRIOR, TREES, TRUTH = "behaviour head", "popularity prior", "LightGBM", "truth"
SAMPLES, ECE_SAMPLES = 1000, 200


def run(
    params: Params,
    files: Sequence[Path],
    items: Path | None,
    seeds: int,
    progress: Progress = silent,
    *,
    out: Path | None = None,
    add: bool = False,
) -> dict[str, Any]:
    """Every case, seed by seed: of the files together, or without any of simulated shops. Written to `out` after each.

    `add`: cases of other names that `out` already holds are kept.
    """
    check_out(out, *files, items)
    earlier = _cases_of(out) if out and add else []
    read = file_case(files, items) if files else None
    for note in read.facts["notes"] if read else ():
        progress(f"note: {note}")
    cases: list[dict[str, Any]] = []
    for seed in range(1, seeds + 1):
        case = read or simulated_case(params, seed, progress)
        with Cost() as cost:
            found = compare(case, seed, progress)
        cases.append({"seed": seed, **found, **cost.facts("compare")})
        result = {"what": "behaviour", "date": f"{datetime.now(UTC):%Y-%m-%d}", **surroundings(), "cases": cases}
        result["versions"]["lightgbm"] = importlib.metadata.version("lightgbm")
        if out:
            kept = [one for one in earlier if one["name"] != case.name]
            write_json(out, result | {"cases": kept + cases})
            firsts = {one["name"]: one for one in reversed(kept + cases)}
            draw_reliability(list(firsts.values()), out.with_suffix(".png"))
    return result


def _cases_of(path: Path) -> list[dict[str, Any]]:
    """The cases of an earlier result; none where there is no file.

    Raises:
        InputError: it is no result of this benchmark.
    """
    if not path.exists():
        return []
    action = "Name another file, or leave out --add."
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cases"]
        known = all({"name", "tasks", "rows"} <= one.keys() for one in found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"cannot be read as a result ({type(error).__name__}: {error})"
        raise InputError(what, field="out", value=str(path), action=action) from error
    if not known:
        raise InputError("is of another benchmark, or too old", field="out", value=str(path), action=action)
    return found


def compare(case: Case, seed: int, progress: Progress = silent) -> dict[str, Any]:
    """Fit everything on the rows before the test and judge all of it on the test rows."""
    begun = time.monotonic()
    head = fit_head(case.before.features, case.before.outcomes, case.learn, case.before.shoppers, seed=seed, progress=progress)
    seconds = {HEAD: round(time.monotonic() - begun, 1)}
    begun = time.monotonic()
    predictions = predict_all(case, head, seed, progress)
    seconds["peers"] = round(time.monotonic() - begun, 1)
    return {
        "name": case.name,
        "facts": case.facts,
        "rows": {"learn": int(case.learn.sum()), "calibrate": int((~case.learn).sum()), "test": len(case.test.outcomes)},
        "rates": {name: float(case.test.outcomes[:, TASKS.index(name)].mean()) for name in case.tasks},
        "positives": {name: int(case.test.outcomes[:, TASKS.index(name)].sum()) for name in case.tasks},
        "head": {
            "tasks": {name: task.by + (f": {task.reason}" if task.reason else "") for name, task in head.tasks.items()},
            "calibration": {"click": head.calibrate_click.kind, "purchase": head.calibrate_purchase.kind},
            **head.facts,
        },
        "seconds": seconds,
        "tasks": {name: judge_task(case, name, predictions, seed) for name in case.tasks},
    }


def predict_all(case: Case, head: BehaviourModel, seed: int, progress: Progress) -> Predictions:
    """task → model → probabilities of the test rows; calibrated, and raw where the two differ in kind."""
    raw, calibrated = head.raw_chances(case.test.features), head.chances(case.test.features)
    found: Predictions = {}
    for name in case.tasks:
        task = TASKS.index(name)
        found[name] = {HEAD: getattr(calibrated, name), f"{HEAD}, raw": getattr(raw, name)}
        found[name] |= one_rate(case, task) | popularity_prior(case, task) | lightgbm_trees(case, task, seed, progress)
        if case.test.truth is not None:
            found[name][TRUTH] = case.test.truth[:, task]
    return found


def judge_task(case: Case, name: str, predictions: Predictions, seed: int) -> dict[str, Any]:
    """Every model's figures on one outcome, the head's differences from its peers, and its calibration by slice."""
    happened, shoppers = case.test.outcomes[:, TASKS.index(name)], case.test.shoppers
    truth = None if case.test.truth is None else case.test.truth[:, TASKS.index(name)]
    models = predictions[name]
    losses = {model: log_losses(chances, happened) for model, chances in models.items()}
    against = {}
    for model in models:
        if model not in (HEAD, TRUTH):
            gap = clustered_bootstrap(losses[HEAD] - losses[model], shoppers, SAMPLES, seed=seed)
            against[model] = {"difference": gap.mean, "low": gap.low, "high": gap.high}
    return {
        "models": {model: _figures(chances, happened, shoppers, truth, seed) for model, chances in models.items()},
        "head_minus": against,
        "slices": _slices(case, models[HEAD], happened, truth),
        "reliability": reliability(models[HEAD], happened).round(6).to_dict("records"),
    }


def _figures(chances: Floats, happened: Floats, shoppers: Any, truth: Floats | None, seed: int) -> dict[str, Any]:
    loss = clustered_bootstrap(log_losses(chances, happened), shoppers, SAMPLES, seed=seed)
    low, high = _ece_interval(chances, happened, shoppers, seed)
    figures = {
        "log_loss": loss.mean,
        "log_loss_low": loss.low,
        "log_loss_high": loss.high,
        "brier": float(brier_scores(chances, happened).mean()),
        "ece": calibration_error(chances, happened),
        "ece_low": low,
        "ece_high": high,
        "ece_equal_width": calibration_error(chances, happened, "equal_width"),
        "mean_predicted": float(chances.mean()),
    }
    if truth is not None:
        figures |= {
            "ece_to_truth": calibration_error(chances, truth),
            "mean_error_to_truth": float(np.abs(chances - truth).mean()),
        }
    return figures


def _ece_interval(chances: Floats, happened: Floats, shoppers: Any, seed: int) -> tuple[float, float]:
    """Percentile bootstrap over shoppers. Drawing anew adds chance to what chance already raised: it lies rather high."""
    _, codes = np.unique(np.asarray(shoppers, str), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    first = np.searchsorted(codes[order], np.arange(codes.max() + 2))
    rng, errors = np.random.default_rng(seed), []
    for _ in range(ECE_SAMPLES):
        drawn = rng.integers(0, len(first) - 1, len(first) - 1)
        rows = np.concatenate([order[first[one] : first[one + 1]] for one in drawn])
        errors.append(calibration_error(chances[rows], happened[rows]))
    low, high = np.quantile(errors, [0.025, 0.975])
    return float(low), float(high)


def _slices(case: Case, chances: Floats, happened: Floats, truth: Floats | None) -> list[dict[str, Any]]:
    rows = []
    for cut in case.test.slices:
        values = case.test.slices[cut].to_numpy(object)
        for value in sorted(set(values)):
            inside = values == value
            row: dict[str, Any] = {"cut": str(cut), "slice": str(value), "rows": int(inside.sum())}
            row |= {"predicted": float(chances[inside].mean()), "happened": float(happened[inside].mean())}
            row |= {"ece": calibration_error(chances[inside], happened[inside])}
            row |= {"log_loss": float(log_losses(chances[inside], happened[inside]).mean())}
            if truth is not None:
                row["ece_to_truth"] = calibration_error(chances[inside], truth[inside])
            rows.append(row)
    return rows
