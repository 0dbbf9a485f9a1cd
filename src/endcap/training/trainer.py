"""Passes of the sequential model over training examples, with validation, checkpoints and a limit in time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from endcap.errors import TrainingError
from endcap.models.precision import autocast
from endcap.models.sequential import SequenceModel
from endcap.training.checkpoint import Checkpoint
from endcap.training.schedule import Curve, Schedule
from endcap.training.sequences import Sequences, WindowBatch, batches

logger = logging.getLogger(__name__)
Ints = npt.NDArray[np.int64]
CANDIDATES = 20_000  # up to this many items the softmax is full; beyond it, this many are sampled a step
ID_DROPOUT = 0.15  # share of items that a step shows by their text alone, so that text alone means something


def train(
    model: SequenceModel,
    sequences: Sequences,
    questions: Ints,
    schedule: Schedule,
    *,
    held_out: tuple[Sequences, Ints] | None = None,
    checkpoint_path: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Curve:
    """Train in place; with patience ends at the best epoch on `held_out` (sequences and questions), else at the last.

    Raises:
        TrainingError: nothing to learn from, or a loss that is not finite (the last good checkpoint stays on disk).
    """
    if not len(questions):
        raise TrainingError(
            "no shopper came twice in the training period",
            field="train",
            value=0,
            action="Ingest more history, or more shoppers.",
        )
    optimiser = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    checkpoint = Checkpoint(checkpoint_path, schedule)
    curve = checkpoint.restore(model, optimiser)
    best_weights = checkpoint.best_weights
    started = time.monotonic()
    for epoch in range(len(curve.train), schedule.epochs):
        torch.manual_seed(schedule.seed + epoch)
        rng = np.random.default_rng([schedule.seed, epoch])
        begun = time.monotonic()
        curve.train.append(_epoch(model, sequences, questions, schedule, optimiser, epoch, rng))
        if held_out is not None:
            curve.valid.append(validation_loss(model, *held_out, schedule))
        curve.seconds.append(time.monotonic() - begun)
        judged = curve.valid or curve.train
        if held_out is None or not schedule.patience or judged[-1] <= min(judged):
            curve.best_epoch = epoch + 1
            best_weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
        checkpoint.save(model, optimiser, curve, best_weights)
        progress(f"epoch {epoch + 1}/{schedule.epochs} loss {curve.train[-1]:.4f} valid {judged[-1]:.4f}")
        if schedule.patience and epoch + 1 - curve.best_epoch >= schedule.patience:
            break
        if time.monotonic() - started > schedule.max_seconds:
            logger.warning("training_time_limit", extra={"epoch": epoch + 1, "max_seconds": schedule.max_seconds})
            break
    if best_weights:
        model.load_state_dict(best_weights)
    return curve


def _epoch(
    model: SequenceModel,
    sequences: Sequences,
    questions: Ints,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    rng: np.random.Generator,
) -> float:
    model.train()
    total, count = 0.0, 0
    for step, batch in enumerate(batches(sequences, questions, schedule.batch_size, rng)):
        candidates = _candidates(model, batch, rng)
        with autocast(schedule.precision):
            loss = batch_loss(model, batch, candidates)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                "the loss is not finite",
                field=f"epoch {epoch + 1}, step {step + 1}",
                value=value,
                action="Lower train.learning_rate, or set train.precision to fp32; the last good checkpoint is kept.",
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        total, count = total + value * len(batch.rows), count + len(batch.rows)
    return total / max(count, 1)


def batch_loss(model: SequenceModel, batch: WindowBatch, candidates: Tensor | None = None) -> Tensor:
    """Mean over the questions of the mean over their answers of -log softmax over the seen (or the candidate) items."""
    keep_id = torch.rand(len(model.ids)) >= ID_DROPOUT if model.training else None
    items_ID = model.item_vectors(keep_id)
    hidden = model(items_ID, batch.codes, batch.kinds, batch.days, batch.valid)
    state = hidden[batch.rows, batch.places.clamp(min=0)]
    state = torch.where(batch.places[:, None] < 0, model.start.expand_as(state), state)
    queries = model.queries(state, batch.gap_days)
    if candidates is None:
        logits = (queries @ items_ID.T).float().masked_fill(~model.seen[None, :], -1e9)
        answers = batch.answers
    else:
        logits = (queries @ items_ID[candidates].T).float()
        answers = torch.searchsorted(candidates, batch.answers)
    scored = functional.log_softmax(logits, dim=1).gather(1, answers)
    counted = batch.answered & model.seen[batch.answers]  # an item new since training cannot be asked of the ids
    each = -(scored * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    return each.sum() / counted.any(dim=1).sum().clamp(min=1)


def _candidates(model: SequenceModel, batch: WindowBatch, rng: np.random.Generator) -> Tensor | None:
    """None: a full softmax. Else the sorted codes of the answers and of uniformly drawn seen items."""
    if len(model.ids) <= CANDIDATES:
        return None
    seen = np.flatnonzero(model.seen.numpy())
    drawn = rng.choice(seen, min(CANDIDATES, len(seen)), replace=False)
    return torch.from_numpy(np.unique(np.concatenate([drawn, batch.answers.numpy().ravel()])))


@torch.inference_mode()
def validation_loss(model: SequenceModel, sequences: Sequences, questions: Ints, schedule: Schedule) -> float:
    """The loss on the given questions, without dropout, the same answers each time."""
    model.eval()
    rng = np.random.default_rng(schedule.seed)
    total, count = 0.0, 0
    for batch in batches(sequences, questions, schedule.batch_size, rng):
        with autocast(schedule.precision):
            total += float(batch_loss(model, batch)) * len(batch.rows)
        count += len(batch.rows)
    return total / max(count, 1)
