"""Who may ask the service for what: keys that count, roles, and what is said to everybody else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient
from tests.unit.serving.conftest import CountingModel, Shelf, event

from endcap.config import Params, Settings
from endcap.contracts import Role
from endcap.data.events import EventLog
from endcap.data.privacy import pseudonym_key
from endcap.release.audit import AuditLog
from endcap.release.signing import Keys
from endcap.serving.api_keys import ApiKeys
from endcap.serving.app import create_app
from endcap.serving.key_ring import SNAPSHOT
from endcap.serving.service import Service

if TYPE_CHECKING:
    import httpx

SLATE = ("POST", "/v1/recommendations", {"k": 1})
EVENTS = ("POST", "/v1/events", [event(1)])
RELATED = ("GET", "/v1/items/mug/related", None)
LOOKS = [("GET", path, None) for path in ("/v1/model", "/metrics", "/", "/docs", "/openapi.json")]


@pytest.fixture
def table(settings: Settings) -> Iterator[ApiKeys]:
    """The table as `endcap keys` on another machine reaches it."""
    secret = pseudonym_key(settings.pseudonym_key, settings.paths.secrets)
    table = ApiKeys(settings.event_log_url, secret, AuditLog(settings.event_log_url, Keys.load(settings.paths.secrets)))
    yield table
    table.close()


def make_service(settings: Settings, params: Params, shelf: Shelf, mode: str = "required", **serving: Any) -> Service:
    quiet = params.serving.model_copy(update={"reload_seconds": 3600.0, **serving})
    settings = settings.model_copy(update={"api_keys": mode})
    return Service(settings, params.model_copy(update={"serving": quiet}), shelf, CountingModel.load)


@pytest.fixture
def guarded(settings: Settings, params: Params, shelf: Shelf) -> Iterator[tuple[TestClient, Service]]:
    """A client of a service that demands keys, and serves model 1."""
    service = make_service(settings, params, shelf)
    shelf.publish(1)
    with TestClient(create_app(service=service), raise_server_exceptions=False) as client:
        service.models.check()
        yield client, service


def call(client: TestClient, what: tuple[str, str, Any], key: str | None = None) -> httpx.Response:
    method, path, body = what
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return client.request(method, path, json=body, headers=headers)


def keys_of(table: ApiKeys, service: Service, **days: float) -> dict[str, str]:
    """A key of each role, known to the service."""
    texts = {role.value: table.create(role, f"a {role.value}", "ada")[1] for role in Role}
    service.keys.check()
    return texts


def test_each_role_may_do_its_own_and_nothing_else(guarded: tuple[TestClient, Service], table: ApiKeys) -> None:
    client, service = guarded
    texts = keys_of(table, service)
    for what in (SLATE, EVENTS, RELATED):
        assert call(client, what, texts["shop"]).is_success
        assert call(client, what, texts["operator"]).is_success
        assert call(client, what, texts["reader"]).status_code == 403
    for what in LOOKS:
        assert call(client, what, texts["reader"]).is_success
        assert call(client, what, texts["operator"]).is_success
        assert call(client, what, texts["shop"]).status_code == 403


def test_every_route_is_refused_without_a_key_and_health_is_not(guarded: tuple[TestClient, Service]) -> None:
    client, _ = guarded
    for what in (SLATE, EVENTS, RELATED, *LOOKS, ("GET", "/nowhere", None), ("DELETE", "/v1/model", None)):
        answer = call(client, what)
        assert answer.status_code == 401, what
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "endcap keys create" in answer.json()["action"]
    assert call(client, ("GET", "/healthz", None)).status_code == 200
    assert call(client, ("GET", "/readyz", None)).status_code == 200


def test_a_route_that_nobody_gave_a_role_is_an_operators(
    settings: Settings, params: Params, shelf: Shelf, table: ApiKeys
) -> None:
    service = make_service(settings, params, shelf)
    app = create_app(service=service)
    app.add_api_route("/v1/levers", lambda: {"pulled": True}, methods=["POST"], tags=["operations"])
    app.add_api_route("/hidden", lambda: {"seen": True})
    with TestClient(app) as client:
        texts = keys_of(table, service)
        for what in (("POST", "/v1/levers", None), ("GET", "/hidden", None)):
            assert [call(client, what, texts[role]).status_code for role in ("shop", "reader", "operator")] == [403, 403, 200]


def test_the_wrong_role_is_told_which_is_needed(guarded: tuple[TestClient, Service], table: ApiKeys) -> None:
    client, service = guarded
    found = call(client, SLATE, keys_of(table, service)["reader"]).json()
    assert (found["status"], found["field"], found["value"]) == (403, "role", "'reader'")
    assert "operator or shop" in found["detail"]


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer x", "Basic abc", "bearer endcap_0123456789ab_short", "\u00e9", "endcap_x"]
)
def test_what_is_no_key_is_refused_without_being_repeated(guarded: tuple[TestClient, Service], header: str) -> None:
    client, _ = guarded
    answer = client.get("/v1/model", headers={"Authorization": header.encode()})
    assert answer.status_code == 401
    assert "value" not in answer.json()


def test_an_unknown_key_and_a_wrong_secret_are_told_alike(guarded: tuple[TestClient, Service], table: ApiKeys) -> None:
    client, service = guarded
    text = keys_of(table, service)["reader"]
    wrong = text[:-4] + ("AAAA" if text[-4:] != "AAAA" else "BBBB")
    unknown = f"endcap_{'0' * 12}_{text.rsplit('_', 1)[1]:x>43}"[:63]
    answers = [call(client, LOOKS[0], key) for key in (wrong, unknown)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()


def test_a_revocation_holds_at_the_next_look_in_every_process(
    settings: Settings, params: Params, shelf: Shelf, table: ApiKeys
) -> None:
    services = [make_service(settings, params, shelf) for _ in range(2)]
    key, text = table.create(Role.READER, "grafana", "ada")
    with TestClient(create_app(service=services[0])) as one, TestClient(create_app(service=services[1])) as two:
        assert [call(client, LOOKS[0], text).status_code for client in (one, two)] == [200, 200]
        table.revoke(key.id, "ada")
        for service in services:
            service.keys.check()
        answers = [call(client, LOOKS[0], text) for client in (one, two)]
        assert [answer.status_code for answer in answers] == [401, 401]
        assert "is revoked" in answers[0].json()["detail"]


def test_the_ring_follows_the_table_by_itself(settings: Settings, params: Params, shelf: Shelf, table: ApiKeys) -> None:
    import time

    with TestClient(create_app(service=make_service(settings, params, shelf, reload_seconds=0.05))) as client:
        _, text = table.create(Role.READER, "grafana", "ada")
        end = time.monotonic() + 30
        while call(client, LOOKS[0], text).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_two_keys_count_while_one_is_rotated(guarded: tuple[TestClient, Service], table: ApiKeys) -> None:
    client, service = guarded
    key, old = table.create(Role.READER, "grafana", "ada")
    _, new = table.rotate(key.id, "ada", timedelta(hours=1))
    service.keys.check()
    assert [call(client, LOOKS[0], text).status_code for text in (old, new)] == [200, 200]
    service.keys._clock = lambda: datetime.now(UTC) + timedelta(hours=2)
    assert [call(client, LOOKS[0], text).status_code for text in (old, new)] == [401, 200]


def test_by_default_a_key_is_asked_for_once_one_exists(
    settings: Settings, params: Params, shelf: Shelf, table: ApiKeys
) -> None:
    service = make_service(settings, params, shelf, mode="auto")
    with TestClient(create_app(service=service)) as client:
        assert call(client, LOOKS[0]).status_code == 200
        key, text = table.create(Role.READER, "grafana", "ada")
        service.keys.check()
        assert [call(client, LOOKS[0], sent).status_code for sent in (None, text)] == [401, 200]
        table.revoke(key.id, "ada")
        service.keys.check()
        assert call(client, LOOKS[0]).status_code == 401  # ending the last key opens nothing


def test_a_table_that_was_lost_does_not_open_the_door(settings: Settings, params: Params, shelf: Shelf, table: ApiKeys) -> None:
    table.create(Role.READER, "grafana", "ada")
    with TestClient(create_app(service=make_service(settings, params, shelf, mode="auto"))):
        pass
    for path in settings.home.glob("events.db*"):
        path.unlink()
    with TestClient(create_app(service=make_service(settings, params, shelf, mode="auto"))) as client:
        assert call(client, LOOKS[0]).status_code == 401


def test_off_is_open_and_says_so(settings: Settings, params: Params, shelf: Shelf, table: ApiKeys) -> None:
    table.create(Role.READER, "grafana", "ada")
    with TestClient(create_app(service=make_service(settings, params, shelf, mode="off"))) as client:
        assert call(client, LOOKS[0]).status_code == 200
        assert any("API keys are off" in line for line in client.get("/readyz").json()["degraded"])


def test_while_the_database_is_away_known_keys_count_and_no_others(
    settings: Settings, params: Params, shelf: Shelf, table: ApiKeys
) -> None:
    text = table.create(Role.READER, "grafana", "ada")[1]
    with TestClient(create_app(service=make_service(settings, params, shelf))):
        pass  # it has written down what it knows
    snapshot = settings.paths.secrets / SNAPSHOT
    assert snapshot.stat().st_mode & 0o777 == 0o600
    assert text.split("_", 2)[2] not in snapshot.read_text()
    away = settings.model_copy(update={"event_log_url": "postgresql://nobody@127.0.0.1:9/nothing"})
    service = make_service(away, params, shelf)
    with TestClient(create_app(service=service)) as client:
        assert call(client, LOOKS[0], text).status_code == 200
        assert call(client, LOOKS[0]).status_code == 401
        assert any("API keys cannot be read" in line for line in client.get("/readyz").json()["degraded"])
        assert "endcap_keys_current 0.0" in call(client, LOOKS[1], text).text


@pytest.mark.parametrize("content", [None, "", "{", '[{"id": 1}]'])
def test_a_service_that_never_read_a_key_lets_nobody_in(
    settings: Settings, params: Params, shelf: Shelf, content: str | None
) -> None:
    if content is not None:
        (settings.paths.secrets / SNAPSHOT).write_text(content)
    away = settings.model_copy(update={"event_log_url": "postgresql://nobody@127.0.0.1:9/nothing"})
    with TestClient(create_app(service=make_service(away, params, shelf))) as client:
        answer = call(client, LOOKS[0], f"endcap_{'0' * 12}_{'x' * 43}")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert call(client, LOOKS[0]).status_code == 401
        assert call(client, ("GET", "/healthz", None)).status_code == 200


def test_neither_key_nor_hash_is_ever_logged(
    guarded: tuple[TestClient, Service], table: ApiKeys, caplog: pytest.LogCaptureFixture
) -> None:
    client, service = guarded
    caplog.set_level(logging.DEBUG)
    key, text = table.create(Role.SHOP, "web-shop", "ada")
    service.keys.check()
    call(client, SLATE, text)
    call(client, LOOKS[0], text)
    call(client, SLATE, text[:-1])
    service.models.state = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    operator = table.create(Role.OPERATOR, "ops", "ada")[1]
    service.keys.check()
    assert call(client, LOOKS[0], operator).status_code == 500
    said = "\n".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if record.name.startswith("endcap")
    )
    assert "request failed" in said
    for secret in (text, text.split("_", 2)[2], operator, key.digest):
        assert secret not in said


def test_refusals_are_counted(guarded: tuple[TestClient, Service], table: ApiKeys) -> None:
    client, service = guarded
    texts = keys_of(table, service)
    call(client, SLATE)
    call(client, SLATE, texts["reader"])
    page = call(client, LOOKS[1], texts["reader"]).text
    assert 'endcap_key_refusals_total{reason="missing"} 1.0' in page
    assert 'endcap_key_refusals_total{reason="role"} 1.0' in page
    assert 'endcap_requests_total{method="POST",route="/v1/recommendations",status="401"} 1.0' in page


def test_the_api_page_says_which_roles_an_operation_needs(guarded: tuple[TestClient, Service], table: ApiKeys) -> None:
    client, service = guarded
    reader = keys_of(table, service)["reader"]
    page = call(client, LOOKS[4], reader).json()
    assert page["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    slates, health = page["paths"]["/v1/recommendations"]["post"], page["paths"]["/healthz"]["get"]
    assert slates["security"] == [{"key": []}]
    assert "Roles: operator, shop." in slates["description"]
    assert {"401", "403", "429", "503"} <= set(slates["responses"])
    assert "security" not in health
    assert "Bearer $KEY" in call(client, LOOKS[2], reader).text


def test_a_service_that_other_machines_reach_demands_keys(
    settings: Settings, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn

    from endcap.serving import server

    modes: list[str] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: modes.append(self.config.app.state.service.keys.mode))
    monkeypatch.setattr(server, "_BACKLOG", 1)
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        server.run(settings, params, host=host, port=0)
    assert modes == ["auto", "required", "auto"]
    server.run(settings.model_copy(update={"api_keys": "off"}), params, host="0.0.0.0", port=0)
    assert modes[-1] == "off"


def test_events_by_a_shop_key_are_stored(guarded: tuple[TestClient, Service], table: ApiKeys, log: EventLog) -> None:
    client, service = guarded
    assert call(client, EVENTS, keys_of(table, service)["shop"]).json()["accepted"] == 1
    assert log.claim("all", datetime(2026, 2, 1, tzinfo=UTC)) == 1
