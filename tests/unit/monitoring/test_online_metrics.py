"""Exposures joined with what shoppers did afterwards."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest
from tests.fixtures import steady_shop as shop

from endcap.monitoring.checks import Check
from endcap.monitoring.online_metrics import check_online, judge_requests, quality
from endcap.monitoring.windows import choose_windows
from endcap.training.outcomes import label_exposures

DAY = timedelta(days=1)
NOON = shop.week(0) + timedelta(hours=12)
WINDOWS = choose_windows(shop.week(6), shop.week(5), interval_days=7, reference_days=28, first_event=shop.week(0))


def _shown(request_id: str, user_id: str | None, items: list[str], time: datetime = NOON, model: str = "1") -> pd.DataFrame:
    rows = {
        "request_id": request_id,
        "user_id": user_id,
        "item_id": items,
        "rank": range(1, len(items) + 1),
        "time": time,
        "model_version": model,
        "fallback": False,
    }
    return pd.DataFrame(rows)


def _act(kind: str, user_id: str, item_id: str, time: datetime, request_id: str | None = None) -> dict[str, object]:
    return {"type": kind, "user_id": user_id, "item_id": item_id, "time": time, "request_id": request_id}


def _events(*acts: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame(list(acts), columns=["type", "user_id", "item_id", "time", "request_id"])
    return frame.astype({"time": "datetime64[us, UTC]"})


def test_a_hit_is_a_shown_item_bought_soon_after_or_by_its_request() -> None:
    names = ("bought", "other", "before", "late", "named", "named late", "none")
    judged = judge_requests(
        pd.concat([_shown(name, name, ["a", "b"]) for name in names]),
        _events(
            _act("purchase", "bought", "b", NOON + timedelta(hours=2)),
            _act("purchase", "other", "c", NOON + timedelta(hours=2)),  # was not shown
            _act("purchase", "before", "a", NOON - timedelta(minutes=1)),
            _act("purchase", "late", "a", NOON + timedelta(hours=25)),
            _act("purchase", "a stranger", "a", NOON + timedelta(hours=3), request_id="named"),
            _act("purchase", "named late", "a", NOON + timedelta(days=3), request_id="named late"),
            _act("click", "none", "a", NOON + timedelta(minutes=1)),
        ),
        DAY,
        WINDOWS.end,
    ).set_index("request_id")
    assert set(judged.index[judged["hit"]]) == {"bought", "named"}
    assert set(judged.index[judged["clicked"]]) == {"bought", "named", "none"}  # who buys has acted on it


def test_an_event_counts_for_one_slate_as_it_does_for_training() -> None:
    earlier, later = NOON, NOON + timedelta(hours=1)
    shown = pd.concat([_shown("r1", "u", ["a"], earlier), _shown("r2", "u", ["a"], later), _shown("r3", "u", ["b"], later)])
    acts = (_act("click", "u", "a", later + timedelta(hours=1)), _act("click", "u", "b", later, request_id="r1"))
    judged = judge_requests(shown, _events(*acts), DAY, WINDOWS.end)
    labelled = label_exposures(shown.assign(surface="home"), _events(*acts), DAY, WINDOWS.end)
    assert dict(zip(judged["request_id"], judged["clicked"], strict=True)) == {"r1": False, "r2": True, "r3": False}
    assert dict(zip(labelled["request_id"], labelled["clicked"], strict=True)) == {"r1": False, "r2": True, "r3": False}


def test_a_request_whose_time_is_not_up_is_not_judged_yet() -> None:
    shown = pd.concat([_shown("r1", "u", ["a"]), _shown("r2", "u", ["a"], NOON + timedelta(hours=1))])
    assert judge_requests(shown, _events(), DAY, NOON + DAY)["request_id"].tolist() == ["r1"]


def test_an_unknown_shopper_is_judged_by_the_request_alone() -> None:
    act = _act("purchase", "u", "a", NOON + timedelta(hours=1), request_id="r1")
    judged = judge_requests(_shown("r1", None, ["a"]), _events(act), DAY, WINDOWS.end)
    assert judged["hit"].tolist() == [True]


def _requests(weekly_hits: dict[int, int], a_week: int = 200) -> pd.DataFrame:
    rows = [
        (f"{week}-{n}", f"user-{n % 150}", shop.week(week) + timedelta(hours=1), n < hits, str(week // 3))
        for week, hits in weekly_hits.items()
        for n in range(a_week)
    ]
    frame = pd.DataFrame(rows, columns=["request_id", "user_id", "time", "hit", "model_version"])
    return frame.assign(clicked=False, fallback=False)


def _check(requests: pd.DataFrame) -> list[Check]:
    return check_online(requests, WINDOWS, previous=3, min_ratio=0.5, min_requests=100)


@pytest.mark.parametrize(("now", "fell"), [(60, False), (40, False), (10, True)])
def test_quality_falls_when_less_than_half_is_left(now: int, fell: bool) -> None:
    (check,) = _check(_requests({2: 60, 3: 60, 4: 60, 5: now}))
    assert check.name == "hit rate"
    assert check.value == now / 200
    assert check.threshold == pytest.approx(0.15)
    assert check.history == (0.3, 0.3, 0.3)
    assert check.drifted is fell


def test_too_few_requests_are_shown_and_not_judged() -> None:
    few = _requests({4: 9, 5: 0}, a_week=30)
    (check,) = _check(few)
    assert (check.drifted, check.threshold, check.value) == (False, 0.0, 0.0)


def test_what_was_never_seen_before_is_neither_usual_nor_unusual() -> None:
    (check,) = _check(_requests({5: 60}))
    assert (check.usual, check.drifted, check.verdict) == (None, False, "first time")
    assert check.says() == "hit rate, first time: rate 0.300"


def test_quality_is_told_by_week_and_model() -> None:
    table = quality(_requests({2: 60, 3: 40, 5: 20}), WINDOWS, previous=3)
    assert table[["model_version", "hit_rate"]].to_numpy().tolist() == [["0", 0.3], ["1", 0.2], ["1", 0.1]]


def test_nothing_shown_gives_no_check() -> None:
    empty = judge_requests(_shown("r", "u", ["a"]).head(0), _events(), DAY, WINDOWS.end)
    assert _check(empty) == []
    assert quality(empty, WINDOWS, previous=3).empty
