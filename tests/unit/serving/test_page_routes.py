"""The pages over HTTP: their headers, what they are given, and what they say when a part is away."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.unit.serving.conftest import CountingModel, Shelf

from endcap.config import Params, Settings
from endcap.errors import ConfigError
from endcap.serving.app import create_app
from endcap.serving.metrics import Metrics, quantile
from endcap.serving.service import Service

PAGES = (
    "/shop",
    "/operator",
    "/pages/pages.css",
    "/pages/shop.js",
    "/pages/shop.css",
    "/pages/operator.js",
    "/pages/operator.css",
)


@pytest.fixture
def served(client: TestClient, service: Service, shelf: Shelf) -> TestClient:
    shelf.publish(1)
    service.models.check()
    return client


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/recommendations", json={"k": 3, **body}).json()
    return answer


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_only_what_the_service_serves(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in response.text
    assert "<style" not in response.text
    assert " style=" not in response.text
    assert "https://" not in response.text


def test_no_other_file_is_given_away(client: TestClient) -> None:
    for name in ("operator.html.j2", "..%2Fservice.py", "nothing.js"):
        assert client.get(f"/pages/{name}").status_code in (404, 422)


def test_pages_are_no_part_of_the_api(client: TestClient) -> None:
    assert not [path for path in client.get("/openapi.json").json()["paths"] if "shop" in path or "operator" in path]


def test_items_are_told_in_the_order_asked(served: TestClient) -> None:
    found = served.get("/shop/items", params={"id": ["bowl", "nowhere", "mug"]}).json()
    assert found == [
        {"item_id": "bowl", "title": "A bowl", "category": "crockery", "price": 30.0},
        {"item_id": "nowhere", "title": "nowhere", "category": "", "price": None},
        {"item_id": "mug", "title": "A mug", "category": "crockery", "price": 10.0},
    ]
    assert served.get("/shop/items", params={"id": ["mug"] * 101}).status_code == 422


def test_nobody_is_listed_unless_the_operator_names_them(served: TestClient) -> None:
    purchase = {"event_id": "e1", "type": "purchase", "user_id": "u1", "item_id": "mug", "price": 2.0}
    served.post("/v1/events", json=[{**purchase, "time": "2026-01-10T10:00:00Z"}])
    assert served.get("/shop/start").json()["shoppers"] == []


def test_named_shoppers_come_with_what_they_kept(settings: Settings, params: Params, shelf: Shelf) -> None:
    named = settings.model_copy(update={"shop_shoppers": " u1, u2,,u1 "})
    with TestClient(create_app(service=Service(named, params, shelf, CountingModel.load))) as client:
        for number, (item, pieces) in enumerate([("mug", 1), ("fork", 2), ("mug", 1), ("spoon", -1)]):
            event = {"event_id": f"e{number}", "type": "purchase", "user_id": "u1", "item_id": item, "quantity": pieces}
            client.post("/v1/events", json=[{**event, "price": 2.0, "time": f"2026-01-10T10:0{number}:00Z"}])
        first, second = client.get("/shop/start").json()["shoppers"]
    assert (first["user_id"], [(item["item_id"], item["times"]) for item in first["bought"]]) == (
        "u1",
        [("mug", 2), ("fork", 1)],
    )
    assert second == {"user_id": "u2", "bought": []}


def test_too_many_named_shoppers_are_refused_by_name(settings: Settings, params: Params, shelf: Shelf) -> None:
    named = settings.model_copy(update={"shop_shoppers": ",".join(map(str, range(21)))})
    with pytest.raises(ConfigError, match=r"ENDCAP_SHOP_SHOPPERS.*21.*at most 20"):
        Service(named, params, shelf, CountingModel.load)


def test_a_service_may_have_no_storefront(settings: Settings, params: Params, shelf: Shelf) -> None:
    without = settings.model_copy(update={"storefront": False})
    with TestClient(create_app(service=Service(without, params, shelf, CountingModel.load))) as client:
        for path in ("/shop", "/shop/start", "/shop/items?id=mug", "/shop/requests/r1"):
            response = client.get(path)
            assert (response.status_code, "ENDCAP_STOREFRONT" in response.json()["detail"]) == (404, True)
        assert "/shop" not in client.get("/").text
        assert "/shop" not in client.get("/operator").text


def test_the_log_is_read_back_without_the_shopper(served: TestClient) -> None:
    answer = ask(served, user_id="u1", surface="basket")
    logged = served.get(f"/shop/requests/{answer['request_id']}").json()
    assert [(p["rank"], p["item_id"], p["score"], p["title"]) for p in logged["places"]] == [
        (item["rank"], item["item_id"], item["score"], f"A {item['item_id']}") for item in answer["items"]
    ]
    assert (logged["surface"], logged["dataset_version"], logged["fallback"]) == ("basket", "dataset-1", False)
    assert logged["lineage"]["gates"]["verified"] is True
    assert "user_id" not in json.dumps(logged)
    unknown = served.get("/shop/requests/req-0")
    assert (unknown.status_code, unknown.json()["field"]) == (404, "request_id")


def test_an_answer_of_a_model_that_is_gone_says_so(served: TestClient, service: Service, shelf: Shelf) -> None:
    answer = ask(served)
    shelf.publish(2)
    service.models.check()
    logged = served.get(f"/shop/requests/{answer['request_id']}").json()
    assert logged["model_version"] == "1"
    assert "`endcap lineage 1`" in logged["lineage"]["model"]["missing"]


def test_the_newest_drift_check_of_the_model_is_linked(served: TestClient, settings: Settings) -> None:
    for dataset, model, day in (
        ("dataset-2", "1", "2026-01-02"),
        ("dataset-3", "1", "2026-01-09"),
        ("dataset-4", "2", "2026-01-16"),
    ):
        file = settings.paths.reports / "drift" / dataset / "check.json"
        file.parent.mkdir(parents=True)
        check = {"dataset_version": dataset, "model_version": model, "date": day, "drifted": dataset == "dataset-3"}
        file.write_text(json.dumps({**check, "report_url": f"http://reports/{dataset}", "ui_url": None}))
    links = {link["name"]: link for link in served.get(f"/shop/requests/{ask(served)['request_id']}").json()["links"]}
    assert links["Drift report"] == {"name": "Drift report", "text": "dataset-3 drifted", "url": "http://reports/dataset-3"}
    assert links["Evidently"]["url"] is None  # plain text where the address is not known


def test_without_an_event_log_the_pages_say_so(params: Params, settings: Settings, shelf: Shelf) -> None:
    away = settings.model_copy(update={"event_log_url": "postgresql://nobody@127.0.0.1:9/nothing"})
    with TestClient(create_app(service=Service(away, params, shelf, CountingModel.load))) as client:
        page = client.get("/operator")
        assert page.status_code == 200
        assert "the event log does not answer" in page.text
        assert client.get("/shop/start").status_code == 503


def test_the_operator_sees_rules_and_what_was_refused(settings: Settings, params: Params, shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("blocked: [{items: [mug]}]\n")
    service = Service(settings.model_copy(update={"rules": file}), params, shelf, CountingModel.load)
    with TestClient(create_app(service=service)) as client:
        assert "1 blocked" in client.get("/operator").text
        file.write_text("blocked: [{items: [mug], colour: red}]\n")
        service._rules.check()
        text = client.get("/operator").text
    assert "The last good ones stay." in text
    assert "colour" in text


def test_without_a_canary_its_place_says_so(client: TestClient) -> None:
    assert "No canary runs" in client.get("/operator").text


def test_a_window_that_is_not_there_is_named(client: TestClient) -> None:
    response = client.get("/operator?window=year")
    assert (response.status_code, "window" in response.json()["field"]) == (422, True)


def test_latency_is_read_from_the_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.002, 0.002, 0.02, 0.2):
        metrics.request_seconds.labels("/v1/events").observe(seconds)
    half, most, all_of_them = metrics.latency("/v1/events", (0.5, 0.75, 1.0))
    assert (half, most, all_of_them) == (0.0025, 0.025, 0.25)
    assert math.isnan(metrics.latency("/v1/recommendations", (0.5,))[0])
    assert quantile([(1.0, 0), (math.inf, 3)], 0.5) == 1.0  # beyond the last bucket nothing more is known
