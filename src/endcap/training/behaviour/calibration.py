"""Learn a calibration map on predictions that the head has not learnt from, and choose its kind by time-blocked folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, minimize

from endcap.evaluation.calibration import log_losses
from endcap.models.behaviour.calibration import CalibrationMap, Floats, Kind, log_odds

KINDS: tuple[Kind, ...] = ("identity", "temperature", "platt", "isotonic")
FOLDS = 4
MIN_OF_EACH = 20  # with fewer events, or fewer non-events, nothing is said against the raw probabilities
ISOTONIC_MIN = 200  # steps learnt from fewer events follow chance
KNOTS = 200


def fit_map(kind: Kind, raw_N: npt.NDArray[Any], happened_N: npt.NDArray[Any]) -> CalibrationMap:
    """The map of this kind with the least log loss (isotonic: least squares) on raw probabilities and what happened."""
    raw, happened = np.asarray(raw_N, np.float64), np.asarray(happened_N, np.float64)
    if kind == "identity":
        return CalibrationMap()
    if kind == "isotonic":
        return _isotonic(raw, happened)
    odds, free = log_odds(raw), 1 if kind == "temperature" else 2

    def loss(numbers: Floats) -> tuple[float, Floats]:
        slope, offset = (*numbers, 0.0)[:2]
        logits = slope * odds + offset
        error = 0.5 * (1 + np.tanh(0.5 * logits)) - happened
        value = np.mean(np.logaddexp(0, logits) - happened * logits)
        return float(value), np.array([np.mean(error * odds), np.mean(error)])[:free]

    found = minimize(
        loss, np.array([1.0, 0.0])[:free], jac=True, method="L-BFGS-B", bounds=[(0.05, 20.0), (-10.0, 10.0)][:free]
    )
    return CalibrationMap(kind, np.asarray(found.x, np.float64))


def choose_map(
    raw_N: npt.NDArray[Any], happened_N: npt.NDArray[Any], groups_N: npt.NDArray[Any] | None = None
) -> CalibrationMap:
    """The first of KINDS within a standard error of the least log loss on blocks of time that it was not fitted on, then fitted
    on all; rows in order of time.

    `groups_N`: rows that go together, such as a slate; a group has one voice. None: every row has its own. With few events of
    either kind the raw probabilities are left as they are.
    """
    raw, happened = np.asarray(raw_N, np.float64), np.asarray(happened_N, np.float64)
    rarer = int(min(happened.sum(), len(happened) - happened.sum()))
    if rarer < MIN_OF_EACH:
        return CalibrationMap()
    kinds = [kind for kind in KINDS if kind != "isotonic" or rarer >= ISOTONIC_MIN]
    losses_KN = np.stack([_held_out_losses(kind, raw, happened) for kind in kinds])
    behind_KN = losses_KN - losses_KN[losses_KN.sum(axis=1).argmin()]
    worse = [surely_positive(behind_N, groups_N) for behind_N in behind_KN]
    return fit_map(kinds[worse.index(False)], raw, happened)


def surely_positive(values_N: Floats, groups_N: npt.NDArray[Any] | None = None) -> bool:
    """Whether the sum lies above 0 by more than its standard error; rows of a group count as one."""
    sums_G = values_N if groups_N is None else np.bincount(np.unique(groups_N, return_inverse=True)[1], weights=values_N)
    return bool(sums_G.sum() > sums_G.std() * np.sqrt(len(sums_G)))


def _held_out_losses(kind: Kind, raw: Floats, happened: Floats) -> Floats:
    """(N,) each row's log loss by a map that was fitted on the other blocks of time."""
    block, losses = np.arange(len(raw)) * FOLDS // len(raw), np.empty(len(raw))
    for fold in range(FOLDS):
        out = block == fold
        losses[out] = log_losses(fit_map(kind, raw[~out], happened[~out])(raw[out]), happened[out])
    return losses


def _isotonic(raw: Floats, happened: Floats) -> CalibrationMap:
    """At most KNOTS groups of like size, then pool adjacent violators; one event each way keeps the ends off 0 and 1."""
    order = np.argsort(raw, kind="stable")
    groups = [part for part in np.array_split(order, min(KNOTS, len(order))) if len(part)]
    sizes = np.array([len(part) for part in groups], np.float64)
    rate = happened.mean()
    means = np.array([(happened[part].sum() + rate) / (len(part) + 1) for part in groups])
    levels = isotonic_regression(means, weights=sizes).x
    knots = np.array([raw[part].mean() for part in groups])
    return CalibrationMap("isotonic", np.concatenate([knots, levels]))
