"""The HTTP contract over a real event log: what is answered, what is stored, what is said when a part is away."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.serving.conftest import ITEMS, CountingModel, Shelf, catalogue, event, in_threads

from endcap.config import Settings
from endcap.data.events import EventLog
from endcap.errors import ServiceUnavailable
from endcap.serving.service import Service

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/recommendations", json={"k": 3, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def metric(client: TestClient, line: str) -> float:
    found = [text for text in client.get("/metrics").text.splitlines() if text.startswith(line)]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


@pytest.fixture
def served(client: TestClient, service: Service, shelf: Shelf) -> TestClient:
    """A client of a service that serves model 1."""
    shelf.publish(1)
    service.models.check()
    return client


def test_a_slate_is_answered_and_logged_as_an_exposure(served: TestClient, log: EventLog) -> None:
    answer = ask(served, user_id="u1", surface="email", context={"time": "2026-01-15T12:00:00+00:00"})
    assert ids(answer) == ["mug", "plate", "bowl"]
    assert (answer["model_version"], answer["policy"], answer["fallback"]) == ("1", "greedy", False)
    rows = log.request(answer["request_id"])
    assert [(row["item_id"], row["rank"], row["propensity"]) for row in rows] == [
        ("mug", 1, 1),
        ("plate", 2, 1),
        ("bowl", 3, 1),
    ]
    row = rows[0]
    assert (row["model_version"], row["policy"], row["surface"], row["fallback"]) == ("1", "greedy", "email", False)
    assert row["time"] == datetime(2026, 1, 15, 12, tzinfo=UTC)
    assert row["user_id"] not in (None, "u1")
    assert metric(served, 'endcap_recommendations_total{fallback="false",model_version="1"') == 1


def test_what_a_shopper_did_counts_at_once_and_only_once(served: TestClient) -> None:
    assert ids(ask(served, user_id="u1"))[0] == "mug"
    assert served.post("/v1/events", json=[event(1, "fork")]).json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert served.post("/v1/events", json=[event(1, "fork")]).json() == {"accepted": 0, "duplicates": 1, "rejected": []}
    answer = ask(served, user_id="u1")
    assert ids(answer)[0] == "fork"
    assert answer["items"][0]["score"] == 11.0  # base 1, bought once
    assert ids(ask(served, user_id="u2"))[0] == "mug"


def test_the_session_counts_before_it_is_stored(served: TestClient) -> None:
    session = [{"item_id": "spoon", "type": "view"}, {"item_id": "mug", "type": "dismiss"}]
    assert ids(ask(served, session=session)) == ["spoon", "plate", "bowl"]


@pytest.mark.parametrize("moment", ["1995-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_old_replays_and_odd_session_times_are_answered(served: TestClient, moment: str) -> None:
    session = [{"item_id": "fork", "type": "view", "time": moment}]
    assert ask(served, session=session, explain=True)["items"]
    assert ask(served, context={"time": "1995-01-01T00:00:00Z"})["items"]


def test_a_replay_knows_nothing_of_its_future(served: TestClient) -> None:
    served.post("/v1/events", json=[event(1, "fork", time="2026-01-10T10:00:00Z")])
    assert ids(ask(served, user_id="u1", context={"time": "2026-01-10T09:59:59Z"}))[0] == "mug"
    assert ids(ask(served, user_id="u1", context={"time": "2026-01-10T10:00:00Z"}))[0] == "fork"


def test_a_replay_knows_its_past_however_much_came_later(served: TestClient, service: Service) -> None:
    service._answers._params = service._answers._params.model_copy(update={"max_history": 2})
    served.post("/v1/events", json=[event(1, "fork", time="2026-01-10T10:00:00Z")])
    served.post("/v1/events", json=[event(number, "mug", time="2026-01-11T10:00:00Z") for number in range(2, 6)])
    assert ids(ask(served, user_id="u1", context={"time": "2026-01-10T12:00:00Z"}))[0] == "fork"


def test_a_returned_purchase_counts_as_never_made(served: TestClient) -> None:
    served.post("/v1/events", json=[event(1, "fork", quantity=3), event(2, "fork", quantity=-3, time="2026-01-11T10:00:00Z")])
    assert ids(ask(served, user_id="u1"))[0] == "mug"
    assert ids(ask(served, user_id="u1", context={"time": "2026-01-10T12:00:00Z"}))[0] == "fork"  # not yet returned then


def test_a_surface_that_does_not_repeat_hides_purchases(served: TestClient) -> None:
    served.post("/v1/events", json=[event(1, "mug")])
    assert "mug" in ids(ask(served, user_id="u1", surface="home"))
    assert "mug" not in ids(ask(served, user_id="u1", surface="product"))


def test_filters_and_reasons(served: TestClient) -> None:
    answer = ask(served, filters={"categories": ["cutlery"], "price_max": 45}, explain=True)
    assert ids(answer) == ["spoon"]
    assert answer["items"][0]["reasons"][0]["text"]


def test_related_items_leave_out_the_item(served: TestClient) -> None:
    answer = served.get("/v1/items/mug/related?k=2").json()
    assert ids(answer) == ["plate", "bowl"]
    missing = served.get("/v1/items/unicorn/related")
    assert missing.status_code == 404
    assert missing.json()["value"] == "'unicorn'"


def test_an_item_id_may_hold_anything(client: TestClient) -> None:
    assert client.get("/v1/items/a%2Fb%20c%20%C5%BE/related").json()["value"] == "'a/b c ž'"


def test_without_a_model_the_answer_is_what_sold_most_and_says_so(client: TestClient, log: EventLog) -> None:
    log.upsert_catalog(catalogue())
    client.post("/v1/events", json=[event(1, "fork"), event(2, "fork"), event(3, "bowl"), event(4, "not-listed")])
    answer = ask(client, context={"time": "2026-01-15T12:00:00Z"})
    assert ids(answer) == ["fork", "bowl"]
    assert (answer["fallback"], answer["fallback_reason"], answer["model_version"]) == (True, "no_model", None)
    row = log.request(answer["request_id"])[0]
    assert (row["fallback"], row["model_version"], row["policy"]) == (True, "none", "fallback-popularity")
    assert metric(client, 'endcap_fallbacks_total{reason="no_model"}') == 1


def test_an_empty_shop_is_answered_with_an_empty_slate(client: TestClient) -> None:
    answer = ask(client)
    assert (answer["items"], answer["fallback"]) == ([], True)


def test_a_model_that_breaks_on_a_shopper_falls_back(served: TestClient, service: Service, log: EventLog) -> None:
    log.upsert_catalog(catalogue())
    served.post("/v1/events", json=[event(1, "fork")])

    def broken(*_: object) -> None:
        raise RuntimeError("no")

    service.models.current.recommender.model.score = broken  # type: ignore[union-attr, method-assign, assignment]
    answer = ask(served, user_id="u1")
    assert (ids(answer), answer["fallback_reason"], answer["model_version"]) == (["fork"], "model_failed", None)


def break_log(log_file: Path) -> None:
    """What a lost disk looks like: every statement fails."""
    for path in log_file.parent.glob("events.db*"):
        path.unlink()
    log_file.mkdir()


def test_while_the_event_log_is_away_events_are_refused_and_slates_marked(
    served: TestClient, service: Service, settings: Settings
) -> None:
    service._event_log.close()
    break_log(settings.home / "events.db")
    refused = served.post("/v1/events", json=[event(1)])
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert "event log" in refused.json()["detail"]
    answer = ask(served, user_id="u1")
    assert ids(answer) == ["mug", "plate", "bowl"]
    assert (answer["fallback"], answer["fallback_reason"]) == (True, "event_log_away")
    assert metric(served, 'endcap_exposures_total{outcome="lost"}') == 3
    assert metric(served, "endcap_event_log_up") == 0
    assert served.get("/readyz").status_code == 503
    assert served.get("/healthz").status_code == 200
    (settings.home / "events.db").rmdir()  # the disk is back
    service._watch._retry_at = 0
    assert served.post("/v1/events", json=[event(1)]).json()["accepted"] == 1
    assert not ask(served, user_id="u1")["fallback"]


def test_exposures_that_cannot_be_written_mark_the_answer(served: TestClient, service: Service) -> None:
    def full(rows: object, arms: object) -> None:
        raise ServiceUnavailable("database or disk is full")

    service._exposures._append = full
    assert ask(served)["fallback_reason"] == "event_log_away"


def test_exposures_that_take_too_long_mark_the_answer_and_are_written_later(
    served: TestClient, service: Service, log: EventLog
) -> None:
    go_on, append = threading.Event(), service._exposures._append

    def slow(rows: Any, arms: Any) -> None:
        go_on.wait(30)
        append(rows, arms)

    service._exposures._append, service._exposures.patience_seconds = slow, 0.05
    answer = ask(served)
    assert (answer["fallback"], answer["fallback_reason"]) == (True, "exposures_late")
    go_on.set()
    service._exposures.close()
    assert len(log.request(answer["request_id"])) == 3


def test_a_new_champion_never_fails_or_mixes_an_answer(
    client: TestClient, service: Service, shelf: Shelf, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model n puts item n first: an answer whose version and first item disagree saw two models.

    Scoring takes a while, so that every swap happens amid requests.
    """
    score = CountingModel.score

    def slow_score(*arguments: Any) -> Any:
        scores = score(*arguments)
        time.sleep(0.02)
        return scores

    monkeypatch.setattr(CountingModel, "score", slow_score)
    bases = [[9.0 if place == number else float(-place) for place in range(5)] for number in range(5)]
    shelf.publish(1, bases[1])
    service.models.check()
    answers: list[dict[str, Any]] = []
    stop = threading.Event()

    def shop() -> None:
        while not stop.is_set():
            answers.append(ask(client, k=1))

    threads = in_threads(shop, 4)
    for number in (2, 3, 4):
        seen = len(answers)
        while len(answers) < seen + 20:
            stop.wait(0.01)
        shelf.publish(number, bases[number])
        service.models.check()
    seen = len(answers)
    while len(answers) < seen + 20:
        stop.wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert not any(answer["fallback"] for answer in answers)
    assert {answer["model_version"] for answer in answers} == {"1", "2", "3", "4"}
    for answer in answers:
        assert ids(answer) == [ITEMS[int(answer["model_version"])]]
        (row,) = log.request(answer["request_id"])
        assert (row["item_id"], row["model_version"]) == (ids(answer)[0], answer["model_version"])


