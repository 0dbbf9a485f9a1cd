"""RecTools' SASRec and eSASRec (https://github.com/MobileTeleSystems/RecTools), trained by its own Lightning loop.

The recipe is that of the eSASRec paper's benchmark for Beauty (arXiv 2508.06450): one block, one head, dropout .2, length 50,
256 uniform negatives, sampled softmax, Adam 1e-3. eSASRec: LiGR layers, feed-forward four times as wide, padding masked.
Runs in .venv-peers: `python -m benchmarks.peers.rectools_models JOB.json`.
"""

from __future__ import annotations

import copy
import importlib.metadata
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as lightning
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet
from rectools.models.nn.transformers.ligr import LiGRLayers

from benchmarks.peers.exchange import Histories, Ints, Job, Material, best_unseen, read_job, read_material, write_json
from benchmarks.peers.watching import Watch

RANKED_AT_ONCE = 256
VERSIONS = ("rectools", "pytorch-lightning", "torch", "numpy")


class Watched(lightning.Callback):
    """Tells the watch of epochs, and stops when it says so."""

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self.sequences = self.targets = 0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.sequences = self.targets = 0
        if self.watch is not None and not self.watch.epochs:
            self.watch.begin()  # setting up is not an epoch's work

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, batch: Any, *_: Any) -> None:  # noqa: ARG002
        assert self.watch is not None
        self.sequences += len(batch["y"])
        self.targets += int((batch["y"] != 0).sum())
        if self.watch.tick():
            model.train()

    def on_train_epoch_end(self, trainer: Any, model: Any) -> None:
        assert self.watch is not None
        trainer.should_stop = self.watch.end(self.sequences, self.targets)
        model.train()

    def __deepcopy__(self, memo: dict[int, Any]) -> Watched:
        return self  # RecTools copies its trainer; there is one watch


def as_dataset(train: Histories) -> Dataset:
    """The training events as RecTools wants them; the hour of the year 2000 stands for the position."""
    lengths = np.diff(train.starts)
    positions = np.arange(len(train.items)) - np.repeat(train.starts[:-1], lengths)
    frame = pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(train)), lengths),
            Columns.Item: train.items,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(positions, unit="h"),
        }
    )
    return Dataset.construct(frame)


def build(job: Job, watched: Watched) -> SASRecModel:
    """The untrained model of a job."""
    extended = job.model == "rectools-esasrec"
    layers: dict[str, Any] = {"transformer_layers_type": LiGRLayers, "transformer_layers_kwargs": {"ff_factors_multiplier": 4}}
    return SASRecModel(
        n_blocks=1,
        n_heads=1,
        n_factors=job.dim,
        dropout_rate=job.dropout,
        session_max_len=job.max_length,
        loss="sampled_softmax",
        n_negatives=job.negatives,
        lr=job.learning_rate,
        batch_size=job.batch_size,
        use_key_padding_mask=extended,
        dataloader_num_workers=int(job.settings.get("workers", 0)),
        item_net_block_types=(IdEmbeddingsItemNet,),
        get_trainer_func=lambda: make_trainer(job, watched),
        **(layers if extended else {}),
    )


def make_trainer(job: Job, watched: Watched) -> lightning.Trainer:
    """Lightning with everything off that costs time and is not training."""
    return lightning.Trainer(
        max_epochs=job.epochs,
        accelerator="cpu",
        devices=1,
        precision=job.settings.get("precision", "32-true"),
        limit_train_batches=job.epoch_batches or 1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watched],
    )


@torch.inference_mode()
def rank(model: SASRecModel, histories: Histories, items: int) -> Ints:
    """(U, K) as SASRecModel.recommend gives it: newest events, known items only, what the user had left out."""
    network, length = model.lightning_model.torch_model, model.data_preparator.session_max_len
    network.eval()
    known = np.asarray(model.data_preparator.get_known_item_ids(), np.int64)  # codes by internal id, less the padding
    internal = np.zeros(items, np.int64)
    internal[known] = np.arange(1, len(known) + 1)
    embeddings = network.item_model.get_all_embeddings()
    slates = []
    for begin in range(0, len(histories), RANKED_AT_ONCE):
        part = histories.part(np.arange(begin, min(begin + RANKED_AT_ONCE, len(histories))))
        sessions = np.zeros((len(part), length), np.int64)
        for row in range(len(part)):
            own = internal[part.of(row)]
            own = own[own > 0][-length:]
            if len(own):
                sessions[row, -len(own) :] = own
        state = network.encode_sessions({"x": torch.from_numpy(sessions)}, embeddings)[:, -1, :]
        scores = np.full((len(part), items), -np.inf, np.float32)
        scores[:, known] = (state @ embeddings.T).float().numpy()[:, 1:]
        slates.append(best_unseen(scores, part))
    return np.concatenate(slates)


def run(job: Job, material: Material) -> dict[str, Any]:
    """Train, choose, rank."""
    lightning.seed_everything(job.seed)
    dataset, watched = as_dataset(material.train), Watched()
    model = build(job, watched)

    def keep() -> dict[str, Any]:
        return copy.deepcopy(model.lightning_model.torch_model.state_dict())

    def put(weights: dict[str, Any]) -> None:
        model.lightning_model.torch_model.load_state_dict(weights)

    watch = watched.watch = Watch(job, material, lambda asked: rank(model, asked, material.items), keep, put)
    model.fit(dataset)
    return watch.finish() | {"parameters": sum(p.numel() for p in model.lightning_model.torch_model.parameters())}


def main() -> None:
    warnings.filterwarnings("ignore")  # Lightning advises on workers and loggers: both are chosen here
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    job = read_job(Path(sys.argv[1]))
    torch.set_num_threads(job.threads)
    facts = run(job, read_material(Path(job.split)))
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    write_json(Path(job.out) / "facts.json", facts | {"versions": versions})


if __name__ == "__main__":
    main()
