"""How fast each side trains, and in how much memory: same width, length, batch and negatives, round about on the same cores.

The peer's settings are scouted first (workers, precision, threads, heap), and its fastest ones run, beside it as it ships.
Endcap runs as it is, without scouting.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers import contestants
from benchmarks.peers.exchange import Job

PEER, OURS = "rectools-sasrec", "endcap"
SCOUTED: dict[str, dict[str, Any]] = {
    "as it ships": {},
    "heap held": {"heap": "held"},
    "heap held, one loader process": {"heap": "held", "workers": 1},
    "heap held, bf16": {"heap": "held", "precision": "bf16-mixed"},
    "heap held, one thread": {"heap": "held", "threads": 1},
}
Runner = Callable[..., dict[str, Any]]


def measure(
    base: Job, folder: Path, digest: str, dims: list[int], rounds: int, scout_batches: int, run: Runner = contestants.run
) -> dict[str, Any]:
    """Scouting of the peer at the first width, then A B A B … for every width. Two epochs count after one of warm-up."""
    base = replace(base, mode="throughput", epochs=3)
    scouted = {}
    for name, settings in SCOUTED.items():
        job = with_settings(replace(base, model=PEER, dim=dims[0], epochs=2, epoch_batches=scout_batches), settings)
        scouted[name] = run(job, folder, digest, label="scout")["sequences_per_second"]
    fastest = max(scouted, key=lambda name: scouted[name])
    sides = {f"{PEER}, as it ships": with_settings(replace(base, model=PEER), {})}
    if fastest != "as it ships":
        sides[f"{PEER}, {fastest}"] = with_settings(replace(base, model=PEER), SCOUTED[fastest])
    sides[OURS] = replace(base, model=OURS, epoch_batches=0)
    widths = {}
    for dim in dims:
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for number in range(1, rounds + 1):
            for name, job in sides.items():
                measured[name].append(run(replace(job, dim=dim, seed=number), folder, digest, label=f"d{dim}"))
        widths[str(dim)] = compare(measured)
    return {"scouted": scouted, "fastest": fastest, "rounds": rounds, "widths": widths}


def with_settings(job: Job, settings: dict[str, Any]) -> Job:
    """`threads` is a field of the job, the rest are settings."""
    rest = {name: value for name, value in settings.items() if name != "threads"}
    return replace(job, settings=rest, threads=settings.get("threads", job.threads))


def compare(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Figures of each side, and ours over the peer's best: its fastest settings for speed, its smallest for memory."""
    sides = {name: _summary(facts) for name, facts in measured.items()}
    peers = [name for name in sides if name != OURS]
    quickest = max(peers, key=lambda name: sides[name]["sequences_per_second"]["median"])
    ratios = {}
    for unit in ("sequences_per_second", "targets_per_second"):
        ratios[unit] = _spread([a[unit] / b[unit] for a, b in zip(measured[OURS], measured[quickest], strict=True)])
    if all(side["peak_above_baseline_mib"]["median"] for side in sides.values()):
        small = min(peers, key=lambda name: sides[name]["peak_above_baseline_mib"]["median"])
        pairs = zip(measured[OURS], measured[small], strict=True)
        ratios["peak_memory"] = _spread([a["peak_above_baseline_mib"] / b["peak_above_baseline_mib"] for a, b in pairs])
    return {"sides": sides, "ratios_to_the_best_peer": ratios, "fastest_peer": quickest}


def _summary(facts: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in ("sequences_per_second", "targets_per_second", "peak_above_baseline_mib", "peak_mib"):
        figures[name] = _spread([one[name] for one in facts if one[name] is not None])
    return figures | {"parameters": facts[0].get("parameters"), "versions": facts[0]["versions"]}


def _spread(values: list[float]) -> dict[str, float | None]:
    if not values:
        return {"median": None, "low": None, "high": None}
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}
