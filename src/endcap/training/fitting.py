"""Fit a whole recommender: count, train the sequential model, learn the blend on periods it has not seen, absorb them.

Two ways: `fit_full` from nothing, `fit_update` (training/incremental.py) from a parent. Both end with a model that knows every
event before `until` and none after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from endcap.data.features import Interactions, to_microseconds
from endcap.errors import TrainingError
from endcap.evaluation.protocol import Period, histories_at, score_period
from endcap.models.blend import BlendedRecommender
from endcap.models.history import MICROSECONDS_PER_DAY, Floats
from endcap.models.ranker import Ranker
from endcap.models.sequential import SequenceModel, SequenceShape
from endcap.progress import Progress, silent
from endcap.training.absorb import absorb, finish, questions_from
from endcap.training.behaviour.days import LearntBehaviour, ShownDays, learn_behaviour
from endcap.training.beside import beside
from endcap.training.blending import HOLDS, choose_hold, choose_mix, learn_weights, stand
from endcap.training.counting import count, recount
from endcap.training.examples import Example, make_examples, pack
from endcap.training.guard import guarded
from endcap.training.options import FitOptions
from endcap.training.ranking import RankingOptions, learn_ranker
from endcap.training.schedule import Curve
from endcap.training.sequences import make_sequences
from endcap.training.trainer import train
from endcap.training.weeks import weeks

ITEM_COLUMNS = ("item_id", "title", "category", "brand", "price", "available_from", "seen_in_training")
SLICE_USERS = 2_000  # that a slice of the validation days is learnt from, at most
JUDGES = 10_000  # that choose how the stages mix, at most: a thousand cannot tell a third of a stage from the whole of it
FULL_HOLD = 1.0  # blend weights of a full fit are held to those it starts from as by so many shoppers
REPORTED_K = 10


@dataclass(slots=True)
class Fitted:
    """A fitted model with what happened on the way."""

    model: BlendedRecommender
    curve: Curve
    validation: pd.DataFrame  # rows of evaluation.protocol: the newest validation days, ranked before they were learnt
    update_curve: Curve | None = None
    behaviour: LearntBehaviour | None = None  # None: nobody asked for it


@guarded
def fit_full(
    interactions: Interactions,
    catalog: pd.DataFrame,
    text_IE: Floats,
    until: datetime,
    options: FitOptions,
    *,
    absorb_validation: bool = True,
    checkpoint_path: Path | None = None,
    shown: ShownDays | None = None,
    progress: Progress = silent,
) -> Fitted:
    """Fit on events before `until - validation_days`, learn the blend on the days up to `until`, then absorb those.

    Without `absorb_validation` those days choose the epoch and the blend's weights, and nothing else is learnt from them.
    What was `shown` in those days teaches a behaviour head, before they are absorbed.

    `catalog` holds one row an item of `interactions.item_ids`, in that order; `text_IE` likewise.

    Raises:
        TrainingError: fewer than two visits of anybody, or a loss that is not finite.
    """
    known = interactions.known_at(until)
    if not len(known.targets()):
        raise TrainingError("no events before the end of training", field="until", value=until, action="Ingest more history.")
    cut = _cut(known, until, options.validation_days)
    torch.manual_seed(options.seed)
    network = new_network(interactions.known_at(cut), text_IE, options)
    before, within = make_sequences(interactions.known_at(cut), options.max_length), make_sequences(known, options.max_length)
    held_out = questions_from(within, cut, known)
    newest = weeks(cut, until, options.horizon_days)[-1][0] if absorb_validation else cut
    curve = Curve()
    grow = partial(learn_ranker, interactions, newest, RankingOptions(seed=options.seed))  # it needs nothing of the network
    with beside("second-stage", grow, progress) as ranker:
        if len(before.question_at):
            curve = train(
                network, before, np.arange(len(before.question_at)), options.schedule(),
                held_out=(within, held_out) if len(held_out) else None, checkpoint_path=checkpoint_path, progress=progress,
            )  # fmt: skip
    model = BlendedRecommender(
        item_table(catalog, network), network, count(interactions, cut, options.recent_days, options.factors),
        interactions.target_types, newcomers=options.newcomers,
    )  # fmt: skip

    validation = learn_blend(model, interactions, cut, until, options, FULL_HOLD, ranker)
    if not absorb_validation:
        finish(model, cut)
        return Fitted(model, curve, validation)
    behaviour = behaviour_of(model, shown, interactions, cut, until, options, progress)
    update_curve = absorb(model, interactions, cut, until, options, progress=progress)
    return Fitted(model, curve, validation, update_curve, behaviour)


def behaviour_of(
    model: BlendedRecommender,
    shown: ShownDays | None,
    interactions: Interactions,
    since: datetime,
    until: datetime,
    options: FitOptions,
    progress: Progress,
) -> LearntBehaviour | None:
    """What the days of [since, until) teach of behaviour, told in the model's config; None where nothing was handed over."""
    found = learn_behaviour(model, shown, interactions, since, until, options.recent_days, progress) if shown else None
    model.config.pop("behaviour", None)  # a parent's is not this model's
    if found:
        model.config["behaviour"] = found.facts
    return found


