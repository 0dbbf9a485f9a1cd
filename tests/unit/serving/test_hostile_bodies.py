"""Bodies that no front end sends by mistake alone: each is told apart and refused, none costs memory or shows a trace."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.serving.conftest import event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi.testclient import TestClient

JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
PLACES = ("/v1/recommendations", "/v1/events")
DEPTHS = (100, 500, 900, 990, 1000, 1100, 5000, 100_000)


def nested(depth: int, kind: str) -> bytes:
    opened, closed = {"array": ("[", "]"), "object": ('{"a":', "}")}[kind]
    return (opened * depth + "1" + closed * depth).encode()


def answered(client: TestClient, path: str, body: bytes, headers: dict[str, str] = JSON) -> dict[str, Any]:
    """A problem, whatever it is, that names a field; never a failure of the service."""
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code in (400, 413, 415, 422), (answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["field"]
    assert len(answer.content) < 2000
    return found


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", bytes)])
def test_compressed_bodies_are_refused_before_they_are_unpacked(
    client: TestClient, path: str, encoding: str, pack: Any
) -> None:
    bomb = pack(b"[" + b" " * 100_000 + b"]")
    found = answered(client, path, bomb, {**JSON, "content-encoding": encoding})
    assert (found["status"], found["field"]) == (415, "Content-Encoding")
    assert "uncompressed" in found["action"]


def test_a_body_that_says_it_is_not_compressed_is_taken(client: TestClient) -> None:
    sent = client.post("/v1/events", content=json.dumps([event(1)]), headers={**JSON, "content-encoding": "identity"})
    assert sent.json()["accepted"] == 1


@pytest.mark.parametrize("announced", ["-1", "1e3", "x", "5, 5"])
def test_a_length_that_is_no_number_is_a_bad_request(client: TestClient, announced: str) -> None:
    answer = client.post("/v1/events", content=b"[]", headers={**JSON, "content-length": announced})
    assert (answer.status_code, answer.json()["field"]) == (400, "Content-Length")


def test_a_chunked_body_without_a_length_is_counted(client: TestClient) -> None:
    def chunks(count: int) -> Iterator[bytes]:
        yield b"["
        for _ in range(count):
            yield b" " * 1_000_000
        yield b"]"

    assert client.post("/v1/events", content=chunks(4), headers=JSON).json()["accepted"] == 0
    assert client.post("/v1/events", content=chunks(6), headers=JSON).status_code == 413


@pytest.mark.parametrize("kind", ["array", "object"])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("path", PLACES)
def test_deep_json_is_a_bad_request(client: TestClient, path: str, depth: int, kind: str) -> None:
    body = nested(depth, kind)
    if path == "/v1/events" and kind == "array" and depth <= 1000:  # an array, of which one element is no event
        answer = client.post(path, content=body, headers=JSON)
        assert answer.status_code in (202, 400, 422)
        return
    answered(client, path, body)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["array", "object"])
def test_a_deep_value_in_a_field_is_a_bad_request(client: TestClient, depth: int, kind: str) -> None:
    deep = nested(depth, kind)
    answered(client, "/v1/recommendations", b'{"surfce": ' + deep + b"}")
    answered(client, "/v1/recommendations", b'{"filters": {"categories": ' + deep + b"}}")
    for headers, body in ((JSON, b'[{"item_id": ' + deep + b"}]"), (NDJSON, b'{"item_id": ' + deep + b"}")):
        answer = client.post("/v1/events", content=body, headers=headers)
        assert answer.status_code in (202, 400, 422), answer.text[:300]
        assert len(answer.content) < 2000
        if answer.status_code == 202:
            assert len(answer.json()["rejected"]) == 1


HUGE = ["9" * 400, "9" * 5000, "-" + "9" * 4299, "1e400", "-1e999999", "NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize("number", HUGE)
def test_huge_numbers_in_a_request_are_refused(client: TestClient, number: str) -> None:
    for body in ('{"k": %s}', '{"diversity": -%s}', '{"filters": {"price_min": -1%s}}'):
        answered(client, "/v1/recommendations", (body % number.lstrip("-")).encode())


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("field", ["price", "quantity"])
def test_huge_numbers_in_an_event_reject_it_or_the_call(client: TestClient, field: str, number: str) -> None:
    text = json.dumps(event(1, **{field: 77777})).replace("77777", number)
    for body, headers in ((f"[{text}]", JSON), (text, NDJSON)):
        answer = client.post("/v1/events", content=body.encode(), headers=headers)
        assert answer.status_code in (202, 400, 422), answer.text[:300]
        assert len(answer.content) < 2000
        if answer.status_code == 202:
            assert answer.json()["accepted"] == 0
            assert len(answer.json()["rejected"]) == 1


@pytest.mark.parametrize("body", [b"\x00", b"\xed\xa0\x80", b"", b"null", b"[" * 10, b'{"k": 1}{"k": 2}'])
@pytest.mark.parametrize("path", PLACES)
def test_bytes_that_are_no_json_are_a_bad_request(client: TestClient, path: str, body: bytes) -> None:
    answered(client, path, body)


def test_the_same_key_many_times_is_no_way_around_the_limits(client: TestClient) -> None:
    answered(client, "/v1/recommendations", b'{"k": 1, "k": 5000}')


def test_a_thousand_and_one_events_are_too_many_as_lines_and_as_an_array(client: TestClient) -> None:
    events = [event(number) for number in range(1001)]
    answered(client, "/v1/events", json.dumps(events).encode())
    answered(client, "/v1/events", "\n".join(map(json.dumps, events)).encode(), NDJSON)


@pytest.mark.parametrize("body", [{"k": True}, {"diversity": True}, {"filters": {"price_min": True}}])
def test_true_is_no_number(client: TestClient, body: object) -> None:
    answered(client, "/v1/recommendations", json.dumps(body).encode())
    answer = client.post("/v1/events", json=[event(1, price=True), event(2, quantity=False)])
    assert [rejected["index"] for rejected in answer.json()["rejected"]] == [0, 1]


@pytest.mark.parametrize("item_id", ["%00", "%20", "x" * 200])
def test_an_id_that_can_be_none_is_refused_by_its_name(client: TestClient, item_id: str) -> None:
    answer = client.get(f"/v1/items/{item_id}/related")
    assert (answer.status_code, answer.json()["field"]) == (422, "item_id")


def test_no_answer_ever_shows_a_trace(client: TestClient) -> None:
    app: Any = client.app

    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    async def broken_late() -> Any:
        from starlette.responses import StreamingResponse

        def half() -> Iterator[bytes]:
            yield b"begun"
            raise RuntimeError("the password is hunter2")

        return StreamingResponse(half())

    app.add_api_route("/broken", broken)
    app.add_api_route("/broken-late", broken_late)
    answer = client.get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    late = client.get("/broken-late")
    for text in (answer.text, late.text):
        for word in ("Traceback", "RuntimeError", "hunter2", ".py"):
            assert word not in text
    assert "endcap logs" in answer.json()["action"]
