"""The case of the simulated shop: a recommender learns its history, then serves slates whose true probabilities are known.

A tenth of the shoppers and a twelfth of the items are new: nothing of them is in the history.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from endcap.benchmark.behaviour.case import Case, Side, time_cuts
from endcap.config import Params
from endcap.data.features import column_microseconds, interactions_from_events
from endcap.data.item_text import item_texts, one_line
from endcap.models.behaviour.item_rates import ItemRates
from endcap.models.blend import BlendedRecommender
from endcap.models.history import History
from endcap.models.text.encoder import TextEncoder
from endcap.policy.simulator import SimulatedShop, simulate
from endcap.policy.storefront import Choice, Storefront
from endcap.progress import Progress
from endcap.training.behaviour.exposures import Table, make_table
from endcap.training.fitting import fit_full
from endcap.training.options import fit_options
from endcap.training.outcomes import label_exposures

if TYPE_CHECKING:
    import pandas as pd

DAYS, SLATE, EXPLORE = 56, 10, 0.3  # days open; items a slate; share of slates that are drawn evenly
NEW_SHOPPERS, NEW_ITEMS = 0.1, 0.08
HISTORY_CUTS = {"0 events": 0, "1-4 events": 1, "5-19 events": 5, "20+ events": 20}


def simulated_case(params: Params, seed: int, progress: Progress) -> Case:
    """The shop of params.yaml with this seed."""
    random = np.random.default_rng(seed)
    shop = simulate(params.shop.simulated.model_copy(update={"seed": seed}))
    lines = _without_the_new(shop, random)
    progress(f"simulated shop {seed}: {len(lines):,} events; fitting the recommender")
    begun = time.monotonic()
    model = fit_recommender(lines, shop.catalog.to_pandas(), shop.end, params, seed)
    fitted = time.monotonic() - begun
    histories = {str(user): _records(rows) for user, rows in lines.groupby("user_id")}
    visits = Storefront(shop, _chooser(model), shop.end, seed, histories).live(DAYS)
    attribution = timedelta(hours=params.monitoring.attribution_hours)
    until = shop.end + timedelta(days=DAYS)
    shown = label_exposures(visits.exposures, visits.events, attribution, until)
    progress(f"{shown['request_id'].nunique():,} slates answered; making features")
    events = _together(lines, visits.events)
    times = column_microseconds(shown["time"])
    start, test = time_cuts(times)
    before, after = (shown[side].reset_index(drop=True) for side in (times < test, times >= test))
    interactions = interactions_from_events(events)
    learnt = make_table(model, before, interactions, attribution)
    judged = make_table(model, after, interactions, attribution, ItemRates.count(before["item_id"].to_numpy(), learnt.outcomes))
    facts = {"seed": seed, "slates": int(shown["request_id"].nunique()), "recommender_seconds": round(fitted, 1), "days": DAYS}
    sides = (_side(learnt, visits.truth), _side(judged, visits.truth))
    return Case("simulated", sides[0], times[times < test] < start, sides[1], facts=facts)


def fit_recommender(
    lines: pd.DataFrame, catalog: pd.DataFrame, until: datetime, params: Params, seed: int
) -> BlendedRecommender:
    """The shop's own recommender as of `until`, by params.yaml."""
    items = catalog.sort_values("item_id", ignore_index=True)
    encode = params.encode
    encoder = TextEncoder(encode.model, encode.max_tokens, encode.batch_size, None)
    vectors, _ = encoder.encode([one_line(text) for text in item_texts(items)], encode.max_seconds)
    options = replace(fit_options(params), seed=seed)
    interactions = interactions_from_events(lines, items["item_id"].tolist())
    return fit_full(interactions, items, vectors.astype(np.float32), until, options).model


def _without_the_new(shop: SimulatedShop, random: np.random.Generator) -> pd.DataFrame:
    """The history, less what the new shoppers and the new items did in it; new shoppers have bought nothing."""
    items = shop.catalog["item_id"].to_numpy()
    new_items = random.choice(items, int(NEW_ITEMS * len(items)), replace=False)
    people = shop.shoppers
    new_people = [people[n] for n in random.choice(len(people), int(NEW_SHOPPERS * len(people)), replace=False)]
    for person in new_people:
        person.bought.clear()
    known = ~shop.lines["item_id"].isin(new_items) & ~shop.lines["user_id"].isin([person.user_id for person in new_people])
    return shop.lines[known].reset_index(drop=True)


def _chooser(model: BlendedRecommender) -> Callable[[History, datetime, str, np.random.Generator], list[Choice]]:
    """The best first, or now and then an even draw."""
    items = list(model.item_ids)

    def choose(history: History, now: datetime, surface: str, random: np.random.Generator) -> list[Choice]:
        scores = model.score([history], now, surface)[0]
        best = np.argsort(-scores, kind="stable")[:SLATE]
        explores = random.random() < EXPLORE
        slate = random.choice(len(items), SLATE, replace=False) if explores else best
        even = EXPLORE / len(items)
        return [
            (items[code], float(scores[code]), even + (1 - EXPLORE) * bool(code == best[place]))
            for place, code in enumerate(slate)
        ]

    return choose


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def _together(lines: pd.DataFrame, acts: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    columns = ["user_id", "item_id", "type", "time", "quantity"]
    return pd.concat([lines[columns], acts[columns]], ignore_index=True)


def _side(table: Table, truth: pd.DataFrame) -> Side:
    shown = table.shown
    chances = shown[["request_id", "rank"]].merge(truth, on=["request_id", "rank"], how="left", validate="one_to_one")
    return Side(
        table.features, table.outcomes, shown["item_id"].to_numpy(object), shown["user_id"].to_numpy(object),
        _slices(table), chances[["click", "purchase"]].to_numpy(np.float64),
    )  # fmt: skip


def _slices(table: Table) -> pd.DataFrame:
    import pandas as pd

    column = dict(zip(table.features.names, table.features.values.T, strict=True))
    events = np.expm1(column["history_events"]).round()
    names = np.array(list(HISTORY_CUTS), object)
    held = np.searchsorted(list(HISTORY_CUTS.values()), events, side="right") - 1
    slices: dict[str, Any] = {
        "item": np.where(column["item_new"] > 0, "new item", "known item"),
        "shopper": names[held],
        "surface": table.shown["surface"].to_numpy(object),
        "place": np.where(table.shown["rank"] <= 3, "places 1-3", "places 4 on"),
    }
    return pd.DataFrame(slices)
