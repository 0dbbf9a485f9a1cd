"""What became of each shown item: exposures joined with the clicks and purchases that followed. The shop's one rule for that.

An event that names a request counts for that request; one that names none counts for the last slate that showed the item to
the shopper. Both only within `attribution` after the slate. Items shown so late that this time has not passed yet are left out.
The behaviour head learns by it, and monitoring counts the online quality by it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.contracts import EventType
from endcap.data.features import as_frame
from endcap.errors import TrainingError

ACTS = {"clicked": (EventType.CLICK, EventType.CART, EventType.PURCHASE), "purchased": (EventType.PURCHASE,)}
COLUMNS = ["request_id", "user_id", "item_id", "time", "rank", "surface"]


def label_exposures(exposures: Any, events: Any, attribution: timedelta, until: datetime) -> pd.DataFrame:
    """One row a shown item by time, request and rank: COLUMNS, clicked, purchased (bool). As `settle`, but never empty.

    Raises:
        TrainingError: no item was shown early enough for its outcome to be known.
    """
    shown = settle(as_frame(exposures)[COLUMNS], events, attribution, until)
    if shown.empty:
        raise TrainingError(
            "no exposure is old enough to know what became of it",
            field="exposures",
            value=len(as_frame(exposures)),
            action="Serve slates first; outcomes are known monitoring.attribution_hours after them.",
        )
    return shown


def settle(exposures: Any, events: Any, attribution: timedelta, until: datetime) -> pd.DataFrame:
    """The exposures whose time was up at `until`, by time, request and rank, with clicked and purchased (bool) added.

    "Clicked" means acted on: a cart or a purchase counts too, so purchased implies clicked.

    Args:
        exposures: contracts.exposure_schema(), pyarrow or pandas. Slates without a shopper are kept: events may name them.
        events: type, user_id, item_id, time, request_id; `quantity` and `cancelled_at` where there are any. Returns and
            purchases undone before their time was up do not count.
        until: the moment up to which events are known.
    """
    shown = as_frame(exposures).sort_values(["time", "request_id", "rank"], kind="stable", ignore_index=True)
    up = shown["time"] + attribution <= pd.Timestamp(until)
    if not up.any():
        return shown[up].assign(**dict.fromkeys(ACTS, np.zeros(0, np.bool_)))
    acts = as_frame(events)
    acts = acts[acts["time"] < pd.Timestamp(until)]
    if "quantity" in acts:
        acts = acts[~(acts["quantity"].astype(float) <= 0)]
    shown = shown.assign(**{column: followed(shown, acts, kinds, attribution) for column, kinds in ACTS.items()})
    return shown[up].reset_index(drop=True)  # the others have taken the acts that are theirs


def followed(
    shown: pd.DataFrame, acts: pd.DataFrame, kinds: Collection[EventType], attribution: timedelta
) -> npt.NDArray[np.bool_]:
    """(N,) which shown items an event of these kinds counts for; `shown` as `settle` sorts it."""
    rows_N = np.arange(len(shown))
    shown = shown.assign(row=rows_N)
    some = acts[acts["type"].isin([str(kind) for kind in kinds])]
    return np.isin(rows_N, np.concatenate([_named(shown, some, attribution), _nearest(shown, some, attribution)]))


def _named(shown: pd.DataFrame, acts: pd.DataFrame, attribution: timedelta) -> npt.NDArray[np.int64]:
    """Rows whose request and item an event names."""
    wanted = [name for name in ("request_id", "item_id", "time", "cancelled_at") if name in acts]
    pairs = shown.merge(acts[wanted].dropna(subset=["request_id"]), on=["request_id", "item_id"], suffixes=("", "_act"))
    return _in_time(pairs, attribution)["row"].to_numpy(np.int64)


def _nearest(shown: pd.DataFrame, acts: pd.DataFrame, attribution: timedelta) -> npt.NDArray[np.int64]:
    """Rows that were the last to show its item to the shopper of an event that names no request."""
    wanted = [name for name in ("user_id", "item_id", "time", "cancelled_at") if name in acts]
    unnamed = acts.loc[acts["request_id"].isna(), wanted].dropna(subset=["user_id"]).reset_index(names="act")
    pairs = shown.dropna(subset=["user_id"]).merge(unnamed, on=["user_id", "item_id"], suffixes=("", "_act"))
    near = _in_time(pairs, attribution).sort_values(["act", "time"], kind="stable")
    return near.drop_duplicates("act", keep="last")["row"].to_numpy(np.int64)


def _in_time(pairs: pd.DataFrame, attribution: timedelta) -> pd.DataFrame:
    after = pairs["time_act"] - pairs["time"]
    keep = (after >= pd.Timedelta(0)) & (after <= attribution)
    if "cancelled_at" in pairs:
        undone = pd.to_datetime(pairs["cancelled_at"], utc=True)
        keep &= ~(undone <= pairs["time"] + attribution)
    return pairs[keep]