def new_network(known: Interactions, text_IE: Floats, options: FitOptions) -> SequenceModel:
    """A network with random weights for the vocabulary of `known`."""
    shape = SequenceShape(
        options.dim, options.layers, options.heads, options.max_length, options.dropout, text_IE.shape[1], options.tied,
        options.positions, options.context,
    )  # fmt: skip
    seen = np.bincount(known.items, minlength=len(known.item_ids)) > 0
    return SequenceModel(shape, torch.from_numpy(text_IE.astype(np.float32)), torch.from_numpy(seen))


def item_table(catalog: pd.DataFrame, network: SequenceModel) -> pd.DataFrame:
    """The item table of a model directory; missing columns are empty."""
    frame = catalog.assign(seen_in_training=network.seen.numpy()).reindex(columns=list(ITEM_COLUMNS))
    return frame.astype({"item_id": str}).reset_index(drop=True)


def learn_blend(
    model: BlendedRecommender,
    interactions: Interactions,
    start: datetime,
    end: datetime,
    options: FitOptions,
    hold: float | None,
    second_stage: Callable[[], Ranker | None] | None = None,
) -> pd.DataFrame:
    """Learn the blend's weights on [start, end), slice by slice, each counted as of its start; the model comes and leaves with
    counts as of `start`.

    They are held to those that they start from as by `hold` shoppers; None: the days themselves say how strongly.

    `second_stage` (of a full fit) gives one that has learnt up to the newest slice, on which the mix of the stages is chosen:
    neither the trees nor the weights have learnt it then. If it is the only slice, the weights learn a part of its shoppers
    first.

    Returns how that slice, or another part of it, was ranked (rows of evaluation.protocol) by weights that had not learnt it.
    A little too rosy: a full fit chose its epoch and mix there. The gates judge on the hold-out, which nothing has seen.
    """
    origin, at_start = model.weights.copy(), model.counts
    examples: list[Example] = []
    ranked = pd.DataFrame()
    for moment, stop in weeks(start, end, options.horizon_days):
        grow = second_stage if stop == end else None
        period = _period(interactions, moment, stop, options.seed, SLICE_USERS + (JUDGES if grow else 0))
        if grow:
            model.ranker = grow()
        if not period.user_ids:
            continue
        model.counts = at_start if moment == start else recount(at_start, interactions, moment, options.recent_days)
        make = partial(examples_of, model, moment, options.seed)
        alone = grow is not None and not examples
        apart = _deal(period, at_least=2 if alone else 1)
        if alone:
            examples += make(apart.pop(0))
        judged = make(apart[0])
        if stop == end:
            if examples:
                model.weights = learn_weights(pack(examples), origin, HOLDS[0] if hold is None else hold)
            if grow and model.ranker is not None and judged:
                others = (made for made in map(make, apart[1:]) if made)
                model.mix = choose_mix([stand(pack(some), model.weights) for some in chain([judged], others)])
            ranked = score_period("blend", model, apart[0], REPORTED_K)
            model.config["validation"] = {"start": moment.isoformat(), "end": stop.isoformat()}
        examples += judged
    if examples:
        strength = choose_hold(examples, origin, model.mix) if hold is None else hold
        model.weights = learn_weights(pack(examples), origin, strength)
    model.counts = at_start
    return ranked


def examples_of(model: BlendedRecommender, moment: datetime, seed: int, period: Period) -> list[Example]:
    """What a model makes of these shoppers at that moment."""
    return make_examples(model, period.histories, period.taken, moment, seed)


def _deal(period: Period, at_least: int) -> list[Period]:
    """Parts of at most SLICE_USERS shoppers each, dealt in turns."""
    count = max(at_least, -(-len(period.user_ids) // SLICE_USERS))
    return [period.part(slice(place, None, count)) for place in range(count)]


def _period(interactions: Interactions, start: datetime, end: datetime, seed: int, max_users: int) -> Period:
    inside = interactions.between(start, end).targets()
    users = np.unique(inside.users)
    if len(users) > max_users:
        users = np.sort(np.random.default_rng(seed).choice(users, max_users, replace=False))
    names = [str(interactions.user_ids[user]) for user in users]
    order = np.argsort(inside.users, kind="stable")
    owner, items = inside.users[order], inside.items[order]
    first, last = np.searchsorted(owner, users), np.searchsorted(owner, users, side="right")
    taken = [inside.item_ids[np.unique(items[a:b])] for a, b in zip(first, last, strict=True)]
    return Period(names, histories_at(interactions, names, start), taken, [""] * len(names), start, end)


def _cut(known: Interactions, until: datetime, validation_days: float) -> datetime:
    """Where validation starts: `validation_days` before the end, but never more than the last half of the history."""
    span = (to_microseconds(until) - int(known.times_us.min())) / MICROSECONDS_PER_DAY
    return until - timedelta(days=min(validation_days, max(span / 2, 1 / 24)))
