"""How long and how fast to learn, and what came of it epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from endcap.training.augmentation import Augment
from endcap.training.losses import Objective


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, how fast and on what to learn."""

    epochs: int
    learning_rate: float
    weight_decay: float
    batch_size: int  # windows at most
    batch_tokens: int  # events at most, padding included
    seed: int
    precision: str
    objective: Objective = Objective()  # noqa: RUF009 -- frozen
    id_dropout: float = 0.0  # share of items that a step shows by their text alone
    augment: Augment = Augment()  # noqa: RUF009 -- frozen
    adversarial: float = 0.0  # how far items are moved against the loss, in lengths of their vectors
    ema_decay: float = 0.0  # of the average of weights that is judged and kept; 0: the last step's
    anchor: float = 0.0  # how strongly weights are held to those that one began with
    patience: int = 0  # epochs without a better NDCG on held-out questions before going back to the best; 0: keep the last
    max_seconds: float = math.inf


@dataclass(slots=True)
class Curve:
    """What happened by epoch. `best_epoch` counts from 1."""

    train: list[float] = field(default_factory=list)  # loss
    valid: list[float] = field(default_factory=list)  # -log softmax over all items of held-out answers
    ndcg: list[float] = field(default_factory=list)  # NDCG@10 of held-out questions
    seconds: list[float] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)  # sequences learnt from
    best_epoch: int = 0
