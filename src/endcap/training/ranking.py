"""Learn the second stage from past weeks, each as it was known when it began; what was taken then is the answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import lightgbm
import numpy as np
import numpy.typing as npt

from endcap.data.features import Interactions, to_microseconds
from endcap.models.ease import Ease
from endcap.models.history import MICROSECONDS_PER_DAY, Floats, HistoryBatch, Ints
from endcap.models.ranker import Ranker, candidates
from endcap.models.ranking_features import FEATURES, features
from endcap.models.signals import likeness_signals
from endcap.progress import Progress, silent
from endcap.training.counting import count

logger = logging.getLogger(__name__)
PERIOD_DAYS = 7
EARLIER_DAYS = 28  # of history before the first period
MIN_POSITIVES = 200
COUNTING_COST = 2_000_000_000_000  # columns³ of EASE in all
TELL_TREES = 25  # from line to line of progress
BATCH_NUMBERS = 4_000_000  # shoppers × items that are held at once


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """Hyper-parameters of the second stage."""

    max_weeks: int = 26
    max_cases: int = 13_000  # a shopper in a period is a case
    top: int = 60  # candidates of each dense signal
    others: float = 0.5  # share of a case's candidates that the shopper neither touched nor took that is learnt from
    groups: int = 3  # of trees, grown with other seeds and averaged
    rounds: int = 100  # trees a group
    learning_rate: float = 0.1
    leaves: int = 31
    truncation: int = 20  # pairs of items count that would put one of them among the first so many
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Sampling:
    """What of a period becomes cases."""

    top: int  # candidates of each dense signal
    cases: int  # at most
    others: float  # share of the items that the shopper neither touched nor took that is kept
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """P candidates of G cases, flat."""

    features: Floats  # (P, F)
    taken: npt.NDArray[np.bool_]  # (P,)
    sizes: Ints  # (G,) candidates of each case, in order


def learn_ranker(
    interactions: Interactions,
    until: datetime,
    options: RankingOptions = RankingOptions(),
    progress: Progress = silent,
    muted: frozenset[str] = frozenset(),
) -> Ranker | None:
    """A ranker from the periods before `until`, newest first; None where fewer than MIN_POSITIVES candidates were taken.

    `muted`: dense signals that say nothing in it, as in the first stage that it will follow.
    """
    weeks = min(options.max_weeks, affordable_weeks(len(interactions.item_ids)))
    starts = period_starts(interactions.known_at(until), until, weeks)
    tables = []
    for place, start in enumerate(starts):
        sampling = Sampling(options.top, options.max_cases // len(starts), options.others, options.seed + place)
        tables.append(make_cases(interactions, start, until, sampling, muted))
        progress(f"week {place + 1}/{len(starts)}: {len(tables[-1].sizes)} shoppers")
    positives = sum(int(table.taken.sum()) for table in tables)
    if positives < MIN_POSITIVES:
        logger.warning("no_ranker", extra={"weeks": len(starts), "positives": positives, "needed": MIN_POSITIVES})
        return None
    return Ranker(grow_trees(tables, options, progress))


def period_starts(known: Interactions, until: datetime, max_weeks: int) -> list[datetime]:
    """When each period begins, newest first; the oldest has EARLIER_DAYS of history before it."""
    if not len(known):
        return []
    days = (to_microseconds(until) - int(known.times_us.min())) / MICROSECONDS_PER_DAY - EARLIER_DAYS
    weeks = min(max_weeks, max(0, int(days // PERIOD_DAYS)))
    return [until - timedelta(days=PERIOD_DAYS * (week + 1)) for week in range(weeks)]


def affordable_weeks(items: int) -> int:
    """How many periods may be counted: EASE is solved anew for each, which costs the cube of the catalogue.

    >>> affordable_weeks(3_700), affordable_weeks(12_000), affordable_weeks(1_000_000)
    (39, 1, 1)
    """
    return max(1, COUNTING_COST // max(min(items, Ease().max_columns), 1) ** 3)


def make_cases(
    interactions: Interactions, start: datetime, until: datetime, sampling: Sampling, muted: frozenset[str] = frozenset()
) -> Cases:
    """The shoppers of [start, start + PERIOD_DAYS) who took one of their candidates, or a sample of them.

    Features and candidates are of what was known at `start`; what was taken, less what was undone by `until`.
    """
    period = interactions.known_at(until).between(start, start + timedelta(days=PERIOD_DAYS)).targets()
    users, rng = np.unique(period.users), np.random.default_rng(sampling.seed)
    if len(users) > sampling.cases:
        users = np.sort(rng.choice(users, sampling.cases, replace=False))
    items = len(interactions.item_ids)
    wanted = np.unique(period.users * items + period.items)
    known = interactions.known_at(start)
    counts = count(interactions, start, EARLIER_DAYS)
    tables = [_no_cases()]
    for part in np.array_split(users, max(1, -(-len(users) * items // BATCH_NUMBERS))):
        batch = batch_of(known, part, start)
        dense = likeness_signals(batch, counts)
        heard = [*(values for name, values in dense.items() if name not in muted), counts.facts.recent]
        dense = {name: np.zeros_like(values) if name in muted else values for name, values in dense.items()}
        rows, codes = candidates(batch, heard, items, sampling.top)
        taken = np.isin(part[rows] * items + codes, wanted, assume_unique=True)
        useful = np.bincount(rows[taken], minlength=len(part)) > 0  # nothing taken, or nothing reached: no order to learn
        keep = useful[rows]
        rows, codes, taken = rows[keep], codes[keep], taken[keep]
        table = features(batch, interactions.target_types, counts.facts, rows, codes, dense)
        keep = (
            taken | np.isin(rows * items + codes, batch.rows * items + batch.codes) | (rng.random(len(rows)) < sampling.others)
        )
        tables.append(Cases(table[keep], taken[keep], np.bincount(rows[keep], minlength=len(part))[useful]))
    return join(tables)


def batch_of(known: Interactions, users: Ints, now: datetime) -> HistoryBatch:
    """The histories of `users` (ascending) as `encode` would give them for `now`."""
    known = known.where(np.isin(known.users, users))
    known = known.where(np.argsort(known.users, kind="stable"))
    now_us = to_microseconds(now)
    ages = ((now_us - known.times_us) / MICROSECONDS_PER_DAY).astype(np.float32)
    return HistoryBatch(
        size=len(users), rows=np.searchsorted(users, known.users), codes=known.items, ages=ages, types=known.types,
        now_us=now_us, quantities=known.quantities, prices=known.prices, surfaces=known.surfaces,
        countries=known.countries,
    )  # fmt: skip


def grow_trees(tables: list[Cases], options: RankingOptions, progress: Progress = silent) -> list[lightgbm.Booster]:
    """LambdaMART over all cases, once a group."""
    cases = join(tables)
    settings = {
        "objective": "lambdarank",
        "lambdarank_truncation_level": options.truncation,
        "learning_rate": options.learning_rate,
        "num_leaves": options.leaves,
        "min_data_in_leaf": 100,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "bagging_by_query": True,
        "feature_fraction": 0.5,
        "lambda_l2": 10.0,
        "max_bin": 63,
        "num_threads": 1,  # several round sums otherwise
        "deterministic": True,
        "force_col_wise": True,
        "verbose": -1,
    }
    data = lightgbm.Dataset(
        cases.features, cases.taken.astype(np.int8), group=cases.sizes, feature_name=list(FEATURES), params=settings
    )
    boosters = []
    for group in range(options.groups):

        def tell(so_far: lightgbm.callback.CallbackEnv, before: int = group * options.rounds) -> None:
            if (done := before + so_far.iteration + 1) % TELL_TREES == 0:
                progress(f"second stage, tree {done}/{options.groups * options.rounds}")

        boosters.append(lightgbm.train(settings | {"seed": options.seed + group}, data, options.rounds, callbacks=[tell]))
    return boosters


def join(tables: list[Cases]) -> Cases:
    """All cases in one table."""
    return Cases(
        np.concatenate([table.features for table in tables]),
        np.concatenate([table.taken for table in tables]),
        np.concatenate([table.sizes for table in tables]),
    )


def _no_cases() -> Cases:
    return Cases(np.zeros((0, len(FEATURES)), np.float32), np.zeros(0, np.bool_), np.zeros(0, np.int64))