def test_events_sent_at_the_same_time_are_stored_once(client: TestClient, log: EventLog) -> None:
    totals = []

    def send() -> None:
        answer = client.post("/v1/events", json=[event(number) for number in range(50)]).json()
        totals.append((answer["accepted"], answer["duplicates"]))

    for thread in in_threads(send, 4):
        thread.join()
    assert sum(accepted for accepted, _ in totals) == 50
    assert sum(duplicates for _, duplicates in totals) == 150


@pytest.mark.parametrize(
    ("body", "status", "field", "said"),
    [
        ({"k": 101}, 422, "k", "at most 100"),
        ({"k": 0}, 422, "k", "/docs"),
        ({"surfce": "home"}, 422, "surfce", "Did you mean `surface`?"),
        ({"surface": "window"}, 422, "surface", "/docs"),
        ({"filters": {"price_max": "cheap"}}, 422, "filters.price_max", "/docs"),
        ({"session": [{"item_id": "mug"}] * 201}, 422, "session", "/docs"),
        ({"context": {"time": "2026-01-15"}}, 422, "context.time", "/docs"),
        ({"context": {"time": "0001-01-01T00:00:00Z"}}, 422, "context.time", "from 1995 on"),
        ({"context": {"time": "0001-01-01T00:00:00+14:00"}}, 422, "context.time", "from 1995 on"),
        ({"context": {"time": "9999-12-31T23:59:59Z"}}, 422, "context.time", "minutes ahead"),
        ({"context": {"time": "9999-12-31T23:59:59-14:00"}}, 422, "context.time", "minutes ahead"),
    ],
)
def test_a_bad_request_is_told_what_to_do(client: TestClient, body: object, status: int, field: str, said: str) -> None:
    response = client.post("/v1/recommendations", json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert (found["field"], found["status"]) == (field, status)
    assert said in found["action"]
    assert "value" in found


@pytest.mark.parametrize("text", ['{"k": ', '{"filters": {"price_max": NaN}}', "[]", '"x"', '{"diversity": Infinity}'])
def test_malformed_requests_are_problems_not_failures(client: TestClient, text: str) -> None:
    response = client.post("/v1/recommendations", content=text, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.json()["field"]


def test_a_huge_line_is_refused_before_it_is_read_whole(client: TestClient) -> None:
    def endless() -> Any:
        for _ in range(100):
            yield b"x" * 100_000

    assert client.post("/v1/events", content=b"x" * 5_000_001).status_code == 413
    streamed = client.post("/v1/events", content=endless(), headers={"content-type": "application/x-ndjson"})
    assert streamed.status_code == 413
    assert streamed.json()["action"]
    assert metric(client, 'endcap_requests_total{method="POST",route="/v1/events",status="413"}') == 2


def test_a_failure_inside_shows_no_trace(client: TestClient, service: Service) -> None:
    service.models.state = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    response = client.get("/v1/model")
    assert response.status_code == 500
    assert response.json()["title"] == "Internal Server Error"
    assert "ZeroDivision" not in response.text


def test_every_metric_has_a_row_in_the_docs(client: TestClient, service: Service) -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `endcap_")}
    assert documented == service.metrics.names()


def test_the_api_page_describes_events_and_problems(client: TestClient) -> None:
    page = client.get("/openapi.json").json()
    schemas = page["components"]["schemas"]
    assert {"Event", "Problem", "RecommendationRequest"} <= set(schemas)
    text = json.dumps(page)
    for name in schemas:
        assert f'"#/components/schemas/{name}"' in text, f"{name} is described but never used"
    example = page["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/v1/events", json=example).json()["accepted"] == len(example)
    for example in schemas["RecommendationRequest"]["examples"]:
        assert client.post("/v1/recommendations", json=example).status_code == 200


def test_the_api_page_shows_every_route_and_field_without_a_network(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    text = client.get("/docs").text
    for path in description["paths"]:
        assert f"<code>{path}</code>" in text
    for field in ("filters.price_max", "session[].item_id", "[].event_id", "items[].reasons[].text", "rejected[].index"):
        assert f"<code>{field}</code>" in text
    assert "src=" not in text
    assert "Problems: 400" in text


def test_the_front_page_shows_what_serves_and_what_was_refused(served: TestClient, service: Service, shelf: Shelf) -> None:
    assert "all well" in served.get("/").text
    shelf.retag(shelf.publish(2), {"gate_record": "<script>"})
    service.models.check()
    text = served.get("/").text
    assert "degraded" in text
    assert "model 2" in text
    assert "<script>" not in text
