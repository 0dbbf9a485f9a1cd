"""Every estimate that a log allows of a policy, beside what the log itself earned; what it does not allow, with the reason.

All values are per shown item, so that estimators of slates and of single choices stand on one scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.benchmark.off_policy.log_file import Floats, Ints, Log
from endcap.benchmark.off_policy.policy_file import Policy
from endcap.errors import EndcapError, EstimateRefused
from endcap.evaluation.off_policy import choices, slates
from endcap.evaluation.off_policy.estimate import Estimate
from endcap.evaluation.off_policy.intervals import Bounds, bernstein, bootstrap
from endcap.evaluation.off_policy.reward_model import cross_fit
from endcap.evaluation.off_policy.tuning import least_error, thresholds
from endcap.evaluation.off_policy.weights import (
    check_mean_weight,
    check_overlap,
    check_support,
    effective_rows,
    grouped_weights,
    importance_weights,
)
from endcap.progress import Progress, silent

CHOICES = ("ipw", "clipped_ipw", "snipw", "dm", "dr", "sndr", "switch_dr", "dr_os")
MARGINAL = ("mips", "snmips")
BIASED = {"biased": True}  # by as much as the model is wrong, or by what is clipped: intervals tell the spread alone
SLATES = ("sips", "snsips", "iips", "sniips", "rips", "snrips", "cascade_dr")


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An estimate, and what is told beside it."""

    estimate: Estimate
    weights: Floats  # that it rests on
    bounds: Bounds | None = None  # of a term; None: it is no mean, or biased, so that no bound holds of the truth
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Findings:
    """What was found so far."""

    log: Log
    confidence: float
    samples: int
    estimates: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, Any] = field(default_factory=dict)

    def refuse(self, names: tuple[str, ...], error: EndcapError) -> None:
        reason = {"field": error.field, "problem": error.problem, "value": error.value, "action": error.action}
        self.refused |= dict.fromkeys(names, reason)

    def take(self, candidates: dict[str, Candidate], rewards: Floats, clusters: npt.NDArray[Any]) -> None:
        """Intervals of estimates of the same rows, each also less what the log earned in the same rows (`rewards`)."""
        logging = Estimate.mean(rewards)
        all_of = {name: one.estimate for name, one in candidates.items()}
        all_of |= {f"{name} less logging": one.estimate + -logging for name, one in candidates.items()}
        try:
            found = bootstrap(all_of, clusters, self.samples, self.confidence)
        except EstimateRefused as error:
            self.refuse(tuple(candidates), error)
            return
        for name, one in candidates.items():
            told = {**_told(found[name]), "minus_logging": _told(found[f"{name} less logging"])}
            if one.bounds is not None:
                sure = bernstein(one.estimate, one.bounds, clusters, self.confidence)
                told["bernstein"] = {"low": sure.low, "high": sure.high, "terms": [one.bounds.low, one.bounds.high]}
            self.estimates[name] = {**told, "effective_rows": round(effective_rows(one.weights), 1), **one.facts}


