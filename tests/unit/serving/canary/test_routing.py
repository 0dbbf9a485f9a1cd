"""Who gets the candidate of a canary, what happens when it fails, and that nothing unearned answers anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.unit.serving.canary.conftest import AT, REVERSED, Begin
from tests.unit.serving.conftest import CountingModel, event
from tests.unit.serving.test_service import ask, ids, metric

from endcap.data.canary_log import CanaryLog
from endcap.release import canary_rollout
from endcap.release.canary import share_of
from endcap.release.canary_state import CanaryState, Look
from endcap.release.records import CANARY, GATE, canary_record, to_tag
from endcap.release.signing import Keys
from endcap.sections import Canary
from endcap.serving.candidate_store import BLIND_SECONDS
from endcap.serving.service import Service

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from tests.fixtures.canary_shelf import CanaryShelf


def move_on(service: Service, shelf: CanaryShelf, state: CanaryState) -> CanaryState:
    seen = Look(at=AT, step=state.step, action="advance", share=0.0, reasons=("a test",))
    state = canary_rollout.take(shelf, shelf.keys, state, seen)
    service.candidates.check()
    return state


def test_a_shopper_gets_the_candidate_by_their_hash_and_keeps_it_as_the_share_grows(
    client: TestClient, service: Service, shelf: CanaryShelf, canary: Canary, rows: CanaryLog, begin: Begin
) -> None:
    state = begin(canary)
    shoppers = [f"u{number}" for number in range(200)]
    with_candidate: list[set[str]] = []
    for step in range(4):
        answers = {user: ask(client, user_id=user) for user in shoppers}
        with_candidate.append({user for user, answer in answers.items() if answer["model_version"] == "2"})
        for answer in answers.values():
            assert answer["arm"] == ("candidate" if answer["model_version"] == "2" else "champion")
            assert ids(answer)[0] == ("fork" if answer["model_version"] == "2" else "mug")
        if step < 3:
            log = rows.requests(state.canary_id, step)
            expected = [share_of(shopper, state.canary_id) < canary.steps[step].share for shopper in log["shopper"]]
            assert (log["arm"] == "candidate").tolist() == expected
            assert len(log) == 200
            assert not log["error"].any()
            state = move_on(service, shelf, state)
    for fewer, more in pairwise(with_candidate):
        assert fewer <= more
    for some, share in zip(with_candidate, (0.01, 0.1, 0.5), strict=False):
        assert abs(len(some) - 200 * share) <= 4 * np.sqrt(200 * share * (1 - share)) + 1
    assert with_candidate[3] == set(shoppers)
    assert state.status == "passed"


def test_requests_without_a_shopper_are_shared_by_request(
    client: TestClient, canary: Canary, rows: CanaryLog, begin: Begin
) -> None:
    half = canary.model_copy(update={"steps": canary.steps[2:]})
    state = begin(half)
    answers = [ask(client) for _ in range(200)]
    mine = sum(answer["arm"] == "candidate" for answer in answers)
    assert abs(mine - 100) <= 4 * np.sqrt(50)
    log = rows.requests(state.canary_id, 0)
    assert set(log["shopper"]) == {answer["request_id"] for answer in answers}
    assert rows.arm_of(answers[0]["request_id"])["arm"] == answers[0]["arm"]  # type: ignore[index]


def test_arms_are_counted_and_named(client: TestClient, canary: Canary, begin: Begin) -> None:
    half = canary.model_copy(update={"steps": canary.steps[2:]})
    state = begin(half)
    for number in range(40):
        ask(client, user_id=f"u{number}")
    told = [
        metric(client, f'endcap_canary_requests_total{{arm="{arm}",outcome="answered"}}') for arm in ("candidate", "champion")
    ]
    assert sum(told) == 40
    assert min(told) > 0
    assert metric(client, "endcap_canary_share") == 0.5
    assert metric(client, f'endcap_canary_info{{canary="{state.canary_id}",model_version="2",step="0"}}') == 1
    assert "model 2 answers 50 % of shoppers" in client.get("/readyz").json()["canary"]


def everybody(canary: Canary) -> Canary:
    """One step at nearly the whole shop, so that a test's shopper surely sits with the candidate."""
    return canary.model_copy(update={"steps": (canary.steps[2].model_copy(update={"share": 1 - 1e-9}),)})


