"""The shadow compares, is never shown or logged as shown, and never makes a shopper wait."""

from __future__ import annotations

import doctest
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.serving.canary.conftest import AT, Begin
from tests.unit.serving.conftest import event
from tests.unit.serving.test_service import ask, ids, metric

from endcap.config import Params
from endcap.data.canary_log import CanaryLog
from endcap.data.events import EventLog
from endcap.errors import ServiceUnavailable
from endcap.release import canary_evidence, canary_rollout
from endcap.release.canary_state import SHADOW, CanaryState
from endcap.sections import Canary, Shadow
from endcap.serving import shadow
from endcap.serving.service import Service

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from tests.fixtures.canary_shelf import CanaryShelf


@pytest.fixture
def canary(params: Params) -> Canary:
    assert params.canary is not None
    return params.canary.model_copy(update={"shadow": Shadow(share=1.0, min_requests=30, min_hours=0)})


def test_the_examples_hold() -> None:
    assert doctest.testmod(shadow) == doctest.TestResults(failed=0, attempted=2)


def test_slates_without_common_items_have_no_order() -> None:
    assert shadow.overlap(["a"], ["b"]) == 0
    assert shadow.overlap([], ["b"]) is None
    assert shadow.rank_correlation(["a", "b"], ["b", "c"]) is None
    assert shadow.rank_correlation(["a", "b", "c"], ["c", "b", "a"]) == -1


def test_it_answers_beside_the_champion_and_nobody_sees_it(
    client: TestClient,
    service: Service,
    canary: Canary,
    rows: CanaryLog,
    log: EventLog,
    begin: Begin,
) -> None:
    state = begin(canary)
    client.post("/v1/events", json=[event(1, "bowl")])
    answers = [ask(client, user_id="u1", k=5) for _ in range(20)]
    service.shadow.stop()  # what was compared is stored
    assert {answer["model_version"] for answer in answers} == {"1"}
    assert {answer["arm"] for answer in answers} == {None}
    for answer in answers:
        assert ids(answer) == ["bowl", "mug", "plate", "spoon", "fork"]
        assert {row["model_version"] for row in log.request(answer["request_id"])} == {"1"}
    found = rows.shadows(state.canary_id)
    assert 1 <= len(found) <= 20
    assert set(found["overlap"]) == {1.0}
    assert found["rank_correlation"].unique() == pytest.approx([(4 - 6) / 10])  # bowl first in both, the rest in reverse
    assert not found["error"].any()
    assert len(rows.requests(state.canary_id, SHADOW)) == 0
    assert metric(client, 'endcap_shadow_requests_total{outcome="compared"}') == len(found)


def test_a_full_queue_drops_and_counts_and_no_answer_waits(
    client: TestClient,
    service: Service,
    canary: Canary,
    begin: Begin,
) -> None:
    begin(canary)
    stuck, entered = threading.Event(), threading.Event()

    def slow(request: Any) -> list[Any]:
        entered.set()
        stuck.wait(60)
        return []

    service.candidates.current.recommender.recommend = slow  # type: ignore[union-attr, method-assign]
    ask(client, user_id="u1")
    assert entered.wait(30)
    for _ in range(shadow.QUEUE + 5):  # the candidate is stuck all the while
        assert ids(ask(client, user_id="u1"))[0] == "mug"
    assert metric(client, 'endcap_shadow_requests_total{outcome="dropped"}') == 5
    stuck.set()


def test_a_candidate_that_fails_in_the_shadow_is_an_error_and_rolled_back(
    client: TestClient,
    service: Service,
    shelf: CanaryShelf,
    canary: Canary,
    rows: CanaryLog,
    begin: Begin,
) -> None:
    state = begin(canary)

    def broken(request: Any) -> None:
        raise RuntimeError("no")

    service.candidates.current.recommender.recommend = broken  # type: ignore[union-attr, method-assign, assignment]
    compared = threading.Event()
    write = service.shadow._write

    def counted(found: Any) -> None:
        write(found)
        if metric(client, 'endcap_shadow_requests_total{outcome="failed"}') >= 150:
            compared.set()

    service.shadow._write = counted
    number = 0
    while not compared.is_set():
        assert not ask(client, user_id=f"u{number}")["fallback"]
        number += 1
    service.shadow.stop()
    look = canary_evidence.look(state, rows, timedelta(hours=1), AT)
    assert (look.action, look.share) == ("roll_back", 0.0)
    assert look.reasons[0].startswith("errors +1.0000")
    assert canary_rollout.take(shelf, shelf.keys, state, look).status == "rolled_back"


def compared(rows: CanaryLog, state: CanaryState, count: int) -> None:
    fields = {"canary_id": state.canary_id, "answered_at": AT, "overlap": 0.5, "rank_correlation": None}
    times = {"candidate_ms": 2.0, "champion_ms": 1.0, "error": False}
    rows.append_shadows([{"request_id": f"r{n}", "shopper": f"u{n}", **fields, **times} for n in range(count)])


def test_after_the_shadow_the_first_step_begins(
    shelf: CanaryShelf,
    canary: Canary,
    rows: CanaryLog,
    begin: Begin,
) -> None:
    state = begin(canary)
    compared(rows, state, 29)
    early = canary_evidence.look(state, rows, timedelta(hours=1), AT)
    assert (early.action, early.reasons[0]) == ("wait", "29 requests compared, 30 are wanted")
    state = canary_rollout.take(shelf, shelf.keys, state, early)
    compared(rows, state, 200)
    look = canary_evidence.look(state, rows, timedelta(hours=1), AT)
    assert look.shadow is not None
    assert (look.shadow.compared, look.shadow.overlap, look.shadow.rank_correlation) == (200, 0.5, None)
    state = canary_rollout.take(shelf, shelf.keys, state, look)
    assert (state.step, state.share, state.shadow_share) == (0, 0.01, 0.0)


def test_shadow_only_stays_there(
    canary: Canary,
    rows: CanaryLog,
    begin: Begin,
) -> None:
    state = begin(canary, shadow_only=True)
    compared(rows, state, 200)
    look = canary_evidence.look(state, rows, timedelta(hours=1), AT)
    assert (look.action, look.reasons[0]) == ("wait", "it stays in the shadow until somebody stops it")


def test_comparisons_that_cannot_be_stored_are_counted_and_the_next_ones_are(
    client: TestClient,
    service: Service,
    canary: Canary,
    begin: Begin,
) -> None:
    begin(canary)
    tried, stored = threading.Event(), threading.Event()

    def away(found: Any) -> None:
        tried.set()
        raise ServiceUnavailable("no")

    service.shadow._write = away
    ask(client)
    assert tried.wait(30)
    service.shadow._write = lambda found: stored.set()
    ask(client)
    assert stored.wait(30)
    assert metric(client, 'endcap_shadow_requests_total{outcome="lost"}') == 1
