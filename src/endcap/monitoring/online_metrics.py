"""How good the shown slates were: exposures joined with what shoppers did afterwards."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from endcap.monitoring.checks import Check, Kind
from endcap.training.outcomes import settle

if TYPE_CHECKING:
    from endcap.monitoring.windows import Windows

RATES = {"hit rate": "hit", "click rate": "clicked"}
BOOTSTRAP = 500


def judge_requests(exposures: pd.DataFrame, events: pd.DataFrame, attribution: timedelta, until: datetime) -> pd.DataFrame:
    """One row a request: request_id, user_id, time, model_version, fallback, hit (a shown item was bought), clicked.

    What an event counts for is the rule of training/outcomes.py; requests whose time is not up at `until` are left out.

    Args:
        exposures: contracts.exposure_schema(), one row a shown item.
        events: type, user_id, item_id, time, request_id; `quantity` and `cancelled_at` where there are any.
        until: the moment up to which events are known.
    """
    requests = settle(exposures, events, attribution, until).groupby("request_id", sort=True)
    told = requests.agg(
        user_id=("user_id", "first"),
        time=("time", "first"),
        model_version=("model_version", "first"),
        fallback=("fallback", "any"),
        hit=("purchased", "any"),
        clicked=("clicked", "any"),
    )
    return told.reset_index()


def quality(requests: pd.DataFrame, windows: Windows, previous: int) -> pd.DataFrame:
    """One row for each interval and model version: start, model_version, requests, hit_rate, click_rate, fallbacks.

    Oldest first; the current interval comes last; `previous` intervals before it are looked at.
    """
    rows = []
    for back in range(previous, -1, -1):
        start = windows.start - back * windows.length
        inside = _between(requests, start, start + windows.length)
        for version, some in inside.groupby("model_version", sort=True):
            rates = {name.replace(" ", "_"): float(some[column].mean()) for name, column in RATES.items()}
            rows.append(
                {
                    "start": start,
                    "model_version": version,
                    "requests": len(some),
                    **rates,
                    "fallbacks": float(some["fallback"].mean()),
                }
            )
    columns = ["start", "model_version", "requests", "hit_rate", "click_rate", "fallbacks"]
    return pd.DataFrame(rows, columns=columns)


def check_online(
    requests: pd.DataFrame, windows: Windows, *, previous: int, min_ratio: float, min_requests: int, seed: int = 0
) -> list[Check]:
    """Did a rate fall below `min_ratio` of what it was in the `previous` intervals?

    With fewer than `min_requests` on a side the threshold is 0: the rate is shown, and nothing is concluded. Nor is it unless
    95 % of the rates lie below the threshold when shoppers are drawn anew (bootstrap). A rate nobody ever had is left out.
    """
    now = _between(requests, windows.start, windows.end)
    before = _between(requests, windows.start - previous * windows.length, windows.start)
    checks = []
    for name, column in RATES.items():
        if not now[column].any() and not before[column].any():
            continue
        usual = float(before[column].mean()) if len(before) else None
        value = float(now[column].mean()) if len(now) else 0.0
        allowed = min_ratio * usual if usual and min(len(now), len(before)) >= min_requests else 0.0
        fell = value < allowed and _upper(now, column, seed) < allowed
        history = [
            _between(before, windows.start - back * windows.length, windows.start - (back - 1) * windows.length)[column]
            for back in range(previous, 0, -1)
        ]
        checks.append(
            Check(name, Kind.ONLINE, value, allowed, fell, usual, "rate", tuple(float(h.mean()) for h in history if len(h)))
        )
    return checks


def _between(requests: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    return requests[(requests["time"] >= start) & (requests["time"] < end)]


def _upper(requests: pd.DataFrame, column: str, seed: int) -> float:
    """The 95 % quantile of the rate when shoppers are drawn anew; requests of one shopper stay together."""
    shoppers = requests["user_id"].fillna(requests["request_id"])
    sums = requests.groupby(shoppers)[column].agg(["sum", "count"]).to_numpy(float)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (BOOTSTRAP, len(sums)))
    totals = sums[drawn].sum(axis=1)
    return float(np.quantile(totals[:, 0] / totals[:, 1], 0.95))
