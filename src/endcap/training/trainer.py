"""Passes of the sequential model over training examples, with validation, checkpoints and a limit in time."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from endcap.errors import TrainingError
from endcap.evaluation.metrics import ndcg_at_k
from endcap.models.precision import autocast
from endcap.models.sequential import SequenceModel
from endcap.progress import Progress, silent
from endcap.training.adversary import with_adversary
from endcap.training.anchor import Anchor
from endcap.training.augmentation import augment
from endcap.training.averaging import WeightAverage
from endcap.training.checkpoint import Checkpoint
from endcap.training.losses import FAR_BELOW, Negatives, answer_losses
from endcap.training.schedule import Curve, Schedule
from endcap.training.sequences import Sequences, WindowBatch, batches
from endcap.training.team import Team, current_team

logger = logging.getLogger(__name__)
Ints = npt.NDArray[np.int64]
JUDGED_QUESTIONS = 4000  # of the held-out ones, drawn once
JUDGED_K = 10
BETAS = (0.9, 0.98)
LARGEST_GRADIENT = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What a process needs in order to learn its share of a training: the state that `train` starts from."""

    model: SequenceModel
    optimiser: dict[str, Any]
    sequences: Sequences
    questions: Ints
    schedule: Schedule
    epochs_done: int


def train(
    model: SequenceModel,
    sequences: Sequences,
    questions: Ints,
    schedule: Schedule,
    *,
    held_out: tuple[Sequences, Ints] | None = None,
    checkpoint_path: Path | None = None,
    progress: Progress = silent,
) -> Curve:
    """Train in place; with patience ends at the best epoch on `held_out` (sequences and questions), else at the last.

    The other processes of the current team (training/distributed.py), if any, are called to take their share of each step.

    Raises:
        TrainingError: nothing to learn from, a loss that is not finite (the last good checkpoint stays on disk), or a process
            that no longer answers.
    """
    if not len(questions):
        raise TrainingError(
            "no shopper came twice in the training period",
            field="train",
            value=0,
            action="Ingest more history, or more shoppers.",
        )
    team = current_team()
    optimiser = _optimiser(model.to(team.device), schedule)
    anchor = Anchor(model, schedule.anchor)
    average = WeightAverage(model, schedule.ema_decay)
    checkpoint = Checkpoint(checkpoint_path, schedule, _about(model, sequences, questions, held_out))
    curve = checkpoint.restore(model, optimiser, average)
    team.call(Job(model, optimiser.state_dict(), sequences, questions, schedule, len(curve.train)))
    best_weights = checkpoint.best_weights
    started = time.monotonic()
    for epoch in range(len(curve.train), schedule.epochs):
        begun = time.monotonic()
        loss, windows = _epoch(model, sequences, questions, schedule, optimiser, epoch, anchor, average)
        curve.train.append(loss)
        curve.windows.append(windows)
        curve.seconds.append(time.monotonic() - begun)
        with average.in_place(model):
            if held_out is not None:
                valid, ndcg = judge(model, *held_out, schedule)
                curve.valid.append(valid)
                curve.ndcg.append(ndcg)
            if held_out is None or not schedule.patience or curve.ndcg[-1] >= max(curve.ndcg):
                curve.best_epoch = epoch + 1
                best_weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        checkpoint.save(model, optimiser, average, curve, best_weights)
        judged = f" validation NDCG {curve.ndcg[-1]:.4f}" if curve.ndcg else ""
        with average.in_place(model):  # whoever is told may look at the model as it would be kept
            progress(f"epoch {epoch + 1}/{schedule.epochs} loss {curve.train[-1]:.4f}{judged}")
        late = time.monotonic() - started > schedule.max_seconds
        if late:
            logger.warning("training_time_limit", extra={"epoch": epoch + 1, "max_seconds": schedule.max_seconds})
        stop = late or bool(schedule.patience and epoch + 1 - curve.best_epoch >= schedule.patience)
        if team.agree(stop):
            break
    team.busy = False
    if best_weights:
        model.load_state_dict(best_weights, strict=False)
    model.cpu()
    return curve


def _about(
    model: SequenceModel, sequences: Sequences, questions: Ints, held_out: tuple[Sequences, Ints] | None
) -> Iterator[npt.NDArray[Any]]:
    """Everything that a training depends on beside its schedule."""
    yield from (weight.detach().cpu().numpy() for weight in model.parameters())
    yield model.text.cpu().numpy()
    yield model.seen.cpu().numpy()
    for data, asked in ((sequences, questions), *((held_out,) if held_out else ())):
        yield from (getattr(data, field.name) for field in dataclasses.fields(data))
        yield asked


def take_part(team: Team, job: Job) -> None:
    """A follower's side of `train`: the same steps on its own share; the leader judges, saves and says when to stop."""
    model, schedule = job.model.to(team.device), job.schedule
    optimiser = _optimiser(model, schedule)
    optimiser.load_state_dict(job.optimiser)
    anchor = Anchor(model, schedule.anchor)
    for epoch in range(job.epochs_done, schedule.epochs):
        _epoch(model, job.sequences, job.questions, schedule, optimiser, epoch, anchor)
        if team.agree(False):
            break


def _optimiser(model: SequenceModel, schedule: Schedule) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, betas=BETAS, fused=True
    )


def _seeded(team: Team, schedule: Schedule, epoch: int) -> np.random.Generator:
    """Chance of an epoch: the same batches and negatives in every process, but each drops out places of its own."""
    torch.manual_seed(team.seed(schedule.seed + epoch))
    return np.random.default_rng([schedule.seed, epoch])


