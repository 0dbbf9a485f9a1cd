"""A catalogue of a million items: one training step and the exact top 100, beside what this machine's memory can move.

    python -m benchmarks.scale [--items 1000000] [--dim 128] [--threads 2] [--out benchmarks/results/scale.json]

Bytes are counted from the algorithm, each array once per pass that needs it, so a ratio of 1 is the limit. Random data: nothing
here says how good a model is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import record
from benchmarks.scale_steps import Rows, dense_step, random_batch, sparse_step
from endcap.models.sequential import SequenceModel, SequenceShape
from endcap.training.options import FitOptions

QUERIES = (1, 4, 16, 64, 256)
BLOCK_ITEMS = 32_768
GROUP = 32
TOP = 100
FLOAT = 4
REPEATS = 2
WHOLE_AT_MOST = 16  # queries whose scores of all items are also made at once, to compare: 4 bytes × queries × items


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Of each repeat, after one that does not count."""
    work()
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return found


def bandwidth(floats: int) -> dict[str, Any]:
    """GB/s as STREAM counts: triad a = b + 3 c (two reads, one write), and a sum (one read). Best of five."""
    a, b, c = (torch.ones(floats) for _ in range(3))
    triad = min(seconds(lambda: torch.add(b, c, alpha=3.0, out=a), 5))
    read = min(seconds(lambda: torch.sum(b), 5))
    size = floats * FLOAT / 1e9
    return {"triad_gb_per_s": 3 * size / triad, "read_gb_per_s": size / read, "array_mb": size * 1e3}