def test_a_failing_candidate_never_hurts_a_shopper_and_is_counted(
    client: TestClient, service: Service, canary: Canary, rows: CanaryLog, log: Any, begin: Begin
) -> None:
    state = begin(everybody(canary))

    def broken(*_: object) -> None:
        raise RuntimeError("no")

    service.candidates.current.recommender.model.score = broken  # type: ignore[union-attr, method-assign, assignment]
    answer = ask(client, user_id="u1")
    assert ids(answer) == ["mug", "plate", "bowl"]  # the champion's
    assert (answer["model_version"], answer["arm"]) == ("1", "candidate")
    assert (answer["fallback"], answer["fallback_reason"]) == (True, "candidate_failed")
    (row,) = rows.requests(state.canary_id, 0).to_dict("records")
    assert (row["arm"], bool(row["error"]), bool(row["fallback"])) == ("candidate", True, True)
    assert {shown["model_version"] for shown in log.request(answer["request_id"])} == {"1"}
    assert metric(client, 'endcap_canary_requests_total{arm="candidate",outcome="error"}') == 1
    assert metric(client, 'endcap_fallbacks_total{reason="candidate_failed"}') == 1


def test_a_candidate_with_nothing_to_show_leaves_the_shelf_to_the_champion(
    client: TestClient, service: Service, canary: Canary, begin: Begin
) -> None:
    begin(everybody(canary))
    service.candidates.current.recommender.retrieve = lambda request: np.zeros(0, np.int64)  # type: ignore[union-attr, method-assign]
    answer = ask(client, user_id="u1")
    assert (answer["model_version"], answer["fallback_reason"]) == ("1", "candidate_empty")
    empty = ask(client, user_id="u1", filters={"categories": ["hats"]})  # nothing at all may be shown: no fault of its own
    assert (empty["items"], empty["fallback"], empty["model_version"]) == ([], False, "2")


def _no_gate(version: Any, keys: Keys) -> dict[str, str]:
    return {name: text for name, text in version.tags.items() if name != GATE}


def _no_record(version: Any, keys: Keys) -> dict[str, str]:
    return {name: text for name, text in version.tags.items() if name != CANARY}


def _altered(version: Any, keys: Keys) -> dict[str, str]:
    record = json.loads(version.tags[CANARY])
    record["state"]["share"] = 1.0
    return {**version.tags, CANARY: json.dumps(record)}


def _nobody(version: Any, keys: Keys) -> dict[str, str]:
    record = json.loads(version.tags[CANARY])
    fresh = keys.sign(canary_record(version, record["gate"], "", record["state"]))
    return {**version.tags, CANARY: to_tag(fresh)}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(_no_gate, "there is none"), (_no_record, "there is none"), (_altered, "altered"), (_nobody, "names nobody")],
)
def test_an_unearned_candidate_answers_nobody(
    client: TestClient, service: Service, shelf: CanaryShelf, canary: Canary, spoil: Any, said: str, begin: Begin
) -> None:
    begin(everybody(canary))
    assert ask(client, user_id="u1")["model_version"] == "2"
    shelf.found["2"] = replace(shelf.found["2"], tags=spoil(shelf.found["2"], shelf.keys))
    service.candidates.check()
    service.candidates.check()
    answer = ask(client, user_id="u1")
    assert (answer["model_version"], answer["arm"]) == ("1", None)
    refused = client.get("/v1/canary").json()["refused"]
    assert refused["model_version"] == "2"
    assert said in refused["reason"]
    assert metric(client, 'endcap_canary_refused_total{cause="record"}') == 1  # once, however often it is looked at
    assert any("canary of model 2 refused" in line for line in client.get("/readyz").json()["degraded"])


def test_files_that_are_not_those_signed_answer_nobody(
    client: TestClient, service: Service, shelf: CanaryShelf, canary: Canary
) -> None:
    shelf.publish(1)
    shelf.candidate(2, REVERSED)
    (shelf.root / "2" / "config.json").write_text('{"items": ["mug"], "base": [99]}')
    canary_rollout.start(shelf, shelf.keys, everybody(canary), "2", "ada", AT)
    service.models.check()
    service.candidates.check()
    assert ask(client, user_id="u1")["model_version"] == "1"
    assert "not the one that was registered" in client.get("/v1/canary").json()["refused"]["reason"]


