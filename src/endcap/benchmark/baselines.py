"""The baselines that stand in every table of the benchmark, and how each one's knobs are chosen: on validation alone.

`evaluation/baselines.py` has the short list that the loop's gates can afford.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from endcap.progress import Progress, silent

if TYPE_CHECKING:
    from endcap.evaluation.baselines import Counter

CHOSEN_BY = "ndcg@10"
CHOICE_USERS = 5_000  # validation users that knobs are chosen by, at most


@dataclass(frozen=True, slots=True)
class Ladder:
    """The values of a knob in ascending order, and where the search starts."""

    values: tuple[float, ...]
    start: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """How to make one from its knobs, and what each knob may be."""

    make: Callable[..., Counter]
    knobs: Mapping[str, Ladder] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A fitted baseline with the knobs that validation chose and what it gave each setting."""

    scorer: Scorer
    knobs: dict[str, float]
    tried: list[dict[str, float]]
    fit_seconds: float  # of the fit that is judged alone


def all_baselines(recent_days: float, text_IE: Floats | None) -> dict[str, Baseline]:
    """Every baseline by name; content-kNN only where items have text."""
    popularity, recent, item_knn, own = BASELINES
    found = {
        popularity: Baseline(Popularity),
        recent: Baseline(lambda: Popularity(recent_days)),
        item_knn: Baseline(ItemKnn),
        own: Baseline(lambda: OwnCounts(recent_days)),
        "EASE": Baseline(Ease, {"regularisation": Ladder((10, 30, 100, 500, 2000), 500)}),
        "ALS": Baseline(Als, {"factors": Ladder((32, 64, 128, 256), 64), "alpha": Ladder((1, 10, 40, 100), 10)}),
        "TIFU-kNN": Baseline(
            _tifu,
            {
                "neighbours": Ladder((10, 30, 100, 300, 900), 300),
                "alpha": Ladder((0.1, 0.3, 0.5, 0.7, 0.9), 0.7),
                "between": Ladder((0.5, 0.7, 0.9, 1.0), 0.7),
                "within": Ladder((0.7, 0.8, 0.9, 1.0), 0.9),
                "groups": Ladder((1, 3, 7, 15), 7),
            },
        ),
    }
    if text_IE is not None:
        found["content-kNN"] = Baseline(lambda newest: ContentKnn(text_IE, newest), {"newest": Ladder((1, 3, 10, 30), 10)})
    return found


def _tifu(neighbours: int, alpha: float, between: float, within: float, groups: int) -> TifuKnn:
    return TifuKnn(Decay(groups, within, between), neighbours, alpha)


def choose(baseline: Baseline, split: Split, *, mask_seen: bool, progress: Progress = silent) -> Chosen:
    """Fit with the knobs that rank the validation events best, then fit those as the protocol has it."""
    cases = sample(split.validation, CHOICE_USERS)
    best: tuple[Scorer | None, float, float] = (None, -1.0, 0.0)  # with its quality and the seconds of its fit

    def judge(knobs: dict[str, float]) -> float:
        nonlocal best
        begun = time.monotonic()
        scorer = baseline.make(**knobs).fit(split.train, split.validation_start)
        seconds = time.monotonic() - begun
        slates = rank(scorer, cases, split.item_ids, mask_seen=mask_seen)
        quality = float(measure(slates, cases, split.cold, mask_seen=mask_seen)[CHOSEN_BY].mean())
        progress(", ".join([*(f"{name} {value:g}" for name, value in knobs.items()), f"{CHOSEN_BY} {quality:.4f}"]))
        if quality > best[1]:
            best = scorer, quality, seconds
        return quality

    knobs, tried = climb(baseline.knobs, judge) if len(cases) else ({name: at.start for name, at in baseline.knobs.items()}, [])
    scorer, _, seconds = best
    if scorer is None or split.fit_until != split.validation_start:
        begun = time.monotonic()
        scorer = baseline.make(**knobs).fit(split.known, split.fit_until)
        seconds = time.monotonic() - begun
    return Chosen(scorer, knobs, tried, round(seconds, 2))


def climb(
    ladders: Mapping[str, Ladder], judge: Callable[[dict[str, float]], float]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The best knobs found, and all that were tried: each knob in turn goes up or down its ladder while that helps.

    >>> climb({"x": Ladder((1, 2, 3, 4), 2)}, lambda knobs: -((knobs["x"] - 3.4) ** 2))[0]
    {'x': 3}
    """
    best = {name: ladder.start for name, ladder in ladders.items()}
    qualities: dict[tuple[float, ...], float] = {}
    for name, ladder in ladders.items():
        moved = True
        while moved:
            at = ladder.values.index(best[name])
            near = [
                best,
                *(best | {name: ladder.values[place]} for place in (at - 1, at + 1) if 0 <= place < len(ladder.values)),
            ]
            for knobs in near:
                if tuple(knobs.values()) not in qualities:
                    qualities[tuple(knobs.values())] = judge(knobs)
            better = max(near, key=lambda knobs: qualities[tuple(knobs.values())])  # the first of equals: stay
            moved, best = better != best, better
    return best, [dict(zip(best, values, strict=True)) | {CHOSEN_BY: round(q, 5)} for values, q in qualities.items()]
