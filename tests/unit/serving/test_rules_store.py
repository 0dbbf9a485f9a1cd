"""Rules in the real service: in force without a restart, never lost to a bad file, visible in answer, log and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.unit.serving.conftest import ITEMS, CountingModel, Shelf, catalogue, event, in_threads

from endcap.config import Params, Settings, load_settings
from endcap.data.events import EventLog
from endcap.errors import ConfigError
from endcap.release.audit import AuditLog
from endcap.release.signing import Keys
from endcap.serving import rules_store
from endcap.serving.app import create_app
from endcap.serving.service import Service


@dataclass
class Shop:
    """A service that serves model 1 (mug, plate, bowl, spoon, fork) under a file of rules."""

    client: TestClient
    service: Service
    rules: Path
    log: EventLog

    def write(self, text: str) -> None:
        """Save the rules as an editor does, and let the service look."""
        replace(self.rules, text)
        self.service._rules.check()

    def ask(self, **body: Any) -> list[dict[str, Any]]:
        return list(self.answer(**body)["items"])

    def answer(self, **body: Any) -> dict[str, Any]:
        response = self.client.post("/v1/recommendations", json={"k": 3, **body})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def ids(self, **body: Any) -> list[str]:
        return [item["item_id"] for item in self.ask(**body)]

    def metric(self, name: str) -> float:
        found = [line for line in self.client.get("/metrics").text.splitlines() if line.startswith(name)]
        return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


Open = Callable[[str], Shop]


@pytest.fixture
def open_shop(params: Params, shelf: Shelf, log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Start a service under rules; again: another process of the same shop."""
    clients: list[TestClient] = []
    quiet = params.model_copy(update={"serving": params.serving.model_copy(update={"reload_seconds": 3600.0})})
    shelf.publish(1)

    def start(text: str) -> Shop:
        rules = tmp_path / "rules.yaml"
        replace(rules, text)
        monkeypatch.setenv("ENDCAP_RULES", str(rules))
        service = Service(load_settings(), quiet, shelf, CountingModel.load)
        client = TestClient(create_app(service=service), raise_server_exceptions=False).__enter__()
        clients.append(client)
        wait_for(lambda: service.models.current is not None or shelf.alias is None)
        return Shop(client, service, rules, log)

    yield start
    for client in clients:
        client.__exit__(None, None, None)


def test_rules_are_in_force_without_a_restart(open_shop: Open) -> None:
    shop = open_shop("")
    assert shop.ids() == ["mug", "plate", "bowl"]
    shop.write("blocked: [{items: [mug]}]")
    assert shop.ids() == ["plate", "bowl", "spoon"]
    shop.write("pinned: [{item: fork, rank: 2, surfaces: [home]}]")
    assert shop.ids() == ["mug", "fork", "plate"]
    assert shop.ids(surface="email") == ["mug", "plate", "bowl"]
    shop.write("# none")
    assert shop.ids() == ["mug", "plate", "bowl"]


def test_a_change_is_seen_by_itself(open_shop: Open) -> None:
    shop = open_shop("")
    store = shop.service._rules
    store._reload_seconds = 0.01
    store._wake.set()
    replace(shop.rules, "blocked: [{items: [mug]}]")
    wait_for(lambda: bool(store.current.blocked))
    assert shop.ids() == ["plate", "bowl", "spoon"]


def test_stock_is_followed_beside_the_rules(open_shop: Open) -> None:
    shop = open_shop("")
    stock = shop.rules.parent / "stock.csv"
    replace(stock, "item_id,stock\nmug,1\nplate,0\n")
    shop.write("stock: {file: stock.csv}")
    assert shop.ids() == ["mug", "bowl", "spoon"]
    replace(stock, "item_id,stock\nmug,0\nplate,2\n")
    shop.service._rules.check()
    assert shop.ids() == ["plate", "bowl", "spoon"]
    stock.unlink()
    shop.service._rules.check()
    assert shop.ids() == ["plate", "bowl", "spoon"]
    assert "stock.csv: cannot be read" in shop.client.get("/readyz").json()["degraded"][0]