def _epoch(
    model: SequenceModel,
    sequences: Sequences,
    questions: Ints,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    anchor: Anchor,
    average: WeightAverage | None = None,
) -> tuple[float, int]:
    """One pass of all processes: the mean loss, and how many windows were learnt from."""
    model.train()
    team = current_team()
    rng = _seeded(team, schedule, epoch)
    total, count, windows = 0.0, 0, 0
    counts = np.bincount(sequences.target_codes, minlength=len(model.ids)) * model.seen.cpu().numpy()
    for step, batch in enumerate(batches(sequences, questions, schedule.batch_size, schedule.batch_tokens, rng)):
        batch = augment(batch, schedule.augment, rng)
        negatives = Negatives.draw(schedule.objective, counts, rng).to(team.device)
        own, share = team.part(batch.to(team.device), model.seen)
        optimiser.zero_grad(set_to_none=True)
        value = 0.0
        if len(own.rows):
            with autocast(schedule.precision, team.device.type):
                loss = batch_loss(model, own, negatives, schedule) * share
            loss.backward()  # type: ignore[no-untyped-call]
            value = float(loss.detach())
        value = team.sum_up(model.parameters(), value)
        if not math.isfinite(value):
            raise TrainingError(
                "the loss is not finite",
                field=f"epoch {epoch + 1}, step {step + 1}",
                value=value,
                action="Lower train.learning_rate, or set train.precision to fp32; the last good checkpoint is kept.",
            )
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        optimiser.step()
        anchor.draw(model, schedule.learning_rate)
        if average is not None:
            average.update(model)
        total, count, windows = total + value * len(batch.rows), count + len(batch.rows), windows + len(batch.codes)
    return total / max(count, 1), windows


def batch_loss(model: SequenceModel, batch: WindowBatch, negatives: Negatives, schedule: Schedule) -> Tensor:
    """Mean over the questions of the mean over their answers; items new since training cannot be asked of the ids."""
    keep_id = None
    if schedule.id_dropout and model.text_projection is not None:
        chosen = torch.rand(len(model.ids), device=model.ids.device) >= schedule.id_dropout
        keep_id = chosen | ~model.has_text  # no text: nothing but the id
    counted = batch.answered & model.seen[batch.answers]
    needed = torch.unique(torch.cat([batch.codes.flatten(), batch.answers.flatten(), negatives.codes]))
    batch, negatives = batch.over(needed), negatives.over(needed)

    def loss_of(items_NW: Tensor) -> Tensor:
        wanted, offered = _queries(model, items_NW, batch), model.answering(items_NW)
        each_QA = answer_losses(schedule.objective, wanted, offered, batch.answers, negatives)
        each = (each_QA * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        return each.sum() / counted.any(dim=1).sum().clamp(min=1)

    return with_adversary(loss_of, model.item_vectors(needed, keep_id), schedule.adversarial)


def _queries(model: SequenceModel, items_IW: Tensor, batch: WindowBatch) -> Tensor:
    """(Q, D) what each question's shopper wants."""
    hidden = model(items_IW, batch.codes, batch.kinds, batch.days, batch.valid, batch.shown)
    state = hidden[batch.rows, batch.places.clamp(min=0)]
    state = torch.where(batch.places[:, None] < 0, model.start.expand_as(state), state)
    return model.queries(state, batch.gap_days, batch.occasions)


@torch.inference_mode()
def judge(model: SequenceModel, sequences: Sequences, questions: Ints, schedule: Schedule) -> tuple[float, float]:
    """(-log softmax over all seen items, NDCG@10) of held-out questions, without dropout, the same ones each time.

    Ranked are the items seen in training that the shopper's window does not show yet, and the answers.
    """
    model.eval()
    rng = np.random.default_rng(schedule.seed)
    chosen = np.sort(rng.choice(questions, min(JUDGED_QUESTIONS, len(questions)), replace=False))
    items_IW = model.item_vectors()
    unseen = ~model.seen[None, :]
    losses, gains, count = 0.0, 0.0, 0
    for drawn in batches(sequences, chosen, schedule.batch_size, schedule.batch_tokens, rng):
        batch = drawn.to(items_IW.device)
        logits = (_queries(model, items_IW, batch) @ model.answering(items_IW).T).float().masked_fill(unseen, FAR_BELOW)
        counted = batch.answered & model.seen[batch.answers]
        asked = counted.any(dim=1)
        scored = logits.gather(1, batch.answers)
        each = ((torch.logsumexp(logits, dim=1, keepdim=True) - scored) * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        losses += float(each.sum())
        before = torch.arange(batch.codes.shape[1], device=items_IW.device) <= batch.places[:, None]
        row, place = before.nonzero(as_tuple=True)
        logits[row, batch.codes[batch.rows[row], place]] = FAR_BELOW
        logits.scatter_reduce_(1, batch.answers, torch.where(counted, scored, FAR_BELOW), "amax")  # padding repeats an answer
        best = logits.topk(min(JUDGED_K, logits.shape[1]), dim=1).indices
        hits = ((best[:, :, None] == batch.answers[:, None, :]) & counted[:, None, :]).any(dim=2)
        found, wanted = hits.cpu().numpy(), counted.sum(dim=1).cpu().numpy()
        gains += float(ndcg_at_k(found, wanted, JUDGED_K)[asked.cpu().numpy()].sum())
        count += int(asked.sum())
    return losses / max(count, 1), gains / max(count, 1)
