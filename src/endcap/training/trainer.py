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

from endcap.errors import TrainingError
from endcap.evaluation.metrics import ndcg_at_k
from endcap.models.precision import autocast
from endcap.models.sequential import SequenceModel
from endcap.training.adversary import with_adversary
from endcap.training.augmentation import augment
from endcap.training.checkpoint import Checkpoint
from endcap.training.losses import FAR_BELOW, Negatives, answer_losses
from endcap.training.schedule import Curve, Schedule
from endcap.training.sequences import Sequences, WindowBatch, batches

logger = logging.getLogger(__name__)
Ints = npt.NDArray[np.int64]
JUDGED_QUESTIONS = 4000  # of the held-out ones, drawn once
JUDGED_K = 10
BETAS = (0.9, 0.98)
LARGEST_GRADIENT = 5.0


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
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, betas=BETAS
    )
    checkpoint = Checkpoint(checkpoint_path, schedule)
    curve = checkpoint.restore(model, optimiser)
    best_weights = checkpoint.best_weights
    started = time.monotonic()
    for epoch in range(len(curve.train), schedule.epochs):
        torch.manual_seed(schedule.seed + epoch)
        rng = np.random.default_rng([schedule.seed, epoch])
        begun = time.monotonic()
        loss, windows = _epoch(model, sequences, questions, schedule, optimiser, epoch, rng)
        curve.train.append(loss)
        curve.windows.append(windows)
        curve.seconds.append(time.monotonic() - begun)
        if held_out is not None:
            valid, ndcg = judge(model, *held_out, schedule)
            curve.valid.append(valid)
            curve.ndcg.append(ndcg)
        if held_out is None or not schedule.patience or curve.ndcg[-1] >= max(curve.ndcg):
            curve.best_epoch = epoch + 1
            best_weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        checkpoint.save(model, optimiser, curve, best_weights)
        judged = f" validation NDCG {curve.ndcg[-1]:.4f}" if curve.ndcg else ""
        progress(f"epoch {epoch + 1}/{schedule.epochs} loss {curve.train[-1]:.4f}{judged}")
        if schedule.patience and epoch + 1 - curve.best_epoch >= schedule.patience:
            break
        if time.monotonic() - started > schedule.max_seconds:
            logger.warning("training_time_limit", extra={"epoch": epoch + 1, "max_seconds": schedule.max_seconds})
            break
    if best_weights:
        model.load_state_dict(best_weights, strict=False)
    return curve


def _epoch(
    model: SequenceModel,
    sequences: Sequences,
    questions: Ints,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    rng: np.random.Generator,
) -> tuple[float, int]:
    """One pass: the mean loss, and how many windows were learnt from."""
    model.train()
    total, count, windows = 0.0, 0, 0
    counts = np.bincount(sequences.target_codes, minlength=len(model.ids)) * model.seen.numpy()
    for step, batch in enumerate(batches(sequences, questions, schedule.batch_size, schedule.batch_tokens, rng)):
        batch = augment(batch, schedule.augment, rng)
        negatives = Negatives.draw(schedule.objective, counts, rng)
        with autocast(schedule.precision):
            loss = batch_loss(model, batch, negatives, schedule)
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
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        optimiser.step()
        total, count, windows = total + value * len(batch.rows), count + len(batch.rows), windows + len(batch.codes)
    return total / max(count, 1), windows


def batch_loss(model: SequenceModel, batch: WindowBatch, negatives: Negatives, schedule: Schedule) -> Tensor:
    """Mean over the questions of the mean over their answers; items new since training cannot be asked of the ids."""
    keep_id = None
    if schedule.id_dropout and model.text_projection is not None:
        keep_id = (torch.rand(len(model.ids)) >= schedule.id_dropout) | ~model.text.any(dim=1)  # no text: nothing but the id
    counted = batch.answered & model.seen[batch.answers]

    def loss_of(items_ID: Tensor) -> Tensor:
        each_QA = answer_losses(schedule.objective, _queries(model, items_ID, batch), items_ID, batch.answers, negatives)
        each = (each_QA * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        return each.sum() / counted.any(dim=1).sum().clamp(min=1)

    return with_adversary(loss_of, model.item_vectors(keep_id), schedule.adversarial)


def _queries(model: SequenceModel, items_ID: Tensor, batch: WindowBatch) -> Tensor:
    """(Q, D) what each question's shopper wants."""
    hidden = model(items_ID, batch.codes, batch.kinds, batch.days, batch.valid, batch.shown)
    state = hidden[batch.rows, batch.places.clamp(min=0)]
    state = torch.where(batch.places[:, None] < 0, model.start.expand_as(state), state)
    return model.queries(state, batch.gap_days)


@torch.inference_mode()
def judge(model: SequenceModel, sequences: Sequences, questions: Ints, schedule: Schedule) -> tuple[float, float]:
    """(-log softmax over all seen items, NDCG@10) of held-out questions, without dropout, the same ones each time.

    Ranked are the items seen in training that the shopper's window does not show yet, and the answers.
    """
    model.eval()
    rng = np.random.default_rng(schedule.seed)
    chosen = np.sort(rng.choice(questions, min(JUDGED_QUESTIONS, len(questions)), replace=False))
    items_ID = model.item_vectors()
    unseen = ~model.seen[None, :]
    losses, gains, count = 0.0, 0.0, 0
    for batch in batches(sequences, chosen, schedule.batch_size, schedule.batch_tokens, rng):
        logits = (_queries(model, items_ID, batch) @ items_ID.T).float().masked_fill(unseen, FAR_BELOW)
        counted = batch.answered & model.seen[batch.answers]
        asked = counted.any(dim=1)
        scored = logits.gather(1, batch.answers)
        each = ((torch.logsumexp(logits, dim=1, keepdim=True) - scored) * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        losses += float(each.sum())
        before = torch.arange(batch.codes.shape[1]) <= batch.places[:, None]
        row, place = before.nonzero(as_tuple=True)
        logits[row, batch.codes[batch.rows[row], place]] = FAR_BELOW
        logits.scatter_reduce_(1, batch.answers, torch.where(counted, scored, FAR_BELOW), "amax")  # padding repeats an answer
        best = logits.topk(min(JUDGED_K, logits.shape[1]), dim=1).indices
        hits = ((best[:, :, None] == batch.answers[:, None, :]) & counted[:, None, :]).any(dim=2)
        gains += float(ndcg_at_k(hits.numpy(), counted.sum(dim=1).numpy(), JUDGED_K)[asked.numpy()].sum())
        count += int(asked.sum())
    return losses / max(count, 1), gains / max(count, 1)
