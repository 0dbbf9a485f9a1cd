"""How long and how fast to learn, and what came of it epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn."""

    epochs: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    seed: int
    precision: str
    patience: int = 0  # epochs without a better validation loss before going back to the best; 0: keep the last
    max_seconds: float = math.inf


@dataclass(slots=True)
class Curve:
    """Loss by epoch. `best_epoch` counts from 1."""

    train: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = 0
