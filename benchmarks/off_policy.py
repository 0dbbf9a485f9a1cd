"""Off-policy estimates where the truth is known: how often intervals hold it, and error against sample size.

    python -m benchmarks.off_policy [--runs 500] [--out benchmarks/results/off_policy.json]

A made-up shop: shoppers of four types, twenty items of four kinds that earn by type and kind; a logging policy, one near it and
one far from it, all of which know the type. Slates have three places, and a click makes the next one half as likely. A shopper
comes four times, so rows depend on each other.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.record import record
from endcap.evaluation.off_policy import choices, slates
from endcap.evaluation.off_policy.estimate import Estimate
from endcap.evaluation.off_policy.intervals import Bounds, bernstein, bootstrap
from endcap.evaluation.off_policy.reward_model import cross_fit
from endcap.evaluation.off_policy.tuning import least_error, thresholds
from endcap.evaluation.off_policy.weights import effective_rows, importance_weights, marginal_weights

Floats = npt.NDArray[np.float64]
TYPES, KINDS, ITEMS, PLACES, VISITS = 4, 4, 20, 3, 4
TIRED = 0.5  # what a click leaves of the next place's chance
CONFIDENCE, WANTED = 0.9, 0.88
ANSWERS = 2000  # of a log whose intervals are tried: choices, or slates
SIZES = (250, 1000, 4000, 16000)  # shown items
STRENGTH = {"near": 3.0, "far": 8.0}  # how much better the policy knows what earns
FAR_RUNS = 200
BIASED = ("dm", "switch_dr", "dr_os", "iips", "sniips")  # in this shop, or by design: their intervals need not hold the truth
Found = tuple[dict[str, Estimate], dict[str, Bounds], npt.NDArray[np.int64], Floats]


class Shop:
    """The truth: `earns[type, item]`, and two policies [type, item]."""

    def __init__(self, strength: float, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.kinds = np.arange(ITEMS) % KINDS
        self.earns = rng.beta(1.5, 8, (TYPES, KINDS))[:, self.kinds]
        noise = 0.8 * rng.normal(size=(TYPES, ITEMS))
        self.logging, self.policy = _softmax(noise), _softmax(strength * self.earns + 0.5 * noise)

    def value(self, places: int) -> float:
        """What the policy earns a shown item, exactly."""
        first = (self.policy * self.earns).sum(axis=1)
        earned = [first]
        for _ in range(1, places):
            earned.append(first * (1 - (1 - TIRED) * earned[-1]))
        return float(np.mean(earned))

    def log(self, slates_count: int, places: int, rng: np.random.Generator) -> Found:
        """Estimates by every estimator from one log, the bounds of their terms, the shopper of each slate, and the weights."""
        shoppers = np.arange(slates_count) // VISITS
        kind = rng.integers(0, TYPES, shoppers[-1] + 1)[shoppers]
        items = np.stack([_draw(self.logging[kind], rng) for _ in range(places)], axis=1)
        rewards = np.zeros(items.shape)
        for place in range(places):
            before = rewards[:, place - 1] if place else 0.0
            chance = self.earns[kind, items[:, place]] * (1 - (1 - TIRED) * before)
            rewards[:, place] = rng.random(len(items)) < chance
        flat, of_row = items.ravel(), np.repeat(kind, places)
        policy, logging = self.policy[of_row], self.logging[of_row]
        rows = np.arange(len(flat))
        weights = importance_weights(policy[rows, flat], logging[rows, flat])
        where = np.tile(np.arange(places), len(items))
        fitted = cross_fit(rewards.ravel(), flat, where, np.repeat(shoppers, places), ITEMS, np.eye(TYPES)[of_row])
        shown, played = fitted.of_shown(flat), fitted.of_policy(self.policy, of_row)
        if places == 1:
            marginal = marginal_weights(policy, logging, self.kinds, flat)
            return *_choices(rewards[:, 0], weights, marginal, shown, played), shoppers, weights
        shape = (len(items), places)
        return *_slates(rewards, *(part.reshape(shape) for part in (weights, shown, played))), shoppers, weights


def _softmax(scores: Floats) -> Floats:
    chances = np.exp(scores)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def _draw(chances_NA: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    below = np.cumsum(chances_NA, axis=1) < rng.random(len(chances_NA))[:, None]
    return np.minimum(below.sum(axis=1), chances_NA.shape[1] - 1)


def _choices(
    rewards: Floats, weights: Floats, marginal: Floats, shown: Floats, played: Floats
) -> tuple[dict[str, Estimate], dict[str, Bounds]]:
    both, limits = (rewards, weights, shown, played), thresholds(weights)

    def tuned(make: Callable[[float], Estimate], values: Floats) -> Estimate:
        tried = [make(value) for value in values]
        return tried[least_error([one.tops[:, 0] for one in tried])]

    estimates = {
        "ipw": choices.ipw(rewards, weights),
        "snipw": choices.snipw(rewards, weights),
        "dm": choices.dm(played),
        "dr": choices.dr(*both),
        "sndr": choices.sndr(*both),
        "switch_dr": tuned(lambda limit: choices.switch_dr(*both, limit), limits),
        "dr_os": tuned(lambda one: choices.dr_os(*both, one), np.square(limits)),
        "mips": choices.ipw(rewards, marginal),
        "snmips": choices.snipw(rewards, marginal),
    }
    most, one = float(weights.max()), (0.0, 1.0)
    model = (float(min(shown.min(), played.min())), float(max(shown.max(), played.max())))
    bounds = {"ipw": Bounds.of(one, most), "dr": Bounds.of(one, most, model), "mips": Bounds.of(one, float(marginal.max()))}
    return estimates, bounds


def _slates(
    rewards_SK: Floats, weights_SK: Floats, shown_SK: Floats, played_SK: Floats
) -> tuple[dict[str, Estimate], dict[str, Bounds]]:
    cascade_SK, one = slates.cascade_weights(weights_SK), (0.0, 1.0)
    model_SK = slates.with_places_below(shown_SK, played_SK)
    estimates = {
        "sips": slates.sips(rewards_SK, cascade_SK),
        "snsips": slates.snsips(rewards_SK, cascade_SK),
        "iips": slates.iips(rewards_SK, weights_SK),
        "sniips": slates.sniips(rewards_SK, weights_SK),
        "rips": slates.rips(rewards_SK, cascade_SK),
        "snrips": slates.snrips(rewards_SK, cascade_SK),
        "cascade_dr": slates.cascade_dr(rewards_SK, cascade_SK, *model_SK),
    }
    bounds = {"sips": Bounds.of(one, float(cascade_SK[:, -1].max())), "rips": Bounds.of(one, float(cascade_SK.max()))}
    return {name: estimate / PLACES for name, estimate in estimates.items()}, bounds


def coverage(shop: Shop, places: int, runs: int) -> dict[str, Any]:
    """How often the intervals of a log hold the truth, and how wide they are on average."""
    truth, rows, rested = shop.value(places), [], []
    hits: dict[tuple[str, str], list[bool]] = {}
    widths: dict[tuple[str, str], list[float]] = {}
    for run in range(runs):
        estimates, bounds, shoppers, weights = shop.log(ANSWERS, places, np.random.default_rng([1, places, run]))
        found = {(name, "bootstrap"): one for name, one in bootstrap(estimates, shoppers, 400, CONFIDENCE, seed=run).items()}
        for name, bound in bounds.items():
            found[name, "bernstein"] = bernstein(estimates[name], bound, shoppers, CONFIDENCE)
        rows.append(effective_rows(weights))
        whole = weights.reshape(-1, places).prod(axis=1)
        rested.append(effective_rows(whole, shoppers))
        for key, one in found.items():
            hits.setdefault(key, []).append(one.low <= truth <= one.high)
            widths.setdefault(key, []).append(one.high - one.low)
    told = [
        {
            "estimator": name,
            "interval": kind,
            "coverage": float(np.mean(hits[name, kind])),
            "coverage_of_first_200": float(np.mean(hits[name, kind][:200])),
            "mean_width": float(np.mean(widths[name, kind])),
            "biased": name in BIASED,
        }
        for name, kind in hits
    ]
    return {
        "places": places,
        "truth": truth,
        "effective_rows": float(np.mean(rows)),
        "effective_shoppers": float(np.mean(rested)),
        "runs": runs,
        "intervals": told,
    }


def errors(shop: Shop, places: int, runs: int) -> dict[str, Any]:
    """Root mean squared error and bias by rows of the log."""
    truth = shop.value(places)
    told: dict[str, list[dict[str, float]]] = {}
    for size in SIZES:
        values: dict[str, list[float]] = {}
        for run in range(runs):
            estimates, *_ = shop.log(size // places, places, np.random.default_rng([2, places, size, run]))
            for name, one in estimates.items():
                values.setdefault(name, []).append(one.value)
        for name, all_of in values.items():
            gap = np.array(all_of) - truth
            told.setdefault(name, []).append({"rows": size, "rmse": float(np.sqrt((gap**2).mean())), "bias": float(gap.mean())})
    return {"places": places, "runs": runs, "by_rows": told}


def draw(result: dict[str, Any], path: Path) -> None:
    """Coverage of the intervals, and error by rows of choices and of slates."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, *right) = plt.subplots(1, 3, figsize=(14, 5), constrained_layout=True)
    rows = [one for world in result["coverage"]["near"] for one in world["intervals"]][::-1]
    beyond = [one for world in result["coverage"]["far"] for one in world["intervals"]][::-1]
    colours = ["#b8b8b8" if one["biased"] else "#0b6e4f" if one["interval"] == "bootstrap" else "#8fbfae" for one in rows]
    left.barh([f"{one['estimator']}, {one['interval']}" for one in rows], [one["coverage"] for one in rows], color=colours)
    left.plot(
        [one["coverage"] for one in beyond], range(len(beyond)), "D", color="#8c2f39", markersize=4, label="a policy far away"
    )
    left.legend(loc="lower left", fontsize=8)
    left.axvline(CONFIDENCE, color="black", linewidth=1)
    left.set(xlabel=f"share of logs whose {CONFIDENCE:.0%} interval holds the truth", xlim=(0, 1), title="Coverage")
    left.tick_params(axis="y", labelsize=7)
    for axis, world in zip(right, result["errors"], strict=True):
        for name, points in world["by_rows"].items():
            style = ":" if name in BIASED else "-"
            axis.plot([one["rows"] for one in points], [one["rmse"] for one in points], style, marker=".", label=name)
        title = "Choices" if world["places"] == 1 else f"Slates of {world['places']}"
        axis.set(xscale="log", yscale="log", xlabel="shown items in the log", ylabel="RMSE per shown item", title=title)
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=500, help="logs whose intervals are tried (%(default)s)")
    parser.add_argument("--error-runs", type=int, default=60, help="logs of each size (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "off_policy.json")
    given = parser.parse_args()
    shops, begun, load = {name: Shop(value) for name, value in STRENGTH.items()}, time.monotonic(), os.getloadavg()[0]
    runs = {"near": given.runs, "far": min(FAR_RUNS, given.runs)}
    figures = {
        "confidence": CONFIDENCE,
        "answers": ANSWERS,
        "load_1m_before": load,
        "coverage": {name: [coverage(shop, places, runs[name]) for places in (1, PLACES)] for name, shop in shops.items()},
        "errors": [errors(shops["near"], places, given.error_runs) for places in (1, PLACES)],
    }
    figures["seconds"] = round(time.monotonic() - begun, 1)
    draw(figures, given.out.with_suffix(".png"))
    result = record("off-policy", figures, given.out)
    for name, worlds in result["coverage"].items():
        for one in (one for world in worlds for one in world["intervals"]):
            short = "" if one["biased"] or one["coverage"] >= WANTED else f"  below {WANTED}"
            print(f"{name:>5} {one['estimator']:>10} {one['interval']:>9} {one['coverage']:.3f} {one['mean_width']:.4f}{short}")


if __name__ == "__main__":
    main()
