"""The whole watch on a shop whose weeks are alike: silent as it is and in any order, loud when something is made to move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from tests.fixtures import steady_shop as shop

from endcap.config import Params
from endcap.contracts import exposure_schema
from endcap.errors import InputError
from endcap.models.history import Floats, History
from endcap.monitoring.checks import Kind
from endcap.monitoring.watch import Champion, Watched, watch
from endcap.monitoring.windows import Windows, choose_windows

NEWEST = shop.WEEKS - 1
WINDOWS = choose_windows(
    shop.week(NEWEST + 1), shop.week(NEWEST - 1), interval_days=7, reference_days=56, first_event=shop.week(0)
)


class LikesWhatWasBought:
    """Scores an item by its share of what the shopper bought."""

    item_ids: Sequence[str] = list(shop.catalog()["item_id"])

    def score(self, histories: Sequence[History], now: datetime) -> Floats:
        codes = {item: code for code, item in enumerate(self.item_ids)}
        bought = [np.bincount([codes[item] for item in history.item_ids], minlength=len(codes)) for history in histories]
        return np.stack([counts / counts.sum() for counts in bought]).astype(np.float32)


def vectors(catalog: pd.DataFrame) -> Floats:
    """A vector for each first word of a title, and a little of its own for each title."""
    rows = []
    for title in catalog["title"]:
        seed = sum(map(ord, title.split()[0]))
        rows.append(np.random.default_rng(seed).normal(size=8) + 0.1 * np.random.default_rng(len(title)).normal(size=8))
    return np.stack(rows).astype(np.float32)


def _watch(
    events: pd.DataFrame,
    params: Params,
    catalog: pd.DataFrame | None = None,
    windows: Windows = WINDOWS,
    targets: tuple[str, ...] = ("purchase",),
) -> Watched:
    known = shop.catalog()
    champion = Champion(LikesWhatWasBought(), known, vectors(known), targets)
    nothing_shown = exposure_schema().empty_table().to_pandas()
    catalog = known if catalog is None else catalog
    return watch(events, catalog, nothing_shown, champion, windows, params.monitoring, vectors)


def _newest(events: pd.DataFrame) -> pd.Series:
    return events["time"] >= WINDOWS.start


def _triple_prices(events: pd.DataFrame) -> pd.DataFrame:
    return events.assign(price=events["price"].where(~_newest(events), events["price"] * 3))


def _only_lamps(events: pd.DataFrame) -> pd.DataFrame:
    lamps = shop.catalog().query("category == 'lamps'")["item_id"].to_numpy()
    return events.assign(item_id=events["item_id"].where(~_newest(events), np.resize(lamps, len(events))))


def _at_night(events: pd.DataFrame) -> pd.DataFrame:
    return events.assign(time=events["time"].where(~_newest(events), events["time"].dt.normalize() + pd.Timedelta(hours=3)))


def test_a_steady_shop_does_not_drift(params: Params) -> None:
    watched = _watch(shop.events(), params)
    assert watched.decision.reasons == ()
    assert {check.kind for check in watched.checks} == {Kind.COLUMN, Kind.TEXT, Kind.SCORES}
    assert {check.name for check in watched.checks} >= {"price", "category", "country", "item popularity", "shopper history"}


@pytest.mark.parametrize("seed", range(5))
def test_no_false_alarm_when_a_drifted_shop_is_shuffled_in_time(params: Params, seed: int) -> None:
    drifted = _only_lamps(_triple_prices(shop.events(seed=seed)))
    times = drifted["time"].to_numpy()
    shuffled = drifted.sample(frac=1.0, random_state=seed).reset_index(drop=True).assign(time=drifted["time"])
    assert (shuffled["time"].to_numpy() == times).all()
    assert _watch(shuffled, params).decision.reasons == ()


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        (_triple_prices, "price moved"),
        (_only_lamps, "category"),
        (_only_lamps, "text of bought items moved"),
        (_at_night, "time of week"),
    ],
)
def test_what_is_made_to_move_is_found(params: Params, move: Callable[[pd.DataFrame], pd.DataFrame], reason: str) -> None:
    decision = _watch(move(shop.events()), params).decision
    assert decision.drifted
    assert any(reason in one for one in decision.reasons), decision.reasons


def test_rewritten_texts_are_found_though_the_same_items_are_bought(params: Params) -> None:
    rewritten = shop.catalog().assign(title=lambda c: c["title"].str.replace("mugs", "chainsaws"))
    watched = _watch(shop.events(), params, rewritten)
    assert [check.name for check in watched.checks if check.drifted] == ["text of bought items"]
    assert watched.decision.drifted


def test_the_past_does_not_depend_on_the_future(params: Params) -> None:
    earlier = choose_windows(shop.week(15), shop.week(13), interval_days=7, reference_days=56, first_event=shop.week(0))
    events = shop.events()
    known = events[events["time"] < earlier.end]
    later = pd.concat([known, _triple_prices(events[events["time"] >= earlier.end])], ignore_index=True)
    without, knowing = _watch(known, params, windows=earlier), _watch(later, params, windows=earlier)
    pd.testing.assert_frame_equal(without.current, knowing.current)
    assert without.checks == knowing.checks


def test_returns_are_not_purchases(params: Params) -> None:
    returns = shop.events().assign(quantity=-1.0)
    both = pd.concat([shop.events(), returns], ignore_index=True)
    assert len(_watch(both, params).current) == shop.A_WEEK


def test_a_shop_without_purchases_is_watched_by_what_its_model_learns_from(params: Params) -> None:
    targets = ("click", "view")
    views = shop.events().assign(type=lambda events: np.resize(["view", "click"], len(events)), quantity=1.0)

    steady, moved = (_watch(events, params, targets=targets) for events in (views, _only_lamps(views)))

    assert len(steady.current) == shop.A_WEEK
    assert steady.decision.reasons == ()
    assert moved.decision.drifted
    with pytest.raises(InputError, match="fewer than 50 clicks and views"):
        _watch(shop.events(), params, targets=targets)


def test_a_week_with_few_purchases_is_not_judged(params: Params) -> None:
    events = shop.events()
    with pytest.raises(InputError, match="fewer than 50 purchases"):
        _watch(pd.concat([events[~_newest(events)], events[_newest(events)].head(9)]), params)
