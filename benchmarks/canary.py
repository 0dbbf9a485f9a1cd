"""Canaries of known candidates, looked at after every batch: how often they go back or through, after how many requests.

    python -m benchmarks.canary [--runs 200] [--out benchmarks/results/canary.json]

Three shops (`canary_shop.py`): the simulated one; `few clicks`, a sixth of that; `regulars`, few shoppers who come often. Bars
are those of params.yaml. Hours are left out: the figures in days put `min_hours` back.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.canary_shop import BATCH, BLOCK, CANDIDATES, SHOPPERS, Candidate, Shop, Visits
from benchmarks.record import record
from endcap.config import load_params, project_root
from endcap.evaluation.sequential import Tally
from endcap.release.canary import Arms, beyond, bounds, decide, levels, within
from endcap.sections import Canary

REGULARS = 4_000
WANTED = {"equal": "advance", "worse": "roll_back", "better": "advance", "slower": "roll_back", "failing": "roll_back"}
MOST = 800_000  # requests of one step; then the run counts as undecided
WATCHED = 200_000  # requests that coverage and a candidate at the bar are watched over
PLAIN = 1.96  # standard errors of the interval that allows one look
TRAFFIC = (20_000, 100_000, 1_000_000)  # requests a day of the table


def project_settings() -> Canary:
    """Those of params.yaml."""
    settings = load_params(project_root() / "params.yaml").canary
    assert settings is not None
    return settings


def without_hours(settings: Canary) -> Canary:
    """The same, decided as soon as shoppers have told enough."""
    return settings.model_copy(update={"steps": tuple(step.model_copy(update={"min_hours": 0.0}) for step in settings.steps)})


def step_through(
    shop: Shop, candidate: Candidate, settings: Canary, step: int, rng: np.random.Generator, most: int = MOST
) -> dict[str, Any]:
    """Look after every batch until the step is decided: what was decided, why, and after how many requests."""
    here, (sure, likely) = settings.steps[step], levels(settings)
    visits = Visits(shop, candidate, here.share, rng, tuple(settings.guards))
    while visits.made < most:
        begun, found = visits.made, visits.block()
        looks = BLOCK // BATCH
        enough, all_within, any_beyond = np.ones(looks, bool), np.ones(looks, bool), np.zeros(looks, bool)
        for name, guard in settings.guards.items():
            arms, bar = found[name], guard.bar * here.slack
            enough &= np.minimum(arms.candidate.shoppers, arms.champion.shoppers) >= here.min_shoppers
            any_beyond |= beyond(guard, bar, *bounds(guard, here, arms, sure))
            all_within &= within(guard, bar, *bounds(guard, here, arms, likely))
        decided = np.flatnonzero(enough & (all_within | any_beyond))
        if len(decided):
            look = int(decided[0])
            decision = decide(settings, step, 0.0, {name: Arms(*_at(arms, look)) for name, arms in found.items()})
            return {
                "action": decision.action,
                "guards": [one.metric for one in decision.readings if one.broken],
                "requests": begun + (look + 1) * BATCH,
                "by_candidate": int(np.asarray(found["clicks"].candidate.requests)[look]),
            }
    return {"action": "wait", "guards": [], "requests": most, "by_candidate": int(here.share * most)}


def _at(arms: Arms, look: int) -> list[Tally]:
    fields = ("shoppers", "requests", "total", "requests_squared", "product", "total_squared")
    return [Tally(*(float(np.asarray(getattr(arm, field))[look]) for field in fields)) for arm in _both(arms)]


def canaries(shop: Shop, name: str, settings: Canary, runs: int, seed: int) -> dict[str, Any]:
    """A candidate through all steps, many times."""
    told, at_once = [], without_hours(settings)
    for run in range(runs):
        steps: list[dict[str, Any]] = []
        while not steps or (steps[-1]["action"] == "advance" and len(steps) < len(settings.steps)):
            rng = np.random.default_rng([seed, list(CANDIDATES).index(name), run, len(steps)])
            steps.append(step_through(shop, CANDIDATES[name], at_once, len(steps), rng))
        told.append(steps)
    ends = [steps[-1] for steps in told]
    guards = [guard for end in ends for guard in end["guards"]]
    return {
        "runs": runs,
        **{action: float(np.mean([end["action"] == action for end in ends])) for action in ("advance", "roll_back", "wait")},
        "rolled_back_at": [int(sum(len(s) == at + 1 and s[-1]["action"] == "roll_back" for s in told)) for at in range(3)],
        "rolled_back_by": {guard: guards.count(guard) for guard in sorted(set(guards))},
        "requests": _spread([sum(step["requests"] for step in steps) for steps in told]),
        "answered_by_candidate": _spread([sum(step["by_candidate"] for step in steps) for steps in told]),
        "by_step": [_spread([s[at]["requests"] for s in told if len(s) > at]) for at in range(max(map(len, told)))],
        "days": {str(traffic): _spread([_days(steps, settings, traffic) for steps in told]) for traffic in TRAFFIC},
        "all_requests": [sum(step["requests"] for step in steps) for steps in told],
    }


def _days(steps: list[dict[str, Any]], settings: Canary, traffic: int) -> float:
    """With `min_hours` for each step that was gone through; going back waits for nothing."""
    least = [
        here.min_hours / 24 if step["action"] == "advance" else 0.0 for step, here in zip(steps, settings.steps, strict=False)
    ]
    return float(sum(max(days, step["requests"] / traffic) for days, step in zip(least, steps, strict=True)))


def _spread(values: list[float] | list[int]) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"p10": float(low), "median": float(middle), "p90": float(high), "most": float(max(values))}


def at_the_bar(shop: Shop, settings: Canary, runs: int) -> dict[str, Any]:
    """The hardest candidate: clicks exactly at the last bar. What is decided of it, either way, is decided by chance."""
    last, at_once = len(settings.steps) - 1, without_hours(settings)
    rngs = (np.random.default_rng([8, run]) for run in range(runs))
    ends = [step_through(shop, CANDIDATES["at the bar"], at_once, last, rng, WATCHED)["action"] for rng in rngs]
    return {"runs": runs, "requests": WATCHED} | {
        action: ends.count(action) / runs for action in ("advance", "roll_back", "wait")
    }


def coverage(shop: Shop, name: str, settings: Canary, step: int, runs: int) -> dict[str, Any]:
    """How many runs have intervals that hold the truth at all looks.

    `sequence`: confidence sequences; `one_look`: intervals made for one look, shoppers the unit; `by_request`: confidence
    sequences that take requests for independent.
    """
    here, candidate, held = settings.steps[step], CANDIDATES[name], []
    truth = {"clicks": candidate.clicks - 1, "purchases": candidate.clicks - 1}
    for run in range(runs):
        visits = Visits(shop, candidate, here.share, np.random.default_rng([9, step, run]), tuple(settings.guards))
        holds: list[list[bool]] = []
        while visits.made < WATCHED:
            found = visits.block()
            holds.append([one for metric in settings.guards for one in _held(settings, step, metric, found[metric], truth)])
        held.append(np.all(holds, axis=0))
    shares = np.mean(held, axis=0).reshape(len(settings.guards), -1)
    told = {
        kind: {metric: float(share) for metric, share in zip(settings.guards, column, strict=True)}
        for kind, column in zip(("sequence", "one_look", "by_request"), shares.T, strict=True)
    }
    told["by_request"].pop("latency_ms", None)  # its tallies do not tell the squares of single requests
    return {"candidate": name, "share": here.share, "shoppers": len(shop.places), "runs": runs, "requests": WATCHED, **told}


def _held(settings: Canary, step: int, metric: str, arms: Arms, truth: dict[str, float]) -> list[bool]:
    guard, here, value = settings.guards[metric], settings.steps[step], truth.get(metric, 0.0)  # type: ignore[index]
    early = np.minimum(arms.candidate.shoppers, arms.champion.shoppers) < here.min_shoppers
    single = Arms(*(Tally(one.requests, one.requests, one.total, one.requests, one.total, one.total) for one in _both(arms)))
    (low, high), (least, most) = (bounds(guard, here, one, levels(settings)[1]) for one in (arms, single))
    target = 1 + value if guard.scale == "relative" else 1.0
    plain = PLAIN * np.sqrt(arms.candidate.variance(0.0) + target**2 * arms.champion.variance(0.0))
    one_look = np.abs(arms.candidate.mean - target * arms.champion.mean) <= plain
    kinds = ((low <= value) & (value <= high), one_look, (least <= value) & (value <= most))
    return [bool((kind | early).all()) for kind in kinds]


def _both(arms: Arms) -> tuple[Tally, Tally]:
    return arms.candidate, arms.champion


def draw(result: dict[str, Any], path: Path) -> None:
    """Requests until a canary was decided, by candidate, and coverage at all looks."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(result["worlds"]) + 1, figsize=(14, 4.5), constrained_layout=True)
    for axis, (world, found) in zip(axes, result["worlds"].items(), strict=False):
        for name, one in found["candidates"].items():
            requests = np.sort(one["all_requests"])
            style = "-" if WANTED[name] == "advance" else "--"
            axis.plot(requests, np.arange(1, len(requests) + 1) / len(requests), style, label=f"{name}: {WANTED[name]}")
        axis.set(xscale="log", xlabel="requests of the shop", ylabel="share of canaries decided", title=world, ylim=(0, 1.02))
        axis.legend(fontsize=8)
    rows, kinds = result["coverage"][0], ("sequence", "one_look", "by_request")
    places = np.arange(len(rows["sequence"]))
    labels = ("confidence sequence", "interval for one look", "sequence that ignores shoppers")
    for kind, label, colour, up in zip(kinds, labels, ("#0b6e4f", "#b8b8b8", "#8c2f39"), (0.27, 0.0, -0.27), strict=True):
        axes[-1].barh(
            places + up, [rows[kind].get(metric, np.nan) for metric in rows["sequence"]], 0.27, color=colour, label=label
        )
    axes[-1].axvline(result["confidence"], color="black", linewidth=1)
    axes[-1].set_yticks(places, list(rows["sequence"]))
    axes[-1].set(xlim=(0, 1), xlabel="runs that hold the truth at every look", title=f"Coverage, {rows['shoppers']:,} shoppers")
    axes[-1].legend(loc="lower left", fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=200, help="canaries of each candidate (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "canary.json")
    given = parser.parse_args()
    settings, begun, load = project_settings(), time.monotonic(), os.getloadavg()[0]
    shops = {"simulated shop": Shop(1.0), "few clicks": Shop(1 / 6)}
    worlds = {
        world: {
            "rates": shop.rates(),
            "candidates": {name: canaries(shop, name, settings, given.runs, seed) for name in WANTED},
        }
        for seed, (world, shop) in enumerate(shops.items())
    }
    regulars = Shop(1.0, REGULARS)
    watched = [
        coverage(regulars, "worse", settings, len(settings.steps) - 1, given.runs),
        coverage(shops["few clicks"], "equal", settings, len(settings.steps) - 1, given.runs),
        coverage(shops["few clicks"], "equal", settings, 0, given.runs),
    ]
    figures = {
        "confidence": settings.confidence,
        "settings": settings.model_dump(mode="json"),
        "shoppers": SHOPPERS,
        "batch": BATCH,
        "load_1m_before": load,
        "worlds": worlds,
        "at_the_bar": at_the_bar(shops["simulated shop"], settings, given.runs),
        "coverage": watched,
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(time.process_time(), 1),
    }
    draw(figures, given.out.with_suffix(".png"))
    for world in worlds.values():
        for one in world["candidates"].values():
            del one["all_requests"]  # the picture has them
    result = record("canary", figures, given.out)
    for world, found in result["worlds"].items():
        for name, one in found["candidates"].items():
            told = " ".join(f"{action} {one[action]:.3f}" for action in ("advance", "roll_back", "wait"))
            print(
                f"{world:>14} {name:>8} {told} requests {one['requests']['median']:,.0f} (90 %: {one['requests']['p90']:,.0f})"
            )
    for row in result["coverage"]:
        print(*(row[key] for key in ("shoppers", "candidate", "share", "sequence", "one_look", "by_request")))
    print("at the bar", result["at_the_bar"])


if __name__ == "__main__":
    main()
