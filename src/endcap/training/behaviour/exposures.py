"""From what was shown to what a behaviour head learns from: slates with the histories of their moment, and features."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.data.features import Interactions, column_microseconds, to_microseconds
from endcap.errors import TrainingError
from endcap.models.behaviour.features import BehaviourFeatures, Features, ShownSlate
from endcap.models.behaviour.item_rates import ItemRates, running_counts
from endcap.models.history import History, histories_of

if TYPE_CHECKING:
    from endcap.models.blend import BlendedRecommender

OUTCOMES = ["clicked", "purchased"]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """N shown items with what was known of them, and what became of them."""

    features: Features
    outcomes: npt.NDArray[np.float64]  # (N, 2) clicked, purchased
    shown: pd.DataFrame  # training.outcomes.label_exposures, the same rows


def make_table(
    model: BlendedRecommender,
    shown: pd.DataFrame,
    interactions: Interactions,
    attribution: timedelta,
    known: ItemRates | None = None,
) -> Table:
    """Features of labelled exposures, each by what was known when it was shown.

    `known`: rates of items from before these rows (for rows to be judged); None: they run along with the rows, each outcome
    counting once its time was up.
    """
    outcomes = shown[OUTCOMES].to_numpy(np.float64)
    if known is None:
        counts = running(shown, attribution)
        means = ItemRates.count(shown["item_id"].to_numpy(), outcomes).means()
    else:
        counts, means = known.of(shown["item_id"].to_numpy()), known.means()
    return Table(BehaviourFeatures(model).make(slates_of(shown, interactions), counts, means), outcomes, shown)


def running(shown: pd.DataFrame, attribution: timedelta) -> npt.NDArray[np.float64]:
    """(N, 3) how often each row's item was shown, clicked, purchased before, each outcome counting once its time was up."""
    codes, times = pd.factorize(shown["item_id"])[0], column_microseconds(shown["time"])
    return running_counts(codes, times, times - to_us(attribution), shown[OUTCOMES].to_numpy(np.float64))


def slates_of(shown: pd.DataFrame, interactions: Interactions) -> list[ShownSlate]:
    """The slates in the order of their rows, which lie together by request; histories end before the slate was shown."""
    past = _Past(interactions)
    request = shown["request_id"].to_numpy(object)
    starts = np.flatnonzero(np.r_[True, request[1:] != request[:-1]])
    ends = np.r_[starts[1:], len(request)]
    items, ranks = shown["item_id"].to_numpy(object), shown["rank"].to_numpy(np.int64)
    users, surfaces = shown["user_id"].to_numpy(object), shown["surface"].to_numpy(object)
    return [
        ShownSlate(items[a:b], ranks[a:b], past.of(users[a], moment), moment, str(surfaces[a]))
        for a, b, moment in zip(starts, ends, (t.to_pydatetime() for t in shown["time"].iloc[starts]), strict=True)
    ]


def learn_rows(times: pd.Series[Any], share: float) -> npt.NDArray[np.bool_]:
    """(N,) the rows of the older `share` of the slates' moments; slates of one moment stay together.

    Raises:
        TrainingError: everything was shown at one moment.
    """
    moments = np.sort(column_microseconds(times))
    learn = column_microseconds(times) < moments[min(int(share * len(moments)), len(moments) - 1)]
    if not learn.any():
        action = "Collect exposures over some days."
        raise TrainingError(
            "exposures of one moment cannot be split by time", field="exposures", value=len(times), action=action
        )
    return np.asarray(learn)


def newest_rows(shown: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many of the newest rows, whole slates only."""
    if len(shown) <= most:
        return shown
    cut = shown["request_id"].iloc[-most - 1]
    newest = shown.iloc[-most:]
    kept: pd.DataFrame = newest[newest["request_id"] != cut].reset_index(drop=True)
    return kept


def to_us(span: timedelta) -> int:
    """Microseconds."""
    return span // timedelta(microseconds=1)


class _Past:
    """The events of each shopper by time, cut at any moment."""

    def __init__(self, interactions: Interactions) -> None:
        ordered = interactions.where(np.argsort(interactions.users, kind="stable"))
        self._events = ordered
        self._users = {str(user): code for code, user in enumerate(ordered.user_ids)}
        self._first = np.searchsorted(ordered.users, np.arange(len(ordered.user_ids) + 1))

    def of(self, user_id: str | None, moment: datetime) -> History:
        code = self._users.get(str(user_id), -1) if user_id is not None else -1
        if code < 0:
            return History.empty()
        start, at = self._first[code], to_microseconds(moment)
        stop = start + np.searchsorted(self._events.times_us[start : self._first[code + 1]], at, side="left")
        rows = np.arange(start, stop)
        known = self._events.where(rows[self._events.cancelled_us[rows] > at])
        return histories_of(known, np.array([0]), np.array([len(known)]))[0]
