"""The baselines that stand in every table of the benchmark, and how each one's knobs are chosen: on validation alone.

`evaluation/baselines.py` has the short list that the loop's gates can afford.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from endcap.benchmark.judging import measure, rank
from endcap.benchmark.splits import Split, sample
from endcap.evaluation.baselines import BASELINES
from endcap.models.collaborative import ItemKnn
from endcap.models.content import ContentKnn
from endcap.models.ease import Ease
from endcap.models.history import Floats, Scorer
from endcap.models.matrix_factorisation import Als
from endcap.models.next_basket import Decay, TifuKnn
from endcap.models.popularity import Popularity
from endcap.models.repeats import OwnCounts

if TYPE_CHECKING:
    from endcap.evaluation.baselines import Counter

CHOSEN_BY = "ndcg@10"
CHOICE_USERS = 5_000  # validation users that knobs are chosen by, at most
Knobs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Baseline:
    """How to make one from its knobs; `grid` lists what is tried of each knob, the default first."""

    make: Callable[..., Counter]
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A fitted baseline with the knobs that validation chose and what it gave each setting."""

    scorer: Scorer
    knobs: dict[str, Any]
    tried: list[dict[str, Any]]
    fit_seconds: float  # of the fit that is judged alone


def all_baselines(recent_days: float, text_IE: Floats | None) -> dict[str, Baseline]:
    """Every baseline by name; content-kNN only where items have text."""
    popularity, recent, item_knn, own = BASELINES
    found = {
        popularity: Baseline(Popularity),
        recent: Baseline(lambda: Popularity(recent_days)),
        item_knn: Baseline(ItemKnn),
        own: Baseline(lambda: OwnCounts(recent_days)),
        "EASE": Baseline(Ease, {"regularisation": (500.0, 100.0, 2000.0)}),
        "ALS": Baseline(Als, {"factors": (64, 128), "alpha": (10.0, 1.0, 40.0)}),
        "TIFU-kNN": Baseline(_tifu, {
            "alpha": (0.7, 0.2, 0.9),
            "neighbours": (300, 100, 900), "between": (0.7, 1.0), "within": (0.9, 1.0), "groups": (7, 3),
        }),
    }  # fmt: skip
    if text_IE is not None:
        found["content-kNN"] = Baseline(lambda newest: ContentKnn(text_IE, newest), {"newest": (10, 1, 3, 50)})
    return found


def _tifu(alpha: float, neighbours: int, between: float, within: float, groups: int) -> TifuKnn:
    return TifuKnn(Decay(groups, within, between), neighbours, alpha)


def choose(baseline: Baseline, split: Split, *, mask_seen: bool, progress: Callable[[str], None] = lambda _: None) -> Chosen:
    """Fit with the knobs that rank the validation events best, each knob in turn with the others at their best so far."""
    cases = sample(split.validation, CHOICE_USERS)
    best = {name: values[0] for name, values in baseline.grid.items()}
    tried: list[dict[str, Any]] = []
    scorer, quality, seconds = None, -1.0, 0.0
    for name, values in baseline.grid.items() if len(cases) else ():
        for value in values:
            knobs = best | {name: value}
            if any(all(entry[knob] == knobs[knob] for knob in knobs) for entry in tried):
                continue
            begun = time.monotonic()
            fresh = baseline.make(**knobs).fit(split.train, split.validation_start)
            spent = time.monotonic() - begun
            slates = rank(fresh, cases, split.item_ids, mask_seen=mask_seen)
            reached = float(measure(slates, cases, split.cold, mask_seen=mask_seen)[CHOSEN_BY].mean())
            tried.append(knobs | {CHOSEN_BY: round(reached, 5)})
            progress(", ".join(f"{key} {entry:g}" for key, entry in tried[-1].items()))
            if reached > quality:
                best, quality, scorer, seconds = knobs, reached, fresh, spent
    if scorer is None or split.fit_until != split.validation_start:
        begun = time.monotonic()
        scorer = baseline.make(**best).fit(split.known, split.fit_until)
        seconds = time.monotonic() - begun
    return Chosen(scorer, best, tried, round(seconds, 2))
