"""Rank a period that no scorer has learnt, and say per shopper how well: everything before `start` is known, nothing after.

Recall and NDCG at k against the items that a shopper really took (target events: purchases, where the shop has them), for all
items and (`_new`) for items new to the shopper, where what was taken before is masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from endcap.data.features import Interactions, as_frame, interactions_from_events
from endcap.evaluation.metrics import ndcg_at_k, recall_at_k, top_k
from endcap.models.history import History, Scorer, histories_of

BATCH_NUMBERS = 1_000_000  # shoppers × items that are scored at once
HEAVY_EVENTS = 100  # from this many known target events on a shopper is heavy


@dataclass(frozen=True, slots=True, eq=False)
class Period:
    """The shoppers of a period, what they had done before and what they took in it."""

    user_ids: list[str]
    histories: list[History]  # (B,) events before `start`
    taken: list[npt.NDArray[Any]]  # (B,) distinct item ids, in order of time
    countries: list[str]
    start: datetime
    end: datetime

    def part(self, which: slice) -> Period:
        """Some of the shoppers."""
        return Period(
            self.user_ids[which], self.histories[which], self.taken[which], self.countries[which], self.start, self.end
        )


def histories_at(interactions: Interactions, user_ids: list[str], moment: datetime) -> list[History]:
    """Each shopper's history as known at `moment`, oldest first; empty for a shopper without one."""
    known = interactions.known_at(moment)
    order = np.argsort(known.users, kind="stable")
    known = known.where(order)
    index = {user: code for code, user in enumerate(interactions.user_ids)}
    codes = np.array([index.get(user, -1) for user in user_ids], np.int64)
    return histories_of(known, np.searchsorted(known.users, codes), np.searchsorted(known.users, codes, side="right"))


def make_period(events: Any, start: datetime, end: datetime) -> Period:
    """The period [start, end) of an event table (pyarrow or pandas, contracts.dataset_event_schema())."""
    frame = as_frame(events)
    interactions = interactions_from_events(frame)
    inside = interactions.between(start, end).targets()
    first = pd.DataFrame({"user": inside.users, "item": inside.items}).drop_duplicates()
    groups = first.groupby("user", sort=True)["item"]
    codes: list[int] = list(groups.groups)  # type: ignore[arg-type]
    user_ids = [str(interactions.user_ids[code]) for code in codes]
    taken = [interactions.item_ids[groups.get_group(code).to_numpy()] for code in codes]
    country: dict[str, str] = {}
    if "country" in frame:
        firsts = frame.dropna(subset=["country"]).groupby("user_id")["country"].first()
        country = dict(zip(firsts.index, firsts, strict=True))
    countries = [str(country.get(user, "")) for user in user_ids]
    return Period(user_ids, histories_at(interactions, user_ids, start), taken, countries, start, end)


def rank_period(
    scorers: Mapping[str, Scorer], events: Any, catalog: Any, start: datetime, end: datetime, k: int = 10
) -> pd.DataFrame:
    """One row a (model, shopper) of [start, end): the metrics, and what slices are cut by.

    Columns: model, user_id, recall_at_<k>, ndcg_at_<k>, recall_at_<k>_new, ndcg_at_<k>_new (NaN where the shopper took nothing
    new), taken, taken_new, history_events, country, top (the first k item ids). Items that the catalogue does not list at
    `start` are never ranked, but count as taken. `catalog` None: every item of a scorer may be ranked.
    """
    period = make_period(events, start, end)
    rankable = listed_items(catalog, start)
    frames = [score_period(name, scorer, period, k, rankable) for name, scorer in scorers.items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def listed_items(catalog: Any, moment: datetime) -> set[str] | None:
    """Ids of the items that the shop listed before `moment`; None: no catalogue, no limit."""
    if catalog is None:
        return None
    frame = as_frame(catalog)
    if "available_from" not in frame:
        return set(frame["item_id"])
    available = pd.to_datetime(frame["available_from"], utc=True)
    return set(frame.loc[available < pd.Timestamp(moment), "item_id"])


def score_period(name: str, scorer: Scorer, period: Period, k: int, rankable: set[str] | None = None) -> pd.DataFrame:
    """The rows of one scorer, see rank_period."""
    items = np.asarray(scorer.item_ids, dtype=object)
    index = {item: code for code, item in enumerate(items)}
    barred = np.array([rankable is not None and item not in rankable for item in items], np.bool_)
    frames = []
    size = max(1, BATCH_NUMBERS // max(len(items), 1))
    for begin in range(0, len(period.user_ids), size):
        part = slice(begin, begin + size)
        histories, taken = period.histories[part], period.taken[part]
        scores = scorer.score(histories, period.start).copy()
        scores[:, barred] = -np.inf
        own = [{str(item) for item, kind in zip(h.item_ids, h.types, strict=True)} for h in histories]
        fresh = [np.array([item for item in got if item not in had], object) for got, had in zip(taken, own, strict=True)]
        slates = top_k(scores, k)
        recall, ndcg = _judge(slates, scores, taken, index, k)
        for row, had in enumerate(own):
            scores[row, [index[item] for item in had if item in index]] = -np.inf
        recall_new, ndcg_new = _judge(top_k(scores, k), scores, fresh, index, k)
        frames.append(
            pd.DataFrame(
                {
                    "model": name,
                    "user_id": period.user_ids[part],
                    f"recall_at_{k}": recall,
                    f"ndcg_at_{k}": ndcg,
                    f"recall_at_{k}_new": recall_new,
                    f"ndcg_at_{k}_new": ndcg_new,
                    "taken": [len(got) for got in taken],
                    "taken_new": [len(got) for got in fresh],
                    "history_events": [len(history) for history in histories],
                    "country": period.countries[part],
                    "top": [[str(item) for item in items[slate]] for slate in slates],
                }
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _judge(
    slates: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], taken: list[npt.NDArray[Any]], index: dict[str, int], k: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    wanted = np.array([len(got) for got in taken], np.int64)
    hits = np.zeros(slates.shape, np.bool_)
    for row, got in enumerate(taken):
        codes = [index[item] for item in got if item in index]
        hits[row] = np.isin(slates[row], codes) & np.isfinite(scores[row, slates[row]])
    recall, ndcg = recall_at_k(hits, wanted, k), ndcg_at_k(hits, wanted, k)
    recall[wanted == 0], ndcg[wanted == 0] = np.nan, np.nan
    return recall, ndcg
