"""Throughput and loss of one training by processes: a made-up shop, gloo on CPUs (nccl where every process has a GPU).

    python -m benchmarks.distributed [--processes 1 2] [--items 2000] [--out benchmarks/results/distributed.json]

One thread a process. The first epoch warms up and is not counted; the curves show all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SHOPPERS, EVENTS, EPOCHS = 1500, 40, 4


def learn(items: int, dim: int, batch_tokens: int, dropout: float) -> dict[str, Any]:
    """Train on the made-up shop as a member of the current team; the figures of the first process."""
    import torch

    from endcap.models.sequential import SequenceModel, SequenceShape
    from endcap.training.options import FitOptions
    from endcap.training.team import current_team
    from endcap.training.trainer import train

    torch.manual_seed(0)
    batch = {"batch_size": 256, "batch_tokens": batch_tokens}
    options = FitOptions(dim=dim, max_length=50, max_epochs=EPOCHS, dropout=dropout, id_dropout=0.0, precision="fp32", **batch)
    taught, held_out = make_shop(items)
    shape = SequenceShape(dim, options.layers, options.heads, options.max_length, options.dropout, 0)
    model = SequenceModel(shape, torch.zeros(items, 0), torch.ones(items, dtype=torch.bool))
    curve = train(
        model, taught, np.arange(len(taught.question_at)), options.schedule(),
        held_out=(held_out, np.arange(len(held_out.question_at))),
    )  # fmt: skip
    rates = [windows / seconds for windows, seconds in zip(curve.windows, curve.seconds, strict=True)]
    return {
        "device": current_team().device.type,
        "sequences_per_s": statistics.median(rates[1:]),
        "rates": rates,
        "loss": curve.train,
        "validation_ndcg": curve.ndcg,
    }


def make_shop(items: int, seed: int = 0) -> tuple[Any, Any]:
    """(sequences to learn, sequences to judge): shoppers walk up the catalogue from where they start, and stray."""
    from endcap.training.sequences import make_sequences

    found = []
    for part, shoppers in enumerate((SHOPPERS, SHOPPERS // 5)):
        rng = np.random.default_rng([seed, part])
        steps = rng.integers(1, 4, (shoppers, EVENTS)).cumsum(axis=1) + rng.integers(0, items, (shoppers, 1))
        strayed = np.where(rng.random(steps.shape) < 0.2, rng.integers(0, items, steps.shape), steps % items)
        found.append(make_sequences(_interactions(strayed, items), 50))
    return found[0], found[1]


def _interactions(items_SE: Any, items: int) -> Any:
    import pandas as pd

    from endcap.data.features import interactions_from_events

    shoppers, events = items_SE.shape
    times = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.tile(np.arange(events), shoppers), unit="D")
    frame = pd.DataFrame({
        "user_id": np.repeat([f"u{number}" for number in range(shoppers)], events),
        "item_id": [f"i{code}" for code in items_SE.reshape(-1)],
        "time": times, "type": "purchase",
    })  # fmt: skip
    return interactions_from_events(frame.sort_values("time", kind="stable"), [f"i{code}" for code in range(items)])


def member(given: argparse.Namespace) -> None:
    """One process under torchrun, or the only one."""
    from endcap.training.distributed import together

    figures = together(lambda: learn(given.items, given.dim, given.batch_tokens, given.dropout))
    if figures is not None:
        given.member.write_text(json.dumps(figures), encoding="utf-8")


def measure(given: argparse.Namespace, processes: int, folder: Path) -> dict[str, Any]:
    """Figures of one training in so many processes."""
    from endcap.training.distributed import launch

    out = folder / f"{processes}.json"
    shop = [f"--{name.replace('_', '-')}={getattr(given, name)}" for name in ("items", "dim", "batch_tokens", "dropout")]
    launch([sys.executable, __file__, f"--member={out}", *shop], processes)
    return {"processes": processes, "load_1m": round(os.getloadavg()[0], 1)} | json.loads(out.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch-tokens", type=int, default=4096, dest="batch_tokens")
    parser.add_argument("--dropout", type=float, default=0.2, help="0: curves agree to rounding; above: within chance")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "distributed.json")
    parser.add_argument("--member", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if given.member:
        return member(given)

    from benchmarks.record import record  # a member of the team is run by its path, and knows no packages beside it

    with tempfile.TemporaryDirectory() as folder:
        runs = [measure(given, processes, Path(folder)) for processes in given.processes]
    figures = {
        "shop": {"items": given.items, "shoppers": SHOPPERS, "events": EVENTS},
        "settings": {"dim": given.dim, "batch_tokens": given.batch_tokens, "dropout": given.dropout, "negatives": 1024},
        "runs": runs,
        "times_faster": [run["sequences_per_s"] / runs[0]["sequences_per_s"] for run in runs],
        "largest_loss_difference": max(abs(np.subtract(run["loss"], runs[0]["loss"])).max() for run in runs),
    }
    print(json.dumps(record("distributed", figures, given.out), indent=1))
    return None


if __name__ == "__main__":
    main()
