"""Rank a week that a scorer has not learnt, all items and new ones alone; and baselines week by week.

Shapes: U shoppers of a week, K places, I items of the shop's whole vocabulary.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt

from endcap.benchmark.baselines import CHOSEN_BY, Baseline, climb
from endcap.benchmark.judging import BATCH_NUMBERS, PLACES, best_items, found
from endcap.benchmark.splits import Cases
from endcap.benchmark.updates.shop import WEEK, WeeklyShop
from endcap.errors import TrainingError
from endcap.evaluation.metrics import ndcg_at_k, recall_at_k
from endcap.models.history import Scorer
from endcap.progress import Progress

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
CHOICE_WEEKS = 4  # before the first judged one, that baselines' knobs are chosen by
POPULAR_SHARE = 0.2  # of the items that anybody took before the first week: those with the most takes
POPULAR_METRIC = "popular.recall@20"


def slates_of(scorer: Scorer, shop: WeeklyShop, cases: Cases) -> Ints:
    """(2, U, K) the best items of the whole vocabulary: of all that the scorer lists, and of those new to the shopper.

    -1 where nothing more can be shown.

    Raises:
        TrainingError: the scorer gives a score that is no number.
    """
    index = {item: code for code, item in enumerate(shop.events.item_ids)}
    own = np.array([index[item] for item in scorer.item_ids], np.int64)
    place = np.full(len(index), -1, np.int64)
    place[own] = np.arange(len(own))
    slates = np.full((2, len(cases), PLACES), -1, np.int64)
    size = max(1, BATCH_NUMBERS // max(len(own), 1))
    for begin in range(0, len(cases), size):
        end = min(begin + size, len(cases))
        scores = np.array(scorer.score(cases.histories[begin:end], cases.moment))
        if not np.isfinite(scores).all():
            raise TrainingError("a score is no number", field=type(scorer).__name__, action="Lower the learning rate.")
        _fill(slates[0, begin:end], scores, own)
        part = (cases.history_rows >= begin) & (cases.history_rows < end) & (place[cases.history_codes] >= 0)
        scores[cases.history_rows[part] - begin, place[cases.history_codes[part]]] = -np.inf
        _fill(slates[1, begin:end], scores, own)
    return slates


def _fill(slates: Ints, scores: npt.NDArray[np.float32], own: Ints) -> None:
    best = best_items(scores, PLACES)
    shown = np.isfinite(np.take_along_axis(scores, best, axis=1))
    slates[:, : best.shape[1]] = np.where(shown, own[best], -1)


def measure_week(slates: Ints, cases: Cases, popular: npt.NDArray[np.bool_]) -> dict[str, Values]:
    """(U,) values by name, NaN for a shopper whom a measure does not concern.

    `recall@10`, `ndcg@10`, `recall@20`; with `_new` of what she had not taken before, ranked without what she had; and
    POPULAR_METRIC: of the taken items only those of `popular` (I,), ranked among all.
    """
    items = len(popular)
    rows, codes = cases.wanted_rows, cases.wanted_codes
    new = ~np.isin(rows * items + codes, cases.history_rows * items + cases.history_codes)
    values: dict[str, Values] = {}
    for slate, kept, suffix in ((slates[0], np.ones(len(codes), np.bool_), ""), (slates[1], new, "_new")):
        wanted = np.bincount(rows[kept], minlength=len(cases))
        hits = found(slate, rows[kept], codes[kept], items)
        cut = {
            "recall@10": recall_at_k(hits[:, :10], wanted, 10), "ndcg@10": ndcg_at_k(hits[:, :10], wanted, 10),
            "recall@20": recall_at_k(hits[:, :20], wanted, 20),
        }  # fmt: skip
        values |= {f"{name}{suffix}": np.where(wanted > 0, value, np.nan) for name, value in cut.items()}
    kept = popular[codes]
    wanted = np.bincount(rows[kept], minlength=len(cases))
    hits = found(slates[0], rows[kept], codes[kept], items)
    return values | {POPULAR_METRIC: np.where(wanted > 0, recall_at_k(hits[:, :20], wanted, 20), np.nan)}


def popular_at(shop: WeeklyShop, moment: datetime) -> npt.NDArray[np.bool_]:
    """(I,) the POPULAR_SHARE of the items taken before `moment` that were taken most often; ties by the lower code."""
    takes = np.bincount(shop.events.known_at(moment).targets().items, minlength=len(shop.events.item_ids))
    count = int(np.ceil(POPULAR_SHARE * (takes > 0).sum()))
    flags = np.zeros(len(takes), np.bool_)
    flags[np.argsort(-takes, kind="stable")[:count]] = True
    return flags


def choose_knobs(shop: WeeklyShop, baseline: Baseline, progress: Progress) -> dict[str, float]:
    """The knobs that rank the last CHOICE_WEEKS before the first judged week best, each week before it is learnt."""
    starts = [shop.weeks[0] - WEEK * (week + 1) for week in range(CHOICE_WEEKS)]
    weeks = [(start, cases) for start in starts if len(shop.events.known_at(start)) and len(cases := shop.cases(start))]

    if not baseline.knobs or not weeks:
        return {name: ladder.start for name, ladder in baseline.knobs.items()}
    nothing = np.zeros(len(shop.events.item_ids), np.bool_)

    def judge(knobs: dict[str, float]) -> float:
        each = []
        for start, cases in weeks:
            slates = slates_of(baseline.make(**knobs).fit(shop.known(start), start), shop, cases)
            each.append(measure_week(slates, cases, nothing)[CHOSEN_BY].mean())
        quality = float(np.mean(each))
        progress(", ".join([*(f"{name} {value:g}" for name, value in knobs.items()), f"{CHOSEN_BY} {quality:.4f}"]))
        return quality

    return climb(baseline.knobs, judge)[0]