def test_an_alias_that_somebody_moved_by_hand_answers_nobody(client: TestClient, service: Service, shelf: CanaryShelf) -> None:
    shelf.publish(1)
    shelf.candidate(2, REVERSED)
    shelf.set_canary("2")
    service.models.check()
    service.candidates.check()
    assert ask(client, user_id="u1")["model_version"] == "1"
    assert "there is none" in client.get("/v1/canary").json()["refused"]["reason"]


def test_a_roll_back_drops_the_candidate_and_says_why(
    client: TestClient, service: Service, shelf: CanaryShelf, canary: Canary, begin: Begin
) -> None:
    state = begin(everybody(canary))
    look = Look(at=AT, step=0, action="roll_back", share=0.0, reasons=("clicks -40%: surely beyond the bar",))
    canary_rollout.take(shelf, shelf.keys, state, look)
    assert shelf.pointers["canary"] is None
    service.candidates.check()
    answer = ask(client, user_id="u1")
    assert (answer["model_version"], answer["arm"]) == ("1", None)
    shown = client.get("/v1/canary").json()
    assert (shown["open"], shown["status"], shown["reasons"]) == (False, "rolled_back", ["clicks -40%: surely beyond the bar"])
    assert metric(client, "endcap_canary_share") == 0
    assert client.get("/readyz").json()["canary"] is None


def test_a_record_that_is_over_counts_even_where_the_alias_is_still_there(
    client: TestClient, service: Service, shelf: CanaryShelf, canary: Canary, begin: Begin
) -> None:
    """What a kill between the two leaves."""
    state = begin(everybody(canary))
    look = Look(at=AT, step=0, action="roll_back", share=0.0, reasons=("broken",))
    canary_rollout.take(shelf, shelf.keys, state, look)
    shelf.pointers["canary"] = "2"
    service.candidates.check()
    assert ask(client, user_id="u1")["model_version"] == "1"


def test_another_champion_pauses_the_canary(
    client: TestClient, service: Service, shelf: CanaryShelf, canary: Canary, begin: Begin
) -> None:
    begin(everybody(canary))
    shelf.publish(3)
    service.models.check()
    answer = ask(client, user_id="u1")
    assert (answer["model_version"], answer["arm"]) == ("3", None)
    assert any("canary pauses" in line for line in client.get("/readyz").json()["degraded"])


def test_without_the_registry_for_long_nobody_could_roll_it_back_so_it_is_dropped(
    service: Service, shelf: CanaryShelf, canary: Canary, begin: Begin
) -> None:
    begin(everybody(canary))
    shelf.away = True
    service.candidates.check()
    assert service.candidates.current is not None  # a short while changes nothing
    service.candidates._heard -= BLIND_SECONDS + 1
    service.candidates.check()
    assert service.candidates.current is None
    shelf.away = False
    service.candidates.check()
    assert service.candidates.current is not None


def test_a_candidate_is_not_loaded_again_at_every_look(
    service: Service, shelf: CanaryShelf, canary: Canary, monkeypatch: pytest.MonkeyPatch, begin: Begin
) -> None:
    state = begin(canary)
    kept = service.candidates.current
    monkeypatch.setattr(CountingModel, "load", None)
    move_on(service, shelf, state)
    current = service.candidates.current
    assert current is not None
    assert kept is not None
    assert current.recommender is kept.recommender
    assert current.state.share == 0.1


def test_the_candidate_keeps_to_the_history_and_the_log(client: TestClient, canary: Canary, log: Any, begin: Begin) -> None:
    begin(everybody(canary))
    client.post("/v1/events", json=[event(1, "bowl")])
    answer = ask(client, user_id="u1")
    assert ids(answer)[0] == "bowl"
    assert {row["model_version"] for row in log.request(answer["request_id"])} == {"2"}


def test_a_candidate_that_does_not_load_is_not_tried_at_every_look(
    client: TestClient, service: Service, shelf: CanaryShelf, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def broken(directory: Any) -> None:
        tried.append(directory)
        raise ValueError("made by another version")

    shelf.publish(1)
    service.models.check()
    shelf.candidate(2, REVERSED)
    canary_rollout.start(shelf, shelf.keys, everybody(canary), "2", "ada", AT)
    monkeypatch.setattr(service.candidates, "_load", broken)
    for _ in range(3):
        service.candidates.check()
    assert len(tried) == 1
    assert "made by another version" in client.get("/v1/canary").json()["refused"]["reason"]
    assert ask(client, user_id="u1")["model_version"] == "1"
    service.candidates._tried = None  # after RETRY_SECONDS
    service.candidates.check()
    assert len(tried) == 2
