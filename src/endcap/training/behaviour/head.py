"""Learn the behaviour head: on older exposures, calibrated and chosen on newer ones. Never a random split.

…learn… | …calibrate… | end. Losses of the entire space (ESMM, Ma et al. 2018): both P(click) and P(purchase) = P(click) ·
P(purchase | click) are compared with what happened to every shown item, so purchases are not learnt from clicked items alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from endcap.errors import TrainingError
from endcap.evaluation.calibration import log_losses
from endcap.models.behaviour.calibration import CalibrationMap, log_odds
from endcap.models.behaviour.features import Features
from endcap.models.behaviour.head import BehaviourModel, Learnt
from endcap.progress import Progress, silent
from endcap.training.behaviour.calibration import choose_map, surely_positive

MIN_POSITIVES = 10  # of a task, on each side of the split; with fewer one rate speaks for all
MIN_STEPS = 16  # an epoch: few rows are taken in smaller batches
TASKS = ("click", "purchase")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """One candidate. `decay` is worth so many rows of evidence against each weight (times F): few rows, small weights."""

    hidden: int = 0
    decay: float = 10.0
    learning_rate: float = 0.01
    epochs: int = 20
    batch_size: int = 512
    patience: int = 3


CANDIDATES = (
    HeadOptions(hidden=0, decay=3000.0),
    HeadOptions(hidden=0, decay=300.0),
    HeadOptions(hidden=0, decay=30.0),
    HeadOptions(hidden=16, decay=30.0, learning_rate=0.005, epochs=60, batch_size=2048, patience=8),
    HeadOptions(hidden=64, decay=30.0, learning_rate=0.003, epochs=60, batch_size=2048, patience=8),
)


class Head(nn.Module):
    """logits_N2 = W x + V tanh(U x + b) + c, as in models/behaviour/head.py."""

    def __init__(self, features: int, hidden: int, start_2: Floats) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2)
        self.hidden = nn.Linear(features, hidden) if hidden else None
        self.mix = nn.Linear(hidden, 2, bias=False) if hidden else None
        nn.init.zeros_(self.linear.weight)
        with torch.no_grad():
            self.linear.bias.copy_(torch.from_numpy(start_2))
        if self.mix is not None:
            nn.init.zeros_(self.mix.weight)

    def forward(self, x_NF: Tensor) -> Tensor:
        """(N, 2) log-odds of a click, and of a purchase given a click."""
        logits: Tensor = self.linear(x_NF)
        return logits if self.hidden is None or self.mix is None else logits + self.mix(torch.tanh(self.hidden(x_NF)))


def space_loss(logits_N2: Tensor, outcomes_N2: Tensor, weights_2: Tensor) -> Tensor:
    """Mean log loss of P(click) plus that of P(click) · P(purchase | click), each times its weight."""
    click = functional.binary_cross_entropy_with_logits(logits_N2[:, 0], outcomes_N2[:, 0])
    bought = functional.logsigmoid(logits_N2[:, 0]) + functional.logsigmoid(logits_N2[:, 1])
    not_bought = torch.log(-torch.expm1(bought.clamp(max=-1e-6)))
    purchase = -(outcomes_N2[:, 1] * bought + (1 - outcomes_N2[:, 1]) * not_bought).mean()
    return weights_2[0] * click + weights_2[1] * purchase


def fit_head(
    features: Features,
    outcomes_N2: npt.NDArray[Any],
    learn: npt.NDArray[np.bool_],
    groups_N: npt.NDArray[Any] | None = None,
    *,
    seed: int = 0,
    candidates: Sequence[HeadOptions] = CANDIDATES,
    progress: Progress = silent,
) -> BehaviourModel:
    """Learn on the rows of `learn`; stop, choose the candidate and calibrate on the others. Rows in order of time.

    `groups_N`: rows that go together, such as a slate; standard errors count a group once. None: every row by itself.

    A task with fewer than MIN_POSITIVES events on either side, or that no candidate predicts better than one rate does by a
    standard error, gets that rate; `tasks` of the result says so.

    Raises:
        TrainingError: no rows on one side, outcomes not 0 or 1, a purchase without a click, or a loss that is not finite.
    """
    outcomes = _checked(features, outcomes_N2, learn)
    base, learnable = _base(features, outcomes[learn], learn), _learnable(outcomes, learn)
    x = torch.from_numpy(base.standardise(features)).float()
    y = torch.from_numpy(outcomes).float()
    weights = torch.tensor([float(not reason) for reason in learnable])
    best, best_loss, tried = base, float("inf"), []
    for options in candidates if weights.any() and base.names else ():
        head, loss, epochs = _train(x, y, torch.from_numpy(learn), weights, options, base.offset, seed)
        tried.append({**asdict(options), "epochs": epochs, "loss": round(loss, 6)})
        progress(f"behaviour head, {options.hidden} hidden, decay {options.decay:g}: validation loss {loss:.5f}")
        if loss < best_loss:
            best, best_loss = _with_weights(base, head), loss
    groups = np.arange(len(outcomes)) if groups_N is None else groups_N
    tasks = _settle(best, base, features.rows(~learn), outcomes[~learn], groups[~learn], learnable)
    model = _constant_where(best, base, tasks)
    raw = model.raw_chances(features.rows(~learn))
    click = choose_map(raw.click, outcomes[~learn, 0], groups[~learn]) if tasks["click"].by == "head" else CalibrationMap()
    spoken = "head" in {task.by for task in tasks.values()}  # P(purchase) follows P(click) even where its own rate is constant
    purchase = choose_map(raw.purchase, outcomes[~learn, 1], groups[~learn]) if spoken else CalibrationMap()
    facts = {
        "rows": [int(learn.sum()), int((~learn).sum())],
        "positives": [[int(v) for v in outcomes[side].sum(axis=0)] for side in (learn, ~learn)],
        "tried": tried,
        "left_out": [name for name in features.names if name not in base.names],
        "seed": seed,
    }
    return replace(model, calibrate_click=click, calibrate_purchase=purchase, tasks=tasks, facts=facts)


def _train(
    x: Tensor, y: Tensor, learn: Tensor, weights: Tensor, options: HeadOptions, start: Floats, seed: int
) -> tuple[Head, float, int]:
    """The head at its best epoch on the rows outside `learn`, its loss there, and that epoch."""
    torch.manual_seed(seed)
    shuffle = torch.Generator().manual_seed(seed)
    head = Head(x.shape[1], options.hidden, start)
    optimiser = torch.optim.Adam(head.parameters(), lr=options.learning_rate)
    x_learn, y_learn, x_other, y_other = x[learn], y[learn], x[~learn], y[~learn]
    pull = options.decay / len(x_learn)
    size = min(options.batch_size, len(x_learn) // MIN_STEPS + 1)
    best, best_loss, best_epoch = {n: t.clone() for n, t in head.state_dict().items()}, float("inf"), 0
    for epoch in range(options.epochs):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * (1 - epoch / options.epochs)
        for rows in torch.split(torch.randperm(len(x_learn), generator=shuffle), size):
            shrink = sum(p.square().sum() for p in head.parameters() if p.dim() > 1)
            loss = space_loss(head(x_learn[rows]), y_learn[rows], weights) + 0.5 * pull * shrink
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.inference_mode():
            judged = float(space_loss(head(x_other), y_other, weights))
        if not np.isfinite(judged):
            action = "Look for features of absurd size; the model keeps working without a behaviour head."
            raise TrainingError("the loss is not finite", field=f"behaviour, epoch {epoch + 1}", value=judged, action=action)
        if judged < best_loss:
            best, best_loss, best_epoch = {n: t.clone() for n, t in head.state_dict().items()}, judged, epoch + 1
        if epoch + 1 - best_epoch >= options.patience:
            break
    head.load_state_dict(best)
    return head, best_loss, best_epoch


def _base(features: Features, outcomes: Floats, learn: npt.NDArray[np.bool_]) -> BehaviourModel:
    """One rate for all, and how inputs are standardised: what is never a number or never changes is left out."""
    values = np.where(np.isfinite(features.values[learn]), features.values[learn], np.nan)
    known = np.isfinite(values).any(axis=0)
    means, scales = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    means[known], scales[known] = np.nanmean(values[:, known], axis=0), np.nanstd(values[:, known], axis=0)
    kept = np.flatnonzero(scales > 1e-9 * np.maximum(np.abs(means), 1.0))
    clicks, purchases = outcomes.sum(axis=0)
    rates = np.array([(clicks + 0.5) / (len(outcomes) + 1), (purchases + 0.5) / (clicks + 1)])
    none = len(kept)
    return BehaviourModel(
        names=tuple(features.names[column] for column in kept), means=means[kept], scales=scales[kept],
        linear=np.zeros((2, none)), offset=log_odds(rates),
        hidden=np.zeros((0, none)), hidden_offset=np.zeros(0), mix=np.zeros((2, 0)),
    )  # fmt: skip


def _learnable(outcomes: Floats, learn: npt.NDArray[np.bool_]) -> list[str]:
    """For each task why it cannot be learnt; empty where it can."""
    reasons = []
    for task, name in enumerate(TASKS):
        few = [int(min(side.sum(), len(side) - side.sum())) for side in (outcomes[learn, task], outcomes[~learn, task])]
        enough = min(few) >= MIN_POSITIVES
        reasons.append("" if enough else f"{few[0]} and {few[1]} rows of the rarer {name} outcome, {MIN_POSITIVES} needed")
    return reasons


def _with_weights(base: BehaviourModel, head: Head) -> BehaviourModel:
    def plain(tensor: Tensor) -> Floats:
        return np.asarray(tensor.detach().numpy(), np.float64)

    model = replace(base, linear=plain(head.linear.weight), offset=plain(head.linear.bias))
    if head.hidden is None or head.mix is None:
        return model
    hidden, offset, mix = plain(head.hidden.weight), plain(head.hidden.bias), plain(head.mix.weight)
    return replace(model, hidden=hidden, hidden_offset=offset, mix=mix)


def _settle(
    model: BehaviourModel,
    base: BehaviourModel,
    features: Features,
    outcomes: Floats,
    groups: npt.NDArray[Any],
    learnable: list[str],
) -> dict[str, Learnt]:
    """Which tasks the head may speak for: those that it predicts better than one rate does, by a standard error."""
    ours, theirs = model.raw_chances(features), base.raw_chances(features)
    tasks = {}
    for task, (name, reason) in enumerate(zip(TASKS, learnable, strict=True)):
        gains = log_losses(getattr(theirs, name), outcomes[:, task]) - log_losses(getattr(ours, name), outcomes[:, task])
        reason = reason or (
            "" if surely_positive(gains, groups) else "no better than one rate on the calibration rows, by a standard error"
        )
        tasks[name] = Learnt("rate", reason) if reason else Learnt("head")
    return tasks


def _constant_where(model: BehaviourModel, base: BehaviourModel, tasks: dict[str, Learnt]) -> BehaviourModel:
    """The head, with one rate for tasks that it may not speak for: for purchases a rate given a click."""
    offset, linear, mix = model.offset.copy(), model.linear.copy(), model.mix.copy()
    for task, name in enumerate(TASKS):
        if tasks[name].by == "rate":
            offset[task], linear[task], mix[task] = base.offset[task], 0.0, 0.0
    return replace(model, offset=offset, linear=linear, mix=mix)


def _checked(features: Features, outcomes_N2: npt.NDArray[Any], learn: npt.NDArray[np.bool_]) -> Floats:
    outcomes = np.asarray(outcomes_N2, np.float64)
    sizes = (len(features.values), len(outcomes), len(learn))
    if len(set(sizes)) > 1 or not learn.any() or learn.all():
        action = "Give one outcome a row, and rows both to learn from and, later in time, to calibrate on."
        raise TrainingError(
            "nothing to learn behaviour from", field="exposures", value=(*sizes, int(learn.sum())), action=action
        )
    if not np.isin(outcomes, (0.0, 1.0)).all() or (outcomes[:, 1] > outcomes[:, 0]).any():
        action = "Label exposures with training.outcomes.label_exposures."
        raise TrainingError("outcomes must be 0 or 1, a purchase a click too", field="outcomes", action=action)
    return outcomes