def judge(
    log: Log,
    policy: Policy,
    categories: npt.NDArray[Any] | None = None,
    confidence: float = 0.95,
    samples: int = 1000,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The figures of `endcap evaluate-policy`. `categories` (A,) of the log's items allow MIPS."""
    found = Findings(log, confidence, samples)
    weights = importance_weights(policy.chances(log.items), log.propensities)
    logging = _told(bootstrap({"logging": Estimate.mean(log.rewards)}, log.clusters, samples, confidence)["logging"])
    try:
        check_support(policy.unseen, policy.example)
        check_mean_weight(weights, log.clusters)
        _try(found, CHOICES, lambda: check_overlap(weights, log.rewards, log.clusters))
        _try(found, MARGINAL, lambda: _marginal(found, weights, categories))
        progress("learning what items are expected to earn")
        fitted = cross_fit(log.rewards, log.items, log.places, log.clusters, len(log.item_ids), log.contexts)
        shown, played = fitted.of_shown(log.items), fitted.of_policy(policy.table, policy.groups)
        if CHOICES[0] not in found.refused:
            progress(f"{len(CHOICES)} estimators of single choices")
            found.take(_single(log, weights, shown, played), log.rewards, log.clusters)
        progress(f"{len(SLATES)} estimators of slates")
        _try(found, SLATES, lambda: _slates(found, weights, shown, played))
    except EstimateRefused as error:
        found.refuse(tuple(name for name in (*CHOICES, *MARGINAL, *SLATES) if name not in found.refused), error)
    return {
        "logging": logging,
        "estimates": {name: found.estimates[name] for name in (*CHOICES, *MARGINAL, *SLATES) if name in found.estimates},
        "refused": {name: found.refused[name] for name in (*CHOICES, *MARGINAL, *SLATES) if name in found.refused},
        "overlap": {
            "effective_rows": round(effective_rows(weights), 1),
            "effective_clusters": round(effective_rows(weights, log.clusters), 1),
            "effective_share": effective_rows(weights) / len(log),
            "mean_weight": float(weights.mean()),  # 1 on average, if the propensities are true
            "largest_weight": float(weights.max()),
            "unseen_share": policy.unseen,
        },
        "confidence": confidence,
        "samples": samples,
        "rewarded_rows": int(np.count_nonzero(log.rewards)),
    }


def _try(found: Findings, names: tuple[str, ...], work: Callable[[], None]) -> None:
    try:
        work()
    except EstimateRefused as error:
        found.refuse(names, error)


def _told(interval: Any) -> dict[str, float]:
    return {"value": interval.mean, "low": interval.low, "high": interval.high}


def _range(values: Floats) -> tuple[float, float]:
    """What rewards can be: 0 to 1 for flags, else what the log holds, and 0."""
    flags = bool(np.isin(values, (0, 1)).all())
    return (0.0, 1.0) if flags else (min(0.0, float(values.min())), max(0.0, float(values.max())))


def _single(log: Log, weights: Floats, shown: Floats, played: Floats) -> dict[str, Candidate]:
    """Estimators of single choices; thresholds are those of the least estimated error."""
    rewards, both = log.rewards, (log.rewards, weights, shown, played)
    limits = thresholds(weights)
    can_be, most = _range(rewards), float(weights.max())
    model = (float(min(shown.min(), played.min())), float(max(shown.max(), played.max())))

    def chosen(make: Callable[[float], Estimate], values: Floats) -> tuple[Estimate, float]:
        tried = [make(value) for value in values]
        place = least_error([one.tops[:, 0] for one in tried])
        return tried[place], float(values[place])

    def of(limit: float) -> dict[str, Any]:
        return {"threshold": limit if np.isfinite(limit) else None, "clipped_share": float((weights > limit).mean())}

    clipped, clip = chosen(lambda limit: choices.ipw(rewards, weights, limit), limits)
    switched, switch = chosen(lambda limit: choices.switch_dr(*both, limit), limits)
    shrunk, shrinkage = chosen(lambda one: choices.dr_os(*both, one), np.square(limits))
    shrunken = choices.shrunken(weights, shrinkage)
    found = {
        "ipw": (choices.ipw(rewards, weights), weights, Bounds.of(can_be, most), {}),
        "clipped_ipw": (clipped, np.minimum(weights, clip), None, of(clip) | BIASED),
        "snipw": (choices.snipw(rewards, weights), weights, None, {}),
        "dm": (choices.dm(played), np.ones(len(log)), None, BIASED),
        "dr": (choices.dr(*both), weights, Bounds.of(can_be, most, model), {}),
        "sndr": (choices.sndr(*both), weights, None, {}),
        "switch_dr": (switched, np.where(weights <= switch, weights, 0.0), None, of(switch) | BIASED),
        "dr_os": (shrunk, shrunken, None, {"shrinkage": shrinkage if np.isfinite(shrinkage) else None} | BIASED),
    }
    return {name: Candidate(*parts) for name, parts in found.items()}


def _marginal(found: Findings, weights: Floats, categories: npt.NDArray[Any] | None) -> None:
    """MIPS over the categories of items at their place.

    Raises:
        EstimateRefused: categories are not known, or the log is too thin.
    """
    log = found.log
    if categories is None:
        action = "Give --items with the column category."
        raise EstimateRefused("kinds of items are not known", field="category", value=None, action=action)
    marginal = grouped_weights(weights, log.places * (categories.max() + 1) + categories[log.items])
    check_overlap(marginal, log.rewards, log.clusters)
    kinds = {"mips": choices.ipw(log.rewards, marginal), "snmips": choices.snipw(log.rewards, marginal)}
    found.take({name: Candidate(one, marginal) for name, one in kinds.items()}, log.rewards, log.clusters)


def _slates(found: Findings, weights: Floats, shown: Floats, played: Floats) -> None:
    """Estimators of slates, each refused by its own weights.

    Raises:
        EstimateRefused: the log does not hold slates of one length.
    """
    log = found.log
    rows_SK = slates_of(log)
    length, (rewards_SK, weights_SK) = rows_SK.shape[1], (log.rewards[rows_SK], weights[rows_SK])
    cascade_SK, can_be = slates.cascade_weights(weights_SK), _range(log.rewards)
    model_SK = slates.with_places_below(shown[rows_SK], played[rows_SK])
    rips = slates.rips(rewards_SK, cascade_SK)
    kinds = {
        "sips": (slates.sips(rewards_SK, cascade_SK), cascade_SK[:, -1], Bounds.of(can_be, float(cascade_SK[:, -1].max()))),
        "snsips": (slates.snsips(rewards_SK, cascade_SK), cascade_SK[:, -1], None),
        "iips": (slates.iips(rewards_SK, weights_SK), weights_SK.sum(axis=1), Bounds.of(can_be, float(weights_SK.max()))),
        "sniips": (slates.sniips(rewards_SK, weights_SK), weights_SK.sum(axis=1), None),
        "rips": (rips, cascade_SK[:, -1], Bounds.of(can_be, float(cascade_SK.max()))),
        "snrips": (slates.snrips(rewards_SK, cascade_SK), cascade_SK[:, -1], None),
        "cascade_dr": (slates.cascade_dr(rewards_SK, cascade_SK, *model_SK), cascade_SK[:, -1], None),
    }
    candidates = {}
    earned, clusters = rewards_SK.sum(axis=1), log.clusters[rows_SK[:, 0]]
    for name, (estimate, rests_on, bounds) in kinds.items():
        try:
            check_overlap(rests_on, earned, clusters)
        except EstimateRefused as error:
            found.refuse((name,), error)
        else:
            candidates[name] = Candidate(estimate / length, rests_on, bounds, {"slates": len(rows_SK)})
    if candidates:
        found.take(candidates, earned / length, clusters)


def slates_of(log: Log) -> Ints:
    """(S, K) the rows of each request, by place.

    Raises:
        EstimateRefused: rows have no request, requests differ in length or lack a place, or show one item each.
    """
    action = "Give a request_id and all places of every answer."
    if "request" not in log.keys or (log.keys["request"] == "").any():
        raise EstimateRefused("slates are not known", field="request_id", value=None, action=action)
    table = pd.DataFrame({"request": log.keys["request"], "place": log.places, "row": np.arange(len(log))})
    table = table.sort_values(["request", "place"], kind="stable")
    length = int(log.places.max()) + 1
    if length == 1:
        raise EstimateRefused("slates have one place", field="places", value=1, action="Read the estimators of single choices.")
    whole = len(table) % length == 0 and (table["place"].to_numpy() == np.arange(len(table)) % length).all()
    if not whole or (table.groupby("request").size() != length).any():
        told = f"up to {length} places"
        raise EstimateRefused("slates differ in length or lack a place", field="places", value=told, action=action)
    return np.asarray(table["row"].to_numpy(np.int64).reshape(-1, length))