def top_grouped(queries_QD: torch.Tensor, items_ID: torch.Tensor, k: int, block: int = BLOCK_ITEMS) -> torch.Tensor:
    """(Q, k) the best items, exactly. Of the scores only the maxima of groups of items are kept, made block by block.

    The k best items lie in the k groups of the highest maxima, whose scores are then made once more and sorted.
    """
    groups = items_ID[: len(items_ID) // GROUP * GROUP].split(block // GROUP * GROUP)
    maxima = torch.cat([(queries_QD @ part.T).unflatten(1, (-1, GROUP)).amax(dim=2) for part in groups], dim=1)
    best = maxima.topk(min(k, maxima.shape[1]), dim=1).indices
    rest = torch.arange(len(items_ID) // GROUP * GROUP, len(items_ID)).expand(len(queries_QD), -1)
    codes = torch.cat([(best[:, :, None] * GROUP + torch.arange(GROUP)).flatten(1), rest], dim=1)
    found = [codes[row][(items_ID[codes[row]] @ query).topk(k).indices] for row, query in enumerate(queries_QD)]
    return torch.stack(found)


def retrieval(items_ID: torch.Tensor, read_gb_per_s: float) -> list[dict[str, Any]]:
    """Seconds of whole and grouped search, and the items' bytes per second as a share of what can be read."""
    generator, rows = torch.Generator().manual_seed(1), []
    size = items_ID.numel() * FLOAT / 1e9
    for count in QUERIES:
        queries = torch.randn(count, items_ID.shape[1], generator=generator)
        k = min(TOP, len(items_ID))
        grouped = seconds(lambda q=queries, k=k: top_grouped(q, items_ID, k))
        whole = seconds(lambda q=queries, k=k: (q @ items_ID.T).topk(k, dim=1)) if count <= WHOLE_AT_MOST else None
        matmul = seconds(lambda q=queries: [q @ part.T for part in items_ID.split(BLOCK_ITEMS)])
        best = min(grouped)
        rows.append({
            "queries": count, "grouped_seconds": grouped, "whole_seconds": whole, "matmul_seconds": matmul,
            "gb_per_s": size / best, "ratio_to_read_bandwidth": size / best / read_gb_per_s,
            "gflop_per_s": 2 * count * items_ID.numel() / best / 1e9,
            "extra_mb": count * (BLOCK_ITEMS + len(items_ID) / GROUP) * FLOAT / 1e6,
        })  # fmt: skip
    return rows


def training(items: int, dim: int, triad_gb_per_s: float, seed: int = 0) -> dict[str, Any]:
    """Seconds of a step by part: AdamW as torch does it by default, fused, and by touched rows alone."""
    options = FitOptions(dim=dim, negatives=1024, batch_tokens=1024, precision="fp32")
    torch.manual_seed(seed)
    shape = SequenceShape(dim, options.layers, options.heads, options.max_length, options.dropout, 0)
    model = SequenceModel(shape, torch.zeros(items, 0), torch.ones(items, dtype=torch.bool))
    rng, schedule = np.random.default_rng(seed), options.schedule()
    found: dict[str, Any] = {}
    for name, fused in (("default", False), ("fused", True)):
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.2, betas=(0.9, 0.98), fused=fused)
        steps = [dense_step(model, optimiser, random_batch(items, options, rng), schedule, rng) for _ in range(REPEATS + 1)][1:]
        found[name] = _summary(steps)
        moved = 7 * model.ids.numel() * FLOAT / 1e9  # reads weight, gradient, two moments; writes weight, two moments
        found[name]["optimiser_gb_per_s"] = moved / found[name]["median"]["optimiser"]
        found[name]["optimiser_ratio_to_triad"] = found[name]["optimiser_gb_per_s"] / triad_gb_per_s
        optimiser.zero_grad(set_to_none=True)
        del optimiser
    found["dense_peak_rss_mb"] = _peak_mb()
    rows = Rows(model.ids.detach(), 1e-3, 0.2, (0.9, 0.98))
    others = torch.optim.AdamW(
        [p for n, p in model.named_parameters() if n != "ids"], lr=1e-3, weight_decay=0.2, betas=(0.9, 0.98)
    )
    steps = [sparse_step(model, rows, others, random_batch(items, options, rng), schedule, rng) for _ in range(2 * REPEATS + 1)]
    found["sparse_rows"] = _summary(steps[1:])
    whole = {name: found[name]["median"]["whole"] for name in ("default", "fused", "sparse_rows")}
    found["times_faster_than_default"] = {name: whole["default"] / value for name, value in whole.items()}
    return found


def _summary(steps: list[dict[str, float]]) -> dict[str, Any]:
    median = {part: statistics.median(step[part] for step in steps) for part in steps[0]}
    return {"median": median, "share": {part: value / median["whole"] for part, value in median.items()}, "steps": steps}


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def draw(figures: dict[str, Any], path: Path) -> None:
    """A step by part, and the search's share of the memory's speed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    names = ("default", "fused", "sparse_rows")
    bottom = np.zeros(len(names))
    for part in ("draw", "forward", "backward", "clip", "optimiser"):
        heights = np.array([figures["training"][name]["median"].get(part, 0.0) for name in names])
        left.bar(names, heights, bottom=bottom, label=part)
        bottom += heights
    left.set(title=f"A training step, {figures['items']:,} items × {figures['dim']}", ylabel="seconds")
    left.legend()
    rows = figures["retrieval"]
    right.plot([row["queries"] for row in rows], [row["ratio_to_read_bandwidth"] for row in rows], marker="o")
    right.set(
        xscale="log", ylim=(0, None), xlabel="queries at once", ylabel="share of read bandwidth", title=f"Exact top {TOP}"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    figures: dict[str, Any] = {
        "items": given.items,
        "dim": given.dim,
        "threads": given.threads,
        "load_1m_before": os.getloadavg()[0],
    }
    figures["bandwidth"] = bandwidth(min(64_000_000, given.items * given.dim))
    items = torch.randn(given.items, given.dim, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        figures["retrieval"] = retrieval(items, figures["bandwidth"]["read_gb_per_s"])
    figures["retrieval_peak_rss_mb"] = _peak_mb()
    del items
    figures["training"] = training(given.items, given.dim, figures["bandwidth"]["triad_gb_per_s"])
    result = record("scale", figures, given.out)
    draw(result, given.out.with_suffix(".png"))
    print(json.dumps({name: result[name] for name in ("bandwidth", "retrieval", "training", "machine")}, indent=1))


if __name__ == "__main__":
    main()
