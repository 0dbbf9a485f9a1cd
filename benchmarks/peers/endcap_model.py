"""Endcap's own sequential model, ids only, as its peers are run: no text, no times, no blend.

`train_network` is the one place that calls the product's training.
Runs in .venv: `python -m benchmarks.peers.endcap_model JOB.json`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.metadata
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.exchange import Histories, Ints, Job, Material, best_unseen, read_job, read_material, write_json
from benchmarks.peers.watching import Watch
from endcap.config import load_params
from endcap.data.features import FAR_FUTURE, TYPE_CODES, TYPES, Interactions
from endcap.models.history import MICROSECONDS_PER_DAY, HistoryBatch
from endcap.models.sequential import SequenceModel, SequenceShape
from endcap.training.losses import Objective
from endcap.training.options import fit_options
from endcap.training.schedule import Schedule
from endcap.training.sequences import QUESTIONS, Sequences, make_sequences
from endcap.training.trainer import train

RANKED_AT_ONCE = 256
WEEK_DAYS = 7.0  # order alone counts: events lie a week apart, and the next one is a week away


class _Enough(Exception):
    """The watch says stop."""


def as_interactions(histories: Histories, items: int) -> Interactions:
    """Purchases, the k-th from a user's end k weeks before one common end."""
    lengths = np.diff(histories.starts)
    users = np.repeat(np.arange(len(histories)), lengths)
    from_end = np.repeat(histories.starts[1:], lengths) - np.arange(len(histories.items))
    times = (from_end.max() - from_end) * int(WEEK_DAYS * MICROSECONDS_PER_DAY)
    order = np.argsort(times, kind="stable")
    targets = np.zeros(len(TYPES), np.bool_)
    targets[TYPE_CODES["purchase"]] = True
    return Interactions(
        user_ids=np.arange(len(histories)).astype(str).astype(object),
        item_ids=np.arange(items).astype(str).astype(object),
        users=users[order],
        items=histories.items[order],
        times_us=times[order],
        types=np.full(len(users), TYPE_CODES["purchase"], np.int64),
        cancelled_us=np.full(len(users), FAR_FUTURE, np.int64),
        target_types=targets,
        quantities=np.ones(len(users), np.float32),
        prices=np.full(len(users), np.nan, np.float32),
        surfaces=np.zeros(len(users), np.int64),
        countries=np.zeros(len(users), np.int64),
    )


def new_network(train_table: Interactions, job: Job) -> SequenceModel:
    """Untrained weights, without text."""
    seen = np.bincount(train_table.items, minlength=len(train_table.item_ids)) > 0
    dropout = job.dropout if job.mode == "throughput" else load_params().train.dropout
    shape = SequenceShape(job.dim, 1, 2, job.max_length, dropout, 0)
    return SequenceModel(shape, torch.zeros(len(seen), 0), torch.from_numpy(seen))


def train_network(network: SequenceModel, sequences: Sequences, job: Job, after_epoch: Callable[[], None]) -> None:
    """The product's training, told of each epoch's end, when the network has the weights that would be kept."""
    train(network, sequences, np.arange(len(sequences.question_at)), schedule_of(job), progress=lambda _: after_epoch())


def schedule_of(job: Job) -> Schedule:
    """The product's defaults (params.yaml), at most `job.epochs`; for speed the batches and negatives of the peers."""
    own = dataclasses.replace(
        fit_options(load_params()).schedule(), epochs=job.epochs, patience=0, max_seconds=math.inf, seed=job.seed,
        precision=job.settings.get("precision", "auto"),
    )  # fmt: skip
    if job.mode != "throughput":
        return own
    objective, tokens = Objective("sampled", job.negatives), job.batch_size * job.max_length
    return dataclasses.replace(own, batch_size=job.batch_size, batch_tokens=tokens, objective=objective)


@torch.inference_mode()
def rank(network: SequenceModel, histories: Histories) -> Ints:
    """(U, K) the best unseen items a week after the last event."""
    network.eval()
    vectors = network.item_vectors()
    unseen = ~network.seen.numpy()
    slates = []
    for begin in range(0, len(histories), RANKED_AT_ONCE):
        part = histories.part(np.arange(begin, min(begin + RANKED_AT_ONCE, len(histories))))
        lengths = np.diff(part.starts)
        rows = np.repeat(np.arange(len(part)), lengths)
        ages = (np.repeat(part.starts[1:], lengths) - np.arange(len(part.items))) * WEEK_DAYS
        batch = HistoryBatch(
            size=len(part),
            rows=rows,
            codes=part.items,
            ages=ages.astype(np.float32),
            types=np.full(len(rows), TYPE_CODES["purchase"], np.int64),
            now_us=0,
            quantities=np.ones(len(rows), np.float32),
            prices=np.full(len(rows), np.nan, np.float32),
            surfaces=np.zeros(len(rows), np.int64),
            countries=np.zeros(len(rows), np.int64),
        )
        scores = network.score(batch, vectors)
        scores[:, unseen] = -np.inf
        slates.append(best_unseen(scores, part))
    return np.concatenate(slates)


def run(job: Job, material: Material) -> dict[str, Any]:
    """Train, choose, rank."""
    torch.manual_seed(job.seed)
    table = as_interactions(material.train, material.items)
    network = new_network(table, job)

    def put(weights: dict[str, Any]) -> None:
        network.load_state_dict(weights)

    watch = Watch(job, material, lambda asked: rank(network, asked), lambda: copy.deepcopy(network.state_dict()), put)
    sequences = make_sequences(table, job.max_length)
    asked = np.bincount(sequences.question_window, minlength=len(sequences.windows))
    learnt = int(np.minimum(asked, QUESTIONS).sum())

    def after_epoch() -> None:
        if watch.end(int((asked > 0).sum()), learnt):
            raise _Enough
        network.train()

    watch.begin()  # preparing the data is not counted, here as for the peers
    with contextlib.suppress(_Enough):
        train_network(network, sequences, job, after_epoch)
    objective = schedule_of(job).objective
    negatives = "all items" if objective.loss == "softmax" else f"{objective.negatives} a step, {objective.sampling}"
    return watch.finish() | {"parameters": sum(p.numel() for p in network.parameters()), "negatives": negatives}


def main() -> None:
    job = read_job(Path(sys.argv[1]))
    torch.set_num_threads(job.threads)
    facts = run(job, read_material(Path(job.split)))
    versions = {name: importlib.metadata.version(name) for name in ("endcap", "torch", "numpy")}
    write_json(Path(job.out) / "facts.json", facts | {"versions": versions})


if __name__ == "__main__":
    main()
