"""The behaviour head of a fit: learnt from what was shown in the days that the recommender has not learnt, judged on their end.

…the network knows… | …learn… | …calibrate… | …judge… | end of training. Nothing of the last part stops, chooses or
calibrates the head that is saved. Each week is seen with counts as of its start, since that is how fresh they are when served:
with older ones the head would say too much of newer ones. Here is what came of it; how a head learns is in behaviour.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from endcap.data.features import Interactions
from endcap.errors import TrainingError
from endcap.evaluation.calibration import calibration_error, error_by_chance, log_losses, reliability
from endcap.models.behaviour.features import BehaviourFeatures, Features
from endcap.models.behaviour.head import BehaviourModel
from endcap.models.behaviour.item_rates import ItemRates
from endcap.progress import Progress, silent
from endcap.training.behaviour.exposures import OUTCOMES, Table, learn_rows, newest_rows, running, slates_of
from endcap.training.behaviour.head import TASKS, fit_head
from endcap.training.counting import recount
from endcap.training.outcomes import label_exposures
from endcap.training.weeks import weeks

if TYPE_CHECKING:
    from endcap.models.blend import BlendedRecommender

JUDGE_SHARE = 0.2  # of the time that exposures cover
LEARN_SHARE = 0.75  # of the time before; the rest of it stops, chooses and calibrates


@dataclass(frozen=True, slots=True, eq=False)
class ShownDays:
    """What was shown, what shoppers did, and when that is enough. None of it from after the end of training."""

    exposures: pd.DataFrame  # contracts.exposure_schema()
    events: pd.DataFrame  # type, user_id, item_id, time, request_id, quantity, cancelled_at
    attribution: timedelta
    min_rows: int  # shown items whose outcome is known; with fewer nothing is learnt
    max_rows: int  # the newest that are learnt from
    seed: int = 0
    known: BehaviourModel | None = None  # the parent's head, kept where the new days do not give one


@dataclass(frozen=True, slots=True, eq=False)
class LearntBehaviour:
    """A head, or none, and the facts: {"absent": why} or rows, span and figures, with "kept" where the head is the parent's."""

    head: BehaviourModel | None
    facts: dict[str, Any]


def learn_behaviour(
    model: BlendedRecommender,
    days: ShownDays,
    interactions: Interactions,
    since: datetime,
    until: datetime,
    recent_days: float,
    progress: Progress = silent,
) -> LearntBehaviour:
    """A head for `model` from what was shown in [since, until), which the network must not have learnt yet.

    What the model counts is counted anew for each week, so that no count knows an outcome of its week; `model` itself stays
    as it is. Too little to learn from, or nothing found, is no error: the parent's head is kept, or there is none, and the
    facts say why.
    """
    try:
        shown = _labelled(days, since, until)
        early = learn_rows(shown["time"], 1 - JUDGE_SHARE)
        before, after = (shown[side].reset_index(drop=True) for side in (early, ~early))
        known = _rates(before[before["time"] + days.attribution <= after["time"].iloc[0]])
        outcomes, learn = shown[OUTCOMES].to_numpy(np.float64), learn_rows(before["time"], LEARN_SHARE)
        features = _features(model, days, interactions, weeks(since, until), recent_days, (before, after), known)
        slates = before["request_id"].to_numpy(str)
        head = fit_head(features.rows(early), outcomes[early], learn, slates, seed=days.seed, progress=progress)
        if all(task.by == "rate" for task in head.tasks.values()):
            told = "; ".join(f"{name}: {task.reason}" for name, task in head.tasks.items())
            raise TrainingError(told, field="behaviour head", action="It is tried again when more was shown.")
    except TrainingError as error:
        return _without(model, days, str(error))
    rows = {"learn": int(learn.sum()), "calibrate": int((~learn).sum()), "judge": len(after)}
    span = {"first": shown["time"].iloc[0].isoformat(), "last": shown["time"].iloc[-1].isoformat()}
    figures = _figures(head, Table(features.rows(~early), outcomes[~early], after), known)
    return LearntBehaviour(replace(head, rates=_rates(shown)), {"rows": rows, **span, **figures})


def _labelled(days: ShownDays, since: datetime, until: datetime) -> pd.DataFrame:
    new = days.exposures[days.exposures["time"] >= pd.Timestamp(since)]
    shown = newest_rows(label_exposures(new, days.events, days.attribution, until), days.max_rows)
    if len(shown) < days.min_rows:
        raise TrainingError(
            f"{len(shown)} shown items since {since:%Y-%m-%d} whose outcome is known",
            field="exposures",
            action=f"A behaviour head takes {days.min_rows} (params.yaml: behaviour.min_rows).",
        )
    return shown


def _features(
    model: BlendedRecommender,
    days: ShownDays,
    interactions: Interactions,
    spans: list[tuple[datetime, datetime]],
    recent_days: float,
    parts: tuple[pd.DataFrame, pd.DataFrame],
    known: ItemRates,
) -> Features:
    """Of both parts, one after the other. Rates of items run along with the first and stand still (`known`) in the second."""
    before, after = parts
    counts_N3 = np.vstack([running(before, days.attribution), known.of(after["item_id"].to_numpy())])
    shown, blocks = pd.concat(parts, ignore_index=True), []
    for start, end in spans:
        rows = ((shown["time"] >= pd.Timestamp(start)) & (shown["time"] < pd.Timestamp(end))).to_numpy()
        if rows.any():
            then = BehaviourFeatures(replace(model, counts=recount(model.counts, interactions, start, recent_days)))
            blocks.append(then.make(slates_of(shown[rows], interactions), counts_N3[rows], known.means()))
    return Features(blocks[0].names, np.vstack([block.values for block in blocks]))


def _rates(shown: pd.DataFrame) -> ItemRates:
    if shown.empty:
        raise TrainingError("all of one attribution span", field="exposures", action="Collect exposures over some days.")
    return ItemRates.count(shown["item_id"].to_numpy(), shown[OUTCOMES].to_numpy(np.float64))


def _without(model: BlendedRecommender, days: ShownDays, reason: str) -> LearntBehaviour:
    if days.known is None:
        return LearntBehaviour(None, {"absent": reason})
    return LearntBehaviour(days.known, {**model.config.get("behaviour", {}), "kept": reason})


def _figures(head: BehaviourModel, judged: Table, known: ItemRates) -> dict[str, Any]:
    """Of each outcome: who speaks, and log loss and calibration error beside each item's own smoothed rate."""
    chances = head.chances(judged.features)
    prior_N2 = known.rates(judged.shown["item_id"].to_numpy())
    found: dict[str, Any] = {}
    for column, name in enumerate(TASKS):
        ours, theirs, happened = getattr(chances, name), prior_N2[:, column], judged.outcomes[:, column]
        numbers = {
            "happened": float(happened.mean()),
            "log_loss": float(log_losses(ours, happened).mean()),
            "prior_log_loss": float(log_losses(theirs, happened).mean()),
            "ece": calibration_error(ours, happened),
            "prior_ece": calibration_error(theirs, happened),
            "chance_ece": error_by_chance(ours, happened, judged.shown["request_id"].to_numpy(str)),
        }
        task = head.tasks[name]
        found[name] = {key: round(value, 6) for key, value in numbers.items()} | {"by": task.by, "reason": task.reason}
        found[name]["reliability"] = reliability(ours, happened).round(6).to_dict("records")
    return found
