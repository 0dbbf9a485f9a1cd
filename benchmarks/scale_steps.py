"""One training step over a large catalogue, part by part: with a dense gradient of all items, and by the touched rows alone."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

from endcap.models.sequential import SequenceModel
from endcap.training.losses import Negatives
from endcap.training.options import FitOptions
from endcap.training.schedule import Schedule
from endcap.training.sequences import WindowBatch
from endcap.training.trainer import LARGEST_GRADIENT, batch_loss

LENGTH, QUESTIONS, ANSWERS = 50, 16, 4
EPSILON = 1e-8


def random_batch(items: int, options: FitOptions, rng: np.random.Generator) -> WindowBatch:
    """Windows of 50 events, as many as `batch_tokens` allows, with 16 questions of 4 answers each."""
    windows = max(options.batch_tokens // LENGTH, 1)
    asked = windows * QUESTIONS
    days = np.sort(rng.uniform(-60, 0, (windows, LENGTH)), axis=1).astype(np.float32)
    return WindowBatch(
        torch.from_numpy(rng.integers(0, items, (windows, LENGTH))), torch.zeros(windows, LENGTH, dtype=torch.long),
        torch.from_numpy(days), torch.ones(windows, LENGTH, dtype=torch.bool),
        torch.arange(windows).repeat_interleave(QUESTIONS), torch.from_numpy(rng.integers(0, LENGTH, asked)),
        torch.ones(asked), torch.zeros(asked, dtype=torch.long),
        torch.from_numpy(rng.integers(0, items, (asked, ANSWERS))), torch.ones(asked, ANSWERS, dtype=torch.bool),
    )  # fmt: skip


class Watch:
    """Seconds since the last look, by name."""

    def __init__(self) -> None:
        self.begun = self.last = time.perf_counter()
        self.parts: dict[str, float] = {}

    def look(self, name: str) -> None:
        now = time.perf_counter()
        self.parts[name], self.last = now - self.last, now

    def done(self) -> dict[str, float]:
        return self.parts | {"whole": self.last - self.begun}


def find_gradients(
    model: SequenceModel,
    optimiser: torch.optim.Optimizer,
    batch: WindowBatch,
    negatives: Negatives,
    schedule: Schedule,
    watch: Watch,
) -> None:
    """A step up to the optimiser, its parts timed."""
    optimiser.zero_grad(set_to_none=True)
    loss = batch_loss(model, batch, negatives, schedule)
    watch.look("forward")
    loss.backward()  # type: ignore[no-untyped-call]
    watch.look("backward")
    nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
    watch.look("clip")


def dense_step(
    model: SequenceModel, optimiser: torch.optim.Optimizer, batch: WindowBatch, schedule: Schedule, rng: np.random.Generator
) -> dict[str, float]:
    """As training/trainer.py does it."""
    counts = np.ones(len(model.ids), np.int64)
    watch = Watch()
    negatives = Negatives.draw(schedule.objective, counts, rng)
    watch.look("draw")
    find_gradients(model, optimiser, batch, negatives, schedule, watch)
    optimiser.step()
    watch.look("optimiser")
    return watch.done()


class Rows:
    """AdamW over the rows that a step touches. Weight decay of the steps between is caught up exactly; momentum is not.

    Dense Adam goes on moving a row by its old momentum for some tens of steps after its last gradient, this one does not: the
    two are the same only for rows that every step touches.
    """

    def __init__(self, weights_ID: Tensor, rate: float, decay: float, betas: tuple[float, float]) -> None:
        self.weights, self.rate, self.decay, self.betas = weights_ID, rate, decay, betas
        self.first, self.second = torch.zeros_like(weights_ID), torch.zeros_like(weights_ID)
        self.done = torch.zeros(len(weights_ID), dtype=torch.long)  # steps whose decay the row has had
        self.steps = 0

    def read(self, codes_U: Tensor) -> Tensor:
        """(U, D) the rows as they would be by now."""
        missed = (self.steps - self.done[codes_U]).float()[:, None]
        return self.weights[codes_U] * (1 - self.rate * self.decay) ** missed

    def step(self, codes_U: Tensor, gradient_UD: Tensor) -> None:
        """One step of AdamW (Loshchilov & Hutter 2019) on these rows."""
        rows = self.read(codes_U) * (1 - self.rate * self.decay)
        self.steps += 1
        low, high = self.betas
        first = torch.lerp(gradient_UD, self.first[codes_U], low)
        second = torch.lerp(gradient_UD.square(), self.second[codes_U], high)
        spread = (second / (1 - high**self.steps)).sqrt() + EPSILON
        self.weights[codes_U] = rows - self.rate / (1 - low**self.steps) * first / spread
        self.first[codes_U], self.second[codes_U] = first, second
        self.done[codes_U] = self.steps


def sparse_step(
    model: SequenceModel,
    rows: Rows,
    others: torch.optim.Optimizer,
    batch: WindowBatch,
    schedule: Schedule,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The same step on a catalogue of the touched items alone; `model.ids` and `model.seen` are those of this step then."""
    counts = np.ones(len(rows.weights), np.int64)
    watch = Watch()
    negatives = Negatives.draw(schedule.objective, counts, rng)
    watch.look("draw")
    codes = torch.unique(torch.cat([batch.codes.reshape(-1), batch.answers.reshape(-1), negatives.codes]))
    model.ids, model.seen = nn.Parameter(rows.read(codes)), torch.ones(len(codes), dtype=torch.bool)
    find_gradients(model, others, batch.over(codes), negatives.over(codes), schedule, watch)
    others.step()
    gradient = model.ids.grad
    assert gradient is not None
    rows.step(codes, gradient)
    watch.look("optimiser")
    return watch.done()
