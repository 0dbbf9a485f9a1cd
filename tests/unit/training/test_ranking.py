"""The second stage learns from past weeks as they were when they began; odd shops get none, or one that works."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.tiny_model import UNTIL, tiny_catalog, tiny_events

from endcap.data.features import Interactions, interactions_from_events, to_microseconds
from endcap.evaluation.protocol import histories_at
from endcap.models.history import encode
from endcap.models.ranking_features import FEATURES
from endcap.training.ranking import PERIOD_DAYS, RankingOptions, Sampling, batch_of, learn_ranker, make_cases, period_starts

OPTIONS = RankingOptions(rounds=20)
ALL = Sampling(top=60, cases=1000, others=1.0, seed=0)
NOW = UNTIL + timedelta(hours=10)  # five weeks after the first event
START = NOW - timedelta(days=PERIOD_DAYS)
ITEMS = list(tiny_catalog()["item_id"])


def shop(shoppers: int = 100) -> Interactions:
    return interactions_from_events(tiny_events(shoppers=shoppers), ITEMS)


@pytest.fixture(scope="module")
def interactions() -> Interactions:
    return shop()


def test_favourites_come_first(interactions: Interactions) -> None:
    ranker = learn_ranker(interactions, NOW, OPTIONS)
    assert ranker is not None
    fresh = make_cases(interactions_from_events(tiny_events(shoppers=100, seed=1), ITEMS), START, NOW, ALL)
    scores = ranker.score(fresh.features)
    bounds = np.cumsum(fresh.sizes)[:-1]
    best = [taken[score.argmax()] for score, taken in zip(np.split(scores, bounds), np.split(fresh.taken, bounds), strict=True)]
    assert np.mean(best) > 0.95


def test_the_same_past_gives_the_same_text(interactions: Interactions) -> None:
    texts = [ranker.to_text() for _ in range(2) if (ranker := learn_ranker(interactions, NOW, OPTIONS))]
    assert texts[0] == texts[1]
    other = learn_ranker(interactions, NOW, dataclasses.replace(OPTIONS, seed=1))
    assert other is not None
    assert other.to_text() != texts[0]


def test_progress_names_periods_and_trees(interactions: Interactions) -> None:
    lines: list[str] = []
    learn_ranker(interactions, NOW, dataclasses.replace(OPTIONS, groups=2, rounds=30), lines.append)
    assert [line.split(":")[0] for line in lines] == ["week 1/1", "second stage, tree 25/60", "second stage, tree 50/60"]


def test_groups_of_trees_differ(interactions: Interactions) -> None:
    several, one = (learn_ranker(interactions, NOW, dataclasses.replace(OPTIONS, groups=groups)) for groups in (2, 1))
    assert several is not None
    assert one is not None
    first, second = several.to_text().split("\n\f\n")
    assert first == one.to_text() != second


def test_nothing_after_until_is_learnt(interactions: Interactions) -> None:
    events = tiny_events(shoppers=100)
    later = events.assign(time=events["time"] + pd.Timedelta(days=40), event_id="late" + events["event_id"])
    full = learn_ranker(interactions_from_events(pd.concat([events, later]), ITEMS), NOW, OPTIONS)
    cut = learn_ranker(interactions, NOW, OPTIONS)
    assert full is not None
    assert cut is not None
    assert full.to_text() == cut.to_text()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 23), st.floats(0, 14)), max_size=30))
def test_a_period_is_counted_as_of_its_start(extra: list[tuple[int, int, float]]) -> None:
    events = tiny_events(shoppers=30)
    more = pd.DataFrame(
        [(f"user{user:02d}", ITEMS[item], START + timedelta(days=days)) for user, item, days in extra],
        columns=["user_id", "item_id", "time"],
    ).assign(type="purchase", quantity=1.0, event_id="extra")
    more["time"] = pd.to_datetime(more["time"], utc=True).astype("datetime64[us, UTC]")
    changed = pd.concat([events, more], ignore_index=True) if len(more) else events
    before, after = (make_cases(interactions_from_events(each, ITEMS), START, NOW, ALL) for each in (events, changed))
    assert len(before.sizes) == 30  # all of them come every week, so that all cases can be compared
    np.testing.assert_array_equal(before.features, after.features)
    assert (before.taken <= after.taken).all()


def test_what_is_undone_later_was_known_and_is_no_answer() -> None:
    plain = shop(30)
    cancelled = plain.cancelled_us.copy()
    before = plain.times_us < to_microseconds(START)
    _, first, times = np.unique(np.stack([plain.users, plain.items])[:, ~before], axis=1, return_index=True, return_counts=True)
    last = np.flatnonzero(~before)[first[times == 1][0]]  # taken once in the period
    cancelled[np.flatnonzero(before)[-1]] = cancelled[last] = to_microseconds(NOW) - 1
    undone = dataclasses.replace(plain, cancelled_us=cancelled)
    as_was, as_is = (make_cases(each, START, NOW, ALL) for each in (plain, undone))
    np.testing.assert_array_equal(as_was.features, as_is.features)
    assert as_was.taken.sum() == as_is.taken.sum() + 1


def test_histories_are_those_of_a_request(interactions: Interactions) -> None:
    users = np.array([3, 17, 40])
    batch = batch_of(interactions.known_at(START), users, START)
    index = {item: code for code, item in enumerate(interactions.item_ids)}
    asked = encode(histories_at(interactions, list(interactions.user_ids[users]), START), index, START)
    for name in ("size", "rows", "codes", "ages", "types", "now_us"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(asked, name))


def test_large_shops_are_sampled(interactions: Interactions) -> None:
    some = [make_cases(interactions, START, NOW, dataclasses.replace(ALL, cases=10, seed=seed)) for seed in (0, 0, 1)]
    assert len(some[0].sizes) == 10
    np.testing.assert_array_equal(some[0].features, some[1].features)
    assert not np.array_equal(some[0].features, some[2].features)


def test_what_a_shopper_neither_touched_nor_took_is_thinned(interactions: Interactions) -> None:
    whole, thin = (
        make_cases(interactions, START, NOW, dataclasses.replace(ALL, others=others)) for others in (ALL.others, 0.5)
    )
    touched = whole.features[:, FEATURES.index("days")] > 0
    thin_touched = thin.features[:, FEATURES.index("days")] > 0
    np.testing.assert_array_equal(thin.features[thin_touched], whole.features[touched])
    assert thin.taken.sum() == whole.taken.sum()
    free, thin_free = (~touched & ~whole.taken).sum(), (~thin_touched & ~thin.taken).sum()
    assert 0.4 * free < thin_free < 0.6 * free
    assert len(thin.features) == thin.sizes.sum()


def test_periods_end_at_until_and_have_four_weeks_before() -> None:
    known = shop(20)
    assert period_starts(known, NOW, 26) == [START]
    later = NOW + timedelta(days=15)
    assert period_starts(known, later, 26) == [later - timedelta(days=7 * week) for week in (1, 2, 3)]
    assert len(period_starts(known, later, 2)) == 2


@pytest.mark.parametrize("keep", [0, 1, 30], ids=["no event", "one event", "few events"])
def test_too_little_history_gives_no_ranker(keep: int, interactions: Interactions, caplog: pytest.LogCaptureFixture) -> None:
    assert learn_ranker(interactions.where(np.arange(keep)), NOW, OPTIONS) is None
    assert "no_ranker" in caplog.text


def test_shops_of_one_item_or_one_shopper_make_cases() -> None:
    events = tiny_events(shoppers=10)
    for part in (events[events["item_id"] == "item00"], events[events["user_id"] == "user00"]):
        small = interactions_from_events(part)
        cases = make_cases(small, START, NOW, ALL)
        assert cases.taken.any()
        assert len(cases.features) == cases.sizes.sum()


def test_a_shop_that_only_knows_views_learns_from_them() -> None:
    ranker = learn_ranker(interactions_from_events(tiny_events(shoppers=100).assign(type="view"), ITEMS), NOW, OPTIONS)
    assert ranker is not None


def test_a_muted_signal_says_nothing_and_brings_no_candidates(interactions: Interactions) -> None:
    whole = make_cases(interactions, START, NOW, ALL)
    less = make_cases(interactions, START, NOW, ALL, frozenset({"ease", "ease_lately"}))
    place = FEATURES.index("ease")
    assert whole.features[:, place].any()
    assert not less.features[:, place].any()
    kept = FEATURES.index("collaborative")
    assert less.features[:, kept].any()