@pytest.mark.parametrize("bad", ["pined: []", "pinned: [{item: fork, rank: 0}]", "blocked: {", "stock: {file: no.csv}", None])
def test_a_bad_file_leaves_the_last_good_rules_and_is_seen(open_shop: Open, bad: str | None) -> None:
    shop = open_shop("blocked: [{items: [mug]}]")
    assert shop.client.get("/readyz").json()["degraded"] == []
    for _ in range(2):
        if bad is None:
            shop.rules.unlink(missing_ok=True)
            shop.service._rules.check()
        else:
            shop.write(bad)
    assert shop.ids() == ["plate", "bowl", "spoon"]
    ready = shop.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["degraded"][0].startswith("rules refused, the last good ones stay: ")
    assert str(shop.rules) in ready.json()["degraded"][0] or "no.csv" in ready.json()["degraded"][0]
    assert "rules refused" in shop.client.get("/").text
    assert (shop.metric("endcap_rules_current"), shop.metric("endcap_rules_refused_total")) == (0, 1)
    shop.write("blocked: [{items: [plate]}]")
    assert shop.ids() == ["mug", "bowl", "spoon"]
    assert shop.client.get("/readyz").json()["degraded"] == []
    assert shop.metric("endcap_rules_current") == 1


def test_a_refused_file_is_tried_again_though_it_did_not_change(open_shop: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = open_shop("")
    shop.write("stock: {file: stock.csv}")
    replace(shop.rules.parent / "stock.csv", "item_id,stock\nmug,0\n")
    shop.service._rules.check()
    assert shop.service._rules.refused  # not yet: a large file would be read again and again
    monkeypatch.setattr(shop.service._rules, "_retry_at", 0.0)
    shop.service._rules.check()
    assert shop.ids() == ["plate", "bowl", "spoon"]
    assert rules_store.RETRY_SECONDS > 1


def test_the_service_does_not_start_with_a_bad_file(open_shop: Open) -> None:
    with pytest.raises(ConfigError, match=r"rules\.yaml: pinned\.0\.rank"):
        open_shop("pinned: [{item: mug, rank: 0}]")


def test_a_pin_of_an_item_that_nobody_lists_is_refused(open_shop: Open, log: EventLog) -> None:
    shop = open_shop("pinned: [{item: unicorn, rank: 1}]")  # a new shop: there is no catalogue yet
    assert shop.ids() == ["mug", "plate", "bowl"]
    log.upsert_catalog(catalogue())
    with pytest.raises(ConfigError, match=r"pinned\.0\.item: is no item of the catalogue; got 'unicorn'"):
        open_shop("pinned: [{item: unicorn, rank: 1}]")


def test_a_ruled_place_says_so_in_the_answer_and_the_log(open_shop: Open, log: EventLog) -> None:
    shop = open_shop("pinned: [{item: fork, rank: 1}]\npromoted: [{name: lights, items: [spoon], from_rank: 2, budget: 9}]")
    answer = shop.answer(explain=True)
    assert [item["item_id"] for item in answer["items"]] == ["fork", "spoon", "mug"]
    assert [item["reasons"][0]["kind"] for item in answer["items"]] == ["pinned", "promoted", "popular"]
    assert answer["policy"] == "greedy"
    rows = log.request(answer["request_id"])
    assert [(row["policy"], row["propensity"]) for row in rows] == [("pinned", 1), ("promoted:lights", 1), ("greedy", 1)]
    assert shop.ask()[0].get("reasons") is None
    assert shop.metric('endcap_promotion_shows_total{promotion="lights"}') == 2


def test_rules_hold_while_no_model_serves(open_shop: Open, shelf: Shelf, log: EventLog) -> None:
    log.upsert_catalog(catalogue())
    shelf.alias = None
    shop = open_shop("blocked: [{items: [fork]}]\npinned: [{item: bowl, rank: 1}]")
    shop.client.post("/v1/events", json=[event(1, "fork"), event(2, "mug"), event(3, "mug"), event(4, "bowl")])
    answer = shop.answer(context={"time": "2026-01-15T12:00:00Z"})
    assert (answer["fallback"], [item["item_id"] for item in answer["items"]]) == (True, ["bowl", "mug"])


def test_a_span_counts_at_the_moment_that_a_request_speaks_of(open_shop: Open) -> None:
    shop = open_shop("blocked: [{items: [mug], from: 2026-01-10T00:00:00+01:00, until: 2026-01-11T00:00:00+01:00}]")
    seen = {at: "mug" in shop.ids(context={"time": at}) for at in ("2026-01-09T22:59:59Z", "2026-01-09T23:00:00Z")}
    assert seen == {"2026-01-09T22:59:59Z": True, "2026-01-09T23:00:00Z": False}
    assert "mug" in shop.ids(context={"time": "2026-01-10T23:00:00Z"})


def test_a_budget_is_kept_by_several_processes_and_over_a_restart(open_shop: Open, log: EventLog) -> None:
    rules = "promoted: [{name: lights, items: [fork], budget: 40}]"
    shops = [open_shop(rules), open_shop(rules)]
    lifted: list[int] = []

    def shop(of: Shop, requests: int) -> None:
        for _ in range(requests):
            lifted.append(of.ids(k=1).count("fork"))
            of.service._rules.check()

    def both() -> None:
        for of in shops:
            shop(of, 8)

    for thread in in_threads(both, 2):
        thread.join()
    assert 8 < sum(lifted) <= 32  # two at once may find the last show of a small lot lent
    shops[0].service._rules.stop()  # gives back what it holds
    for of in (open_shop(rules), shops[1]):
        shop(of, 40)
    assert sum(lifted) == 40
    assert log.promotion_shows() == {"lights": 40}


def test_requests_alone_fetch_the_next_lot(open_shop: Open, log: EventLog) -> None:
    shop = open_shop("promoted: [{name: lights, items: [fork], budget: 40}]")
    first = log.promotion_shows()["lights"]
    for _ in range(first):
        shop.ask(k=1)
    wait_for(lambda: log.promotion_shows()["lights"] > first)  # though the next look at the file is an hour away


def test_a_promotion_that_breaks_with_the_model_costs_nothing(open_shop: Open, log: EventLog) -> None:
    shop = open_shop("promoted: [{name: lights, items: [fork], budget: 4}]")

    def broken(*_: object) -> None:
        raise RuntimeError("no")

    shop.service.models.current.recommender.model.score = broken  # type: ignore[union-attr, method-assign, assignment]
    assert shop.answer()["fallback_reason"] == "model_failed"
    shop.service._rules.stop()
    assert log.promotion_shows() == {"lights": 0}


def test_without_a_file_slates_are_the_models_own(open_shop: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = open_shop("")
    monkeypatch.delenv("ENDCAP_RULES")
    assert load_settings().rules is None
    assert shop.ids(k=5) == ITEMS


def test_every_change_of_the_rules_is_in_the_audit_log_once(open_shop: Open, settings: Settings) -> None:
    shop = open_shop("blocked: [{items: [mug]}]\n")
    audit = AuditLog(settings.event_log_url, Keys.load(settings.paths.secrets))
    shop.write("blocked: [{items: [plate]}]\n")
    shop.write("blocked: [{items: plate}]\n")  # refused: nothing changed
    shop.service._rules.check()
    found = audit.entries()
    assert [(entry.body["action"], entry.body["by"]) for entry in found] == [("rules.changed", shop.rules.owner())] * 2
    assert len({entry.body["details"]["sha256"] for entry in found}) == 2
    assert audit.verify().entries == 2
    audit.close()


def test_rules_do_not_wait_for_an_audit_log_that_is_away(open_shop: Open, settings: Settings) -> None:
    shop = open_shop("blocked: [{items: [mug]}]\n")
    store, audit = shop.service._rules, shop.service._rules._audit
    store._audit = AuditLog("postgresql://nobody@127.0.0.1:9/nothing", Keys.load(settings.paths.secrets))
    shop.write("blocked: [{items: [plate]}]\n")
    assert "plate" not in shop.ids()
    assert audit is not None
    assert len(audit.entries()) == 1
    store._audit.close()
    store._audit = audit
    store.check()
    assert len(audit.entries()) == 2
