"""The hyper-parameters of a fit, and which of them params.yaml gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from endcap.models.newcomers import NewcomerPlaces
from endcap.training.augmentation import Augment
from endcap.training.losses import Objective
from endcap.training.schedule import Schedule

if TYPE_CHECKING:
    from endcap.config import Params


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Hyper-parameters of a fit; the defaults suit a hand-made shop."""

    dim: int = 64
    layers: int = 1
    heads: int = 2
    max_length: int = 100
    dropout: float = 0.4
    tied: bool = True
    positions: Literal["from_end", "from_start", "none"] = "from_end"
    context: bool = False
    id_dropout: float = 0.15
    factors: int = 0
    loss: str = "sampled"
    negatives: int = 1024
    negative_sampling: str = "popularity"
    logq: bool = True
    augment: Augment = Augment()  # noqa: RUF009 -- frozen
    adversarial: float = 0.0
    learning_rate: float = 0.003
    weight_decay: float = 0.2
    batch_size: int = 256
    batch_tokens: int = 2048
    max_epochs: int = 10
    ema_decay: float = 0.998
    patience: int = 0
    precision: str = "auto"
    max_seconds: float = 600.0
    seed: int = 42
    recent_days: float = 28.0
    validation_days: float = 7.0
    horizon_days: float = 7.0  # how long a model serves before the next: the blend is learnt on slices of that length
    newcomers: NewcomerPlaces = NewcomerPlaces()  # noqa: RUF009 -- frozen
    update_epochs: int = 2
    update_learning_rate: float = 0.0005
    replay_ratio: float = 1.0
    anchor: float = 0.0

    def schedule(self, *, update: bool = False) -> Schedule:
        """The schedule of a full fit or of an update."""
        return Schedule(
            epochs=self.update_epochs if update else self.max_epochs,
            learning_rate=self.update_learning_rate if update else self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
            objective=Objective(self.loss, self.negatives, self.negative_sampling, self.logq),
            id_dropout=self.id_dropout,
            augment=self.augment,
            adversarial=self.adversarial,
            seed=self.seed,
            precision=self.precision,
            ema_decay=self.ema_decay,
            anchor=self.anchor if update else 0.0,
            patience=0 if update else self.patience,
            max_seconds=self.max_seconds,
        )


def fit_options(params: Params) -> FitOptions:
    """The hyper-parameters of params.yaml as the options of a fit."""
    section = params.train
    return FitOptions(
        **section.model_dump(exclude={"update", "augment", "processes"}),
        augment=Augment(**section.augment.model_dump()),
        recent_days=params.recent_days,
        newcomers=NewcomerPlaces(params.newcomers.first, params.newcomers.every),
        validation_days=params.prepare.validation_days,
        update_epochs=section.update.epochs,
        update_learning_rate=section.update.learning_rate,
        replay_ratio=section.update.replay_ratio,
        anchor=section.update.anchor,
    )
