"""What each part of Endcap gives, and how quality grows with a history: variants of one fitted model, judged like any other.

Ablations are made of a model that has not absorbed its validation events, so they need the protocol leave-one-out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from endcap.benchmark.measuring import Cost
from endcap.benchmark.quality.ours import NAME, blend_weights
from endcap.benchmark.splits import Split
from endcap.models.blend import BlendedRecommender
from endcap.models.history import Floats, History, HistoryBatch, Scorer, encode
from endcap.models.ranker import Ranker
from endcap.models.signals import UNSEEN
from endcap.training.fitting import FULL_HOLD, learn_blend
from endcap.training.options import FitOptions
from endcap.training.ranking import RankingOptions, learn_ranker

FACTORISATION = "matrix factorisation"
PARTS = {
    "sequence": ("sequence", "unseen_sequence"),
    "likeness of texts": ("content", "unseen_content"),
    "EASE": ("ease", "ease_lately"),
    "item-kNN": ("collaborative", "collaborative_lately"),
    FACTORISATION: ("factors",),
    "popularity": ("popular", "recent", "rising"),
    "weights for unseen items": UNSEEN,
}
SECOND_STAGE = "second stage"
NEWEST = (0, 1, 2, 5, 10)
Fit = Callable[[], tuple[Scorer, dict[str, Any]]]


@dataclass(eq=False)
class Silenced(BlendedRecommender):
    """A recommender to which some of its signals say nothing."""

    silent: frozenset[str] = field(default_factory=frozenset)

    def dense(self, batch: HistoryBatch) -> dict[str, Floats]:
        signals = super().dense(batch)
        return {name: np.zeros_like(values) if name in self.silent else values for name, values in signals.items()}


@dataclass(frozen=True, slots=True, eq=False)
class SequenceAlone:
    """The sequential model without the rest."""

    model: BlendedRecommender

    @property
    def item_ids(self) -> Sequence[str]:
        return self.model.item_ids

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        batch = encode(histories, {item: code for code, item in enumerate(self.item_ids)}, now)
        return self.model.dense(batch)["sequence"]


@dataclass(frozen=True, slots=True, eq=False)
class Newest:
    """A scorer that sees only the newest events of each history."""

    scorer: Scorer
    events: int

    @property
    def item_ids(self) -> Sequence[str]:
        return self.scorer.item_ids

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        return self.scorer.score([newest(history, self.events) for history in histories], now)


def newest(history: History, events: int) -> History:
    """The last events of a history."""
    return history.part(slice(max(len(history) - events, 0), None))


def ablations(model: Callable[[], BlendedRecommender], split: Split, options: FitOptions) -> dict[str, Fit]:
    """Endcap without each part, by name: the blend and the second stage are learnt anew, the network is the same."""
    silenced: dict[str, Fit] = {
        f"{NAME} without {part}": partial(_relearnt, model, frozenset(silent), split, options)
        for part, silent in PARTS.items()
        if options.factors or part != FACTORISATION
    }
    return silenced | {
        f"{NAME} without {SECOND_STAGE}": partial(_relearnt, model, frozenset(), split, options, second_stage=False),
        f"{NAME}, sequence alone": lambda: (SequenceAlone(model()), {}),
    }


def cold_starts(model: Callable[[], BlendedRecommender]) -> dict[str, Fit]:
    """Endcap with histories cut to their newest events, by name. What a user had is masked all the same."""

    def fit(events: int) -> tuple[Scorer, dict[str, Any]]:
        return Newest(model(), events), {"newest_events": events}

    return {f"{NAME}, newest {events} events": partial(fit, events) for events in NEWEST}


def _relearnt(
    model: Callable[[], BlendedRecommender],
    silent: frozenset[str],
    split: Split,
    options: FitOptions,
    *,
    second_stage: bool = True,
) -> tuple[Scorer, dict[str, Any]]:
    whole = model()
    left = Silenced(
        whole.items, whole.model, whole.counts, whole.target_types, newcomers=options.newcomers, silent=silent
    )  # fmt: skip

    def rank() -> Ranker | None:
        if not second_stage:
            return None
        return learn_ranker(split.known, split.validation_start, RankingOptions(seed=options.seed), muted=silent)

    with Cost() as cost:
        learn_blend(left, split.known, split.validation_start, split.test_start, options, FULL_HOLD, rank)
    return left, cost.facts("train") | {"silent": sorted(silent), "blend": blend_weights(left)}
