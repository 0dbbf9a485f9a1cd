"""The sections of params.yaml, typed: names, ranges, and what must go together within one. config.py reads them from the file.

Not here: the section `tune` (search_space.py), since its space speaks of the others.
"""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from endcap.contracts import Surface

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]  # at a half and below, a lower bound would lie above the mean


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SimulatedShop(Section):
    seed: int
    items: Count
    shoppers: Count
    days: Count


class Shop(Section):
    name: Literal["online-retail", "simulated"]
    history_until: date
    weeks: Annotated[int, Field(ge=0)]
    simulated: SimulatedShop


class Ingest(Section):
    clock_skew_minutes: Annotated[float, Field(ge=0)]
    max_price: Positive  # shop currency
    volume_ratio: tuple[Positive, Positive]
    catalog_code_pattern: str | None = None  # None: every code is an item, unless the shop's own mapping says otherwise
    max_dropped_share: Fraction = 0.6  # of the events whose shopper is known

    @field_validator("volume_ratio")
    @classmethod
    def _ascending(cls, ratio: tuple[float, float]) -> tuple[float, float]:
        if ratio[0] >= ratio[1]:
            raise ValueError("the first number must be below the second")
        return ratio

    @field_validator("catalog_code_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from error
        return pattern


class Prepare(Section):
    validation_days: Count
    holdout_days: Count
    min_item_events: Count


class Adapt(Section):
    method: Literal["none", "mlm", "contrastive", "behaviour"]
    peft: Literal["none", "lora", "adalora"]
    rank: Count
    alpha: Positive
    layers: Count  # the top ones; the rest stays as it is
    steps: Count
    batch_size: Annotated[int, Field(ge=2)]  # texts, or pairs of texts
    learning_rate: Positive
    temperature: Positive
    max_tokens: Annotated[int, Field(ge=4)]
    checkpoint_steps: Count
    seed: int
    max_seconds: Positive


class Encode(Section):
    model: str
    max_tokens: Annotated[int, Field(ge=4)]
    max_chunks: Count
    fields: Literal["together", "weighed"] = "together"
    whitening: Literal["none", "pca"]
    dims: Count | None  # None: all
    batch_size: Count
    max_seconds: Positive


class Update(Section):
    epochs: Count
    learning_rate: Positive
    replay_ratio: Annotated[float, Field(ge=0)]
    anchor: Annotated[float, Field(ge=0)] = 0.0  # 0: none


class Augment(Section):
    crop: Fraction  # of windows
    mask: Annotated[float, Field(ge=0, lt=1)]  # of events
    reorder: Fraction  # of neighbours in time


class Train(Section):
    seed: int
    dim: Count
    layers: Count
    heads: Count  # divides dim
    max_length: Count  # events of a shopper that the transformer reads
    dropout: Annotated[float, Field(ge=0, lt=1)]
    tied: bool = True
    positions: Literal["from_end", "from_start", "none"] = "from_end"
    context: bool = False
    id_dropout: Annotated[float, Field(ge=0, lt=1)]  # share of items that a step shows by their text alone
    factors: Annotated[int, Field(ge=0)] = 0  # of the matrix factorisation; 0: none
    loss: Literal["softmax", "sampled", "gbce"]
    negatives: Count  # items a step
    negative_sampling: Literal["uniform", "popularity"]
    logq: bool
    augment: Augment
    adversarial: Annotated[float, Field(ge=0)]  # lengths of an item's vector
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Count  # windows
    batch_tokens: Count  # events
    max_epochs: Count
    ema_decay: Annotated[float, Field(ge=0, lt=1)]  # 0: off
    patience: Count
    precision: Literal["auto", "fp32", "bf16"]
    max_seconds: Positive
    processes: Count = 1
    update: Update

    @field_validator("heads")
    @classmethod
    def _divides(cls, heads: int, given: ValidationInfo) -> int:
        if given.data.get("dim", heads) % heads:
            raise ValueError(f"train.dim ({given.data['dim']}) must be a multiple of train.heads")
        return heads


class Behaviour(Section):
    """The head that predicts clicks and purchases. What counts as one: monitoring.attribution_hours."""

    enabled: bool = True
    min_rows: Annotated[int, Field(ge=100)] = 1000  # shown items
    max_rows: Annotated[int, Field(ge=100)] = 60_000  # shown items, the newest

    @model_validator(mode="after")
    def _at_least(self) -> Behaviour:
        if self.max_rows < self.min_rows:
            raise ValueError(f"behaviour.max_rows ({self.max_rows}) must not be below behaviour.min_rows ({self.min_rows})")
        return self


class Newcomers(Section):
    """Places of a slate for items that nobody has taken yet."""

    first: Count = 11
    every: Annotated[int, Field(ge=0)] = 4  # 0: none


class Evaluate(Section):
    k: Count
    bootstrap_samples: Annotated[int, Field(ge=50)]  # fewer say nothing of a tail
    confidence: Confidence
    seed: int


class Gates(Section):
    confidence: Confidence
    margin_vs_champion: Fraction
    margin_vs_baselines: Fraction
    slice_margin: Fraction
    slice_min_users: Count
    min_coverage: Fraction
    max_latency_ms: Positive
    max_size_mb: Positive


class CanaryStep(Section):
    share: Annotated[float, Field(gt=0, lt=1)]  # of shoppers
    slack: Annotated[float, Field(ge=1)] = 1.0  # bars are this many times as wide
    min_shoppers: Annotated[int, Field(ge=30)]  # in the smaller arm; with fewer no interval can be trusted
    min_hours: Annotated[float, Field(ge=0)]
    patience_hours: Positive

    @model_validator(mode="after")
    def _patient(self) -> CanaryStep:
        if self.patience_hours < self.min_hours:
            raise ValueError(f"patience_hours ({self.patience_hours:g}) must not be below min_hours ({self.min_hours:g})")
        return self


class Guard(Section):
    """How much worse a candidate may be than the champion in one metric of requests."""

    better: Literal["higher", "lower"]
    bar: float
    scale: Literal["relative", "absolute"]
    ceiling: Positive  # of a request's value; what is above counts as this

    @model_validator(mode="after")
    def _worse_side(self) -> Guard:
        if self.better == "higher" and self.bar >= 0:
            raise ValueError(f"bar ({self.bar:g}) must be negative where higher is better")
        if self.better == "lower" and self.bar <= 0:
            raise ValueError(f"bar ({self.bar:g}) must be positive where lower is better")
        return self


GuardMetric = Literal["clicks", "purchases", "latency_ms", "errors", "fallbacks"]


class Shadow(Section):
    """Before the first step: the candidate answers beside the champion, and nobody sees it."""

    share: Annotated[float, Field(gt=0, le=1)]  # of requests
    min_requests: Annotated[int, Field(ge=30)]  # compared, before it goes on; with fewer no interval can be trusted
    min_hours: Annotated[float, Field(ge=0)]


class Canary(Section):
    """A candidate's steps of traffic, and the bars that it must not break. After the last step it answers everybody."""

    enabled: bool = False  # promote_model goes this way
    confirm: bool = True  # a person has the last word, too
    confidence: Confidence
    shadow: Shadow | None = None
    steps: Annotated[tuple[CanaryStep, ...], Field(min_length=1)]
    guards: Annotated[dict[GuardMetric, Guard], Field(min_length=1)]

    @model_validator(mode="after")
    def _go_together(self) -> Canary:
        shares, slacks = [step.share for step in self.steps], [step.slack for step in self.steps]
        if any(after <= before for before, after in pairwise(shares)):
            raise ValueError(f"shares of canary.steps must grow, not {shares}")
        if slacks[-1] != 1:
            raise ValueError(f"the last of canary.steps must have slack 1, not {slacks[-1]:g}: its bars decide")
        for name, guard in self.guards.items():
            worst, widest = -1.0 if guard.better == "higher" else guard.ceiling, guard.bar * max(slacks)
            if guard.scale == "absolute" and guard.better == "higher":
                worst = -guard.ceiling
            if abs(widest) >= abs(worst) and not (guard.scale == "relative" and guard.better == "lower"):
                raise ValueError(f"{name}: a bar of {widest:g} (bar times slack) can never be broken")
        return self


class Rate(Section):
    calls: Count
    seconds: Count


class Rates(Section):
    shop: Rate = Rate(calls=3000, seconds=10)
    reader: Rate = Rate(calls=300, seconds=10)
    operator: Rate = Rate(calls=300, seconds=10)
    anonymous: Rate = Rate(calls=6000, seconds=10)


class Serving(Section):
    repeat_surfaces: tuple[Surface, ...]
    max_k: Count
    max_history: Count
    reload_seconds: Positive
    max_waiting: Count = 64  # code trees from before it have no such keys
    deadline_seconds: Positive = 20.0
    rates: Rates = Rates()


class Monitoring(Section):
    interval_days: Count
    reference_days: Count
    psi_threshold: Positive
    strong_psi: Positive
    unusual_ratio: Annotated[float, Field(ge=1)]
    drift_share: Fraction
    text_threshold: Positive  # mmd
    online_intervals: Count
    attribution_hours: Positive
    min_online_ratio: Fraction
    min_online_requests: Count
    cooldown_days: Annotated[int, Field(ge=0)]
