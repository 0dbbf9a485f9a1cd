"""From a real event log's rows to the sums of each arm: what counts for whom, and when it is settled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.fixtures.canary_shelf import CanaryShelf

from endcap.config import Params, Settings
from endcap.data.canary_log import ArmRow, CanaryLog
from endcap.data.events import EventLog
from endcap.release import canary_evidence, canary_rollout
from endcap.release.canary_state import CanaryState
from endcap.release.signing import Keys

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
DAY = timedelta(hours=24)


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    log = EventLog(settings.event_log_url)
    log.create()
    yield log
    log.close()


@pytest.fixture
def rows(settings: Settings, log: EventLog) -> Iterator[CanaryLog]:
    rows = CanaryLog(settings.event_log_url)
    yield rows
    rows.close()


@pytest.fixture
def state(settings: Settings, params: Params, tmp_path: object) -> CanaryState:
    assert params.canary is not None
    shelf = CanaryShelf(settings.home / "shelf", Keys.load(settings.paths.secrets))
    shelf.publish(1)
    shelf.candidate(2)
    settings_now = params.canary.model_copy(update={"shadow": None})
    return canary_rollout.start(shelf, shelf.keys, settings_now, "2", "ada", START)  # type: ignore[arg-type]


def shown(
    log: EventLog,
    state: CanaryState,
    request: str,
    user: str,
    arm: str,
    hours: float,
    *,
    item: str = "mug",
    step: int = 0,
    latency: float = 10.0,
    error: bool = False,
    answered: float | None = None,
) -> None:
    time = START + timedelta(hours=hours)
    exposure = {"request_id": request, "user_id": user, "surface": "home", "time": time, "item_id": item, "rank": 1}
    exposure |= {"score": 1.0, "propensity": 1.0, "policy": "greedy", "model_version": "1", "fallback": error}
    row = ArmRow(
        request_id=request,
        canary_id=state.canary_id,
        step=step,
        arm=arm,
        shopper=user,
        time=time,
        answered_at=time if answered is None else START + timedelta(hours=answered),
        latency_ms=latency,
        error=error,
        fallback=error,
    )
    log.append_exposures([exposure], [row])


def act(log: EventLog, number: int, user: str, hours: float, kind: str = "click", request: str | None = None) -> None:
    event = {"event_id": f"e{number}", "type": kind, "user_id": user, "item_id": "mug", "request_id": request}
    log.append([{**event, "time": START + timedelta(hours=hours), "quantity": 1.0, "price": 1.0}])


def test_arms_are_counted_by_what_a_request_was_meant_for(log: EventLog, rows: CanaryLog, state: CanaryState) -> None:
    shown(log, state, "r1", "ann", "candidate", 0)
    shown(log, state, "r2", "ann", "candidate", 1, latency=30.0, error=True)  # the champion answered, and it was clicked
    shown(log, state, "r3", "bob", "champion", 1)
    shown(log, state, "r4", "cem", "champion", 30)  # its time is not up
    act(log, 1, "ann", 2, request="r2")
    act(log, 2, "bob", 3, "purchase")  # names no request: of the last slate that showed it
    act(log, 3, "cem", 31)
    look = canary_evidence.look(state, rows, DAY, START + timedelta(hours=48))
    ours, theirs = look.candidate, look.champion
    assert (ours.requests, ours.shoppers, ours.settled, ours.clicks, ours.purchases) == (2, 1, 2, 1, 0)
    assert (ours.latency_ms, ours.errors, ours.fallbacks) == (20.0, 1, 1)
    assert (theirs.requests, theirs.shoppers, theirs.settled, theirs.clicks, theirs.purchases) == (2, 2, 1, 1, 1)
    assert look.action == "wait"
    assert look.reasons == ("1 shoppers in the smaller arm, 200 are wanted",)


def test_an_act_counts_for_the_last_slate_even_where_that_is_of_another_step(
    log: EventLog, rows: CanaryLog, state: CanaryState
) -> None:
    shown(log, state, "r1", "ann", "candidate", 0)
    shown(log, state, "r2", "ann", "champion", 1, step=1)
    act(log, 1, "ann", 2)
    now = START + timedelta(hours=48)
    assert canary_evidence.look(state, rows, DAY, now).candidate.clicks == 0
    later = state.model_copy(update={"step": 1})
    assert canary_evidence.look(later, rows, DAY, now).champion.clicks == 1


def test_too_late_and_not_yet_known_is_nothing(log: EventLog, rows: CanaryLog, state: CanaryState) -> None:
    shown(log, state, "r1", "ann", "candidate", 0)
    act(log, 1, "ann", 25, request="r1")
    assert canary_evidence.look(state, rows, DAY, START + timedelta(hours=48)).candidate.clicks == 0
    act(log, 2, "ann", 1, request="r1")
    early = canary_evidence.look(state, rows, DAY, START + timedelta(hours=2)).candidate
    assert (early.requests, early.settled, early.clicks) == (1, 0, 0)


def test_a_replay_is_settled_by_when_it_was_answered(log: EventLog, rows: CanaryLog, state: CanaryState) -> None:
    """It speaks of last year, but what it leads to is only being sent."""
    shown(log, state, "r1", "ann", "candidate", 0, answered=48)
    act(log, 1, "ann", 1, request="r1")
    early = canary_evidence.look(state, rows, DAY, START + timedelta(hours=50)).candidate
    assert (early.settled, early.clicks) == (0, 0)
    late = canary_evidence.look(state, rows, DAY, START + timedelta(hours=73)).candidate
    assert (late.settled, late.clicks) == (1, 1)


def test_errors_need_not_wait_for_clicks(log: EventLog, rows: CanaryLog, state: CanaryState) -> None:
    for number in range(250):
        shown(log, state, f"r{number}", f"u{number}", "candidate", 0, error=True)
        shown(log, state, f"s{number}", f"v{number}", "champion", 0)
    look = canary_evidence.look(state, rows, DAY, START + timedelta(minutes=30))
    assert (look.action, look.candidate.settled) == ("roll_back", 0)
    assert look.reasons[0].startswith("errors +1.0000")


def test_hours_of_a_step_are_of_settled_shoppers(log: EventLog, rows: CanaryLog, state: CanaryState) -> None:
    """A click rate over a day that has only begun to settle would be of its first hours alone."""
    look = canary_evidence.look(state, rows, DAY, state.since + timedelta(hours=168 + 23))
    assert not look.overdue
    assert canary_evidence.look(state, rows, DAY, state.since + timedelta(hours=168 + 24)).overdue


def test_an_empty_log_says_nothing(rows: CanaryLog, state: CanaryState) -> None:
    look = canary_evidence.look(state, rows, DAY, START + timedelta(hours=1))
    assert (look.action, look.candidate.requests, look.candidate.latency_ms) == ("wait", 0, None)


@pytest.mark.postgres
def test_postgresql_says_the_same(postgres_url: str, state: CanaryState) -> None:
    log, rows = EventLog(postgres_url), CanaryLog(postgres_url)
    log.create()
    shown(log, state, "r1", "ann", "candidate", 0, error=True)
    shown(log, state, "r2", "ann", "candidate", 1)
    shown(log, state, "r3", "bob", "champion", 1)
    act(log, 1, "ann", 2, request="r1")
    act(log, 2, "bob", 3, "purchase")
    comparison = {"request_id": "r9", "canary_id": state.canary_id, "shopper": "ann", "answered_at": START, "error": False}
    for _ in range(2):  # a known request is left as it is
        rows.append_shadows([comparison | {"overlap": 0.5, "rank_correlation": None, "candidate_ms": 1.0, "champion_ms": 1.0}])
    look = canary_evidence.look(state, rows, DAY, START + timedelta(hours=48))
    assert (look.candidate.clicks, look.candidate.errors, look.candidate.settled) == (1, 1, 2)
    assert (look.champion.clicks, look.champion.purchases) == (1, 1)
    assert len(rows.shadows(state.canary_id)) == 1
    assert rows.arm_of("r1") is not None
    log.close()
    rows.close()
