"""What a comparison of behaviour models needs: old rows to learn from, newer ones to calibrate on, the newest to be judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from endcap.errors import InputError
from endcap.models.behaviour.features import Features
from endcap.models.behaviour.item_rates import ItemRates

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
LEARN, CALIBRATE = 0.55, 0.75  # shares of the rows by time: …learn… | …calibrate… | …test…


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """N shown items in order of time."""

    features: Features
    outcomes: Floats  # (N, 2) clicked, purchased
    item_ids: npt.NDArray[Any]  # (N,)
    shoppers: npt.NDArray[Any]  # (N,) who is drawn together when an interval is made
    slices: pd.DataFrame  # (N, …) what calibration is looked at by, one text column a cut
    truth: Floats | None = None  # (N, 2) true probabilities, where the world is simulated


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One data set, cut by time. `tasks`: the outcomes it holds."""

    name: str
    before: Side
    learn: Bools  # rows of `before` to learn from; the others calibrate
    test: Side
    tasks: tuple[str, ...] = ("click", "purchase")
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def rates(self) -> ItemRates:
        """Of all items, as of the start of the test."""
        return ItemRates.count(self.before.item_ids, self.before.outcomes)


def time_cuts(times_us: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The moments at which calibration and test start; rows of one moment are never parted.

    Raises:
        InputError: too few distinct moments to cut in three.
    """
    ordered = np.sort(times_us)
    cuts = [int(ordered[int(share * (len(ordered) - 1))]) for share in (LEARN, CALIBRATE)] if len(ordered) else [0, 0]
    if not len(ordered) or not ordered[0] < cuts[0] < cuts[1] <= ordered[-1]:
        raise InputError(
            "cannot be cut by time in three",
            field="time",
            value=len(np.unique(times_us)),
            action="Give exposures of some days.",
        )
    return cuts[0], cuts[1]
