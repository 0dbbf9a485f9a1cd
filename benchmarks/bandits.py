"""What exploring costs and brings: regret of every kind of policy in the simulated shop, against the best fixed policy.

    python -m benchmarks.bandits [--seeds 8] [--visits 2000] [--out benchmarks/results/bandits.json]

The world is `bandits_world.py`; requests go through the real recommender. What was shown is learnt a batch of visits later.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.bandits_world import BATCH, HEAD, PLACES, World
from benchmarks.record import record
from endcap.exploring import LEARNING, Defined
from endcap.policy.policies import Policy, block_of, make
from endcap.policy.state import State

POLICIES: dict[str, dict[str, Any]] = {
    "greedy": {"kind": "greedy"},
    "uniform": {"kind": "uniform"},
    "epsilon_greedy": {"kind": "epsilon_greedy", "epsilon": 0.1},
    "softmax": {"kind": "softmax", "temperature": 0.5},
    "lin_ucb": {"kind": "lin_ucb"},
    "thompson": {"kind": "thompson"},
    "neural_linear": {"kind": "neural_linear"},
}
LEVEL = 0.95


def play(world: World, defined: Defined, seed: int) -> npt.NDArray[np.float64]:
    """(V,) the expected clicks of each slate. A learning policy learns from batches of visits that are over."""
    random, state = np.random.default_rng([seed, 1]), State("click 1")
    policy, values = _learnt(world, defined, state), np.empty(len(world.visits))
    waiting: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]] = []
    ready: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]] = []
    for visit in range(len(world.visits)):
        if visit and visit % BATCH == 0 and defined.kind in LEARNING:
            for features, clicks in ready:  # shown a batch ago: their time is over
                state = state.add(world.facts.feature_set, features.astype(np.float64), clicks)
            ready, waiting = waiting, []
            policy = _learnt(world, defined, state)
        slate, chances = world.show(visit, policy, random)
        values[visit] = chances.sum()
        clicks = (random.random(PLACES) < chances).astype(np.float64)
        waiting.append((np.stack([place.features for place in slate if place.features is not None]), clicks))
    return values


def _learnt(world: World, defined: Defined, state: State) -> Policy:
    known = state.about(block_of(defined, world.facts.feature_set))
    return make(defined, world.facts.feature_set, known, str(known.rows))


def best_fixed(world: World, seed: int) -> tuple[str, npt.NDArray[np.float64]]:
    """The fixed policy that earns most here, and (V,) what it earns: by the model, evenly, or by the line that fits the truth
    best, of either set of features."""
    fixed = {name: make(Defined.model_validate({"name": name, **POLICIES[name]})) for name in ("greedy", "uniform")}
    features, truth = world.truth()
    known = State("truth").add(world.facts.feature_set, features, truth)
    for kind in ("thompson", "neural_linear"):  # their lines, without any doubt
        sure = {"name": f"best-line-of-{kind}", "kind": kind, "scale": 0.0, "floor": 1e-9, "ridge": 1e-3, "draws": 10}
        defined = Defined.model_validate(sure)
        about = known.about(block_of(defined, world.facts.feature_set))
        fixed[defined.name] = make(defined, world.facts.feature_set, about)
    earned = {}
    for name, policy in fixed.items():
        random = np.random.default_rng([seed, 2])
        earned[name] = np.array([world.show(visit, policy, random)[1].sum() for visit in range(len(world.visits))])
    best = max(earned, key=lambda name: float(earned[name].mean()))
    return best, earned[best]


def study(seeds: int, visits: int) -> dict[str, Any]:
    """Curves of cumulative regret by policy, with intervals over seeds (each another shop)."""
    curves: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in POLICIES}
    earned: dict[str, list[float]] = {name: [] for name in POLICIES}
    late: dict[str, list[float]] = {name: [] for name in POLICIES}
    fixed = []
    for seed in range(seeds):
        world = World(seed, visits)
        name, best = best_fixed(world, seed)
        fixed.append({"policy": name, "clicks_a_slate": float(best.mean())})
        for policy, knobs in POLICIES.items():
            defined = Defined.model_validate({"name": policy, **knobs})
            values = play(world, defined, seed)
            curves[policy].append(np.cumsum(best - values))
            earned[policy].append(float(values.mean()))
            late[policy].append(float((best - values)[-visits // 4 :].mean()))
    at = np.unique(np.linspace(0, visits - 1, 41).astype(int))
    return {
        "seeds": seeds, "visits": visits, "places": PLACES, "head": HEAD, "batch": BATCH, "confidence": LEVEL,
        "policies": POLICIES, "best_fixed": fixed, "at": (at + 1).tolist(),
        "regret": {name: _interval(np.array(found)[:, at]) for name, found in curves.items()},
        "clicks_a_slate": {name: _interval(np.array(found)[:, None]) for name, found in earned.items()},
        "regret_a_slate_in_last_quarter": {name: _interval(np.array(found)[:, None]) for name, found in late.items()},
    }  # fmt: skip


def _interval(values_SP: npt.NDArray[np.float64]) -> dict[str, list[float]]:
    """Means over S seeds with t-intervals."""
    mean, count = values_SP.mean(axis=0), len(values_SP)
    half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * values_SP.std(axis=0, ddof=1) / np.sqrt(count)
    return {key: np.round(value, 4).tolist() for key, value in (("mean", mean), ("low", mean - half), ("high", mean + half))}


def draw(result: dict[str, Any], path: Path) -> None:
    """Cumulative regret with its bands, and what a slate of the last quarter still lacks."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), constrained_layout=True, width_ratios=(3, 2))
    names = list(result["policies"])
    for place, name in enumerate(names):
        one = result["regret"][name]
        left.plot(result["at"], one["mean"], color=f"C{place}", label=name, linestyle="-" if name in LEARNING else "--")
        left.fill_between(result["at"], one["low"], one["high"], color=f"C{place}", alpha=0.15, linewidth=0)
        late = result["regret_a_slate_in_last_quarter"][name]
        right.barh(place, late["mean"][0], color=f"C{place}", height=0.6)
        right.plot([late["low"][0], late["high"][0]], [place, place], color="black", linewidth=1.2)
    left.axhline(0, color="black", linewidth=0.8)
    left.set(xlabel="visits", ylabel="expected clicks lost to the best fixed policy")
    left.set_title("Cumulative regret (dashed: learns nothing)")
    left.legend(fontsize=9)
    right.axvline(0, color="black", linewidth=0.8)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set(xlabel="expected clicks a slate", title="Regret in the last quarter of visits")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=8, help="shops (%(default)s)")
    parser.add_argument("--visits", type=int, default=2000, help="visits of each (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bandits.json")
    given = parser.parse_args()
    begun, load = time.process_time(), os.getloadavg()[0]
    figures = study(given.seeds, given.visits) | {"load_1m_before": load}
    figures["cpu_seconds"] = round(time.process_time() - begun, 1)
    draw(figures, given.out.with_suffix(".png"))
    result = record("bandits", figures, given.out)
    for name in POLICIES:
        told = [
            f"{of} {result[of][name]['mean'][-1]:.3f} [{result[of][name]['low'][-1]:.3f}, {result[of][name]['high'][-1]:.3f}]"
            for of in ("regret", "clicks_a_slate", "regret_a_slate_in_last_quarter")
        ]
        print(f"{name:>14}", *told)
    print("best fixed", *(f"{one['policy']} {one['clicks_a_slate']:.3f}" for one in result["best_fixed"]))
    print(f"{result['cpu_seconds']} s of one core")


if __name__ == "__main__":
    main()
