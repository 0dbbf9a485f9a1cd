"""Policies in the real service: who meets which, what is logged of it, and states that come, break and stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from tests.unit.serving.conftest import CountingModel, Shelf, catalogue, event
from tests.unit.serving.test_rules_store import wait_for

from endcap.config import Params, Settings
from endcap.data.event_tables import exposures
from endcap.data.policy_log import PolicyLog
from endcap.exploring import Policies
from endcap.pipeline.policy_learning import learn_due
from endcap.policy import state_files
from endcap.policy.features import names_of
from endcap.policy.state import State
from endcap.serving.app import create_app
from endcap.serving.metrics import Metrics
from endcap.serving.policy_store import PolicyStore, policy_of
from endcap.serving.service import Service

WARM = {"name": "warm", "kind": "softmax", "temperature": 1.0}
LEARNER = {"name": "learner", "kind": "thompson", "floor": 0.01, "ridge": 5.0}


class Shop:
    """A service that serves model 1 under policies."""

    def __init__(self, service: Service, client: TestClient, log: PolicyLog) -> None:
        self.service, self.client, self.log = service, client, log

    def ask(self, **body: Any) -> dict[str, Any]:
        response = self.client.post("/v1/recommendations", json={"k": 3, **body})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def rows(self, answer: dict[str, Any]) -> list[dict[str, Any]]:
        with self.log._engine.connect() as connection:
            query = sa.select(exposures).where(exposures.c.request_id == answer["request_id"]).order_by(exposures.c.rank)
            return [dict(row._mapping) for row in connection.execute(query)]

    def metric(self, start: str) -> float:
        found = [line for line in self.client.get("/metrics").text.splitlines() if line.startswith(start)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


Open = Callable[..., Shop]


@pytest.fixture
def open_shop(params: Params, settings: Settings, shelf: Shelf) -> Iterator[Open]:
    clients: list[TestClient] = []
    quiet = params.serving.model_copy(update={"reload_seconds": 3600.0})
    shelf.publish(1)
    log = PolicyLog(settings.event_log_url)
    log.create()
    log.upsert_catalog(catalogue())

    def start(**policies: Any) -> Shop:
        changed = params.model_copy(update={"serving": quiet, "policies": Policies.model_validate(policies)})
        service = Service(settings, changed, shelf, CountingModel.load)
        client = TestClient(create_app(service=service), raise_server_exceptions=False).__enter__()
        clients.append(client)
        wait_for(lambda: service.models.current is not None)
        return Shop(service, client, log)

    yield start
    for client in clients:
        client.__exit__(None, None, None)
    log.close()


def everybody(name: str, *defined: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"defined": list(defined), "assigned": [{"shares": {name: 1.0}}], **more}


def test_as_it_comes_all_is_greedy_and_nothing_is_written_down(open_shop: Open, params: Params) -> None:
    shop = open_shop(**params.policies.model_dump())
    answer = shop.ask(user_id="u1")
    assert (answer["policy"], [item["item_id"] for item in answer["items"]]) == ("greedy", ["mug", "plate", "bowl"])
    assert [(row["policy"], row["propensity"], row["features"]) for row in shop.rows(answer)] == [("greedy", 1.0, None)] * 3


def test_answer_log_and_metrics_say_which_policy_and_with_which_chance(open_shop: Open) -> None:
    surfaces = [{"surfaces": ["home"], "shares": {"warm": 1.0}}]
    shop = open_shop(defined=[WARM], assigned=surfaces)
    seen = set()
    for number in range(30):
        answer = shop.ask(user_id=f"u{number}", surface="home")
        name, _, version = answer["policy"].partition("@")
        assert (name, len(version)) == ("warm", 8)
        rows = shop.rows(answer)
        assert {row["policy"] for row in rows} == {answer["policy"]}
        assert [row["propensity"] for row in rows] == [item["propensity"] for item in answer["items"]]
        assert all(0 < row["propensity"] < 1 for row in rows)
        seen.add(tuple(item["item_id"] for item in answer["items"]))
    assert len(seen) > 5
    assert shop.ask(user_id="u1", surface="email")["policy"] == "greedy"
    assert shop.metric('endcap_recommendations_total{fallback="false",model_version="1",policy="warm"') == 30
    assert shop.metric('endcap_recommendations_total{fallback="false",model_version="1",policy="greedy"') == 1


def test_logged_chances_are_how_often_slates_come(open_shop: Open) -> None:
    shop = open_shop(**everybody("warm", WARM))
    answers = [shop.ask(k=2, user_id="u1") for _ in range(300)]
    slates = Counter(tuple(item["item_id"] for item in answer["items"]) for answer in answers)
    chance = {
        tuple(item["item_id"] for item in answer["items"]): float(np.prod([item["propensity"] for item in answer["items"]]))
        for answer in answers
    }
    for slate, count in slates.items():
        spread = np.sqrt(300 * chance[slate] * (1 - chance[slate]))
        assert abs(count - 300 * chance[slate]) < 4.5 * spread + 1, slate


def test_rules_hold_and_say_so(open_shop: Open, tmp_path: Path, settings: Settings) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("blocked: [{items: [mug]}]\npinned: [{item: fork, rank: 2}]\n")
    object.__setattr__(settings, "rules", rules)
    shop = open_shop(**everybody("uniform"))
    shown = set()
    for _ in range(40):
        answer = shop.ask()
        rows = shop.rows(answer)
        assert (rows[1]["item_id"], rows[1]["policy"], rows[1]["propensity"]) == ("fork", "pinned", 1.0)
        assert [rows[0]["propensity"], rows[2]["propensity"]] == pytest.approx([1 / 3, 1 / 2])
        assert answer["policy"] == "uniform"
        shown |= {row["item_id"] for row in rows}
    assert shown == {"fork", "plate", "bowl", "spoon"}


def test_a_shopper_keeps_the_policy_and_strangers_are_shared_out_by_request(open_shop: Open) -> None:
    shop = open_shop(defined=[WARM], assigned=[{"shares": {"greedy": 0.5, "warm": 0.5}}])
    policies = {user: {shop.ask(user_id=user)["policy"] for _ in range(4)} for user in map(str, range(12))}
    assert all(len(met) == 1 for met in policies.values())
    assert len(set.union(*policies.values())) == 2
    assert len({shop.ask()["policy"] for _ in range(30)}) == 2


def test_shares_are_right_and_stable_and_the_random_part_stays_when_others_change() -> None:
    shoppers = [f"{number:016x}" for number in range(20_000)]
    before = Policies.model_validate(
        {"defined": [WARM], "uniform": 0.1, "assigned": [{"surfaces": ["home"], "shares": {"greedy": 0.7, "warm": 0.3}}]}
    )
    met = [policy_of(before, "home", who) for who in shoppers]
    assert met == [policy_of(before, "home", who) for who in shoppers]
    shares = {name: count / len(met) for name, count in Counter(met).items()}
    for name, share in (("uniform", 0.1), ("greedy", 0.63), ("warm", 0.27)):
        assert abs(shares[name] - share) < 4 * np.sqrt(share * (1 - share) / len(met)), name
    elsewhere = [policy_of(before, "email", who) for who in shoppers]
    assert set(elsewhere) == {"uniform", "greedy"}
    after = before.model_copy(update={"assigned": (before.assigned[0].model_copy(update={"shares": {"warm": 1.0}}),)})
    for one, other, away in zip(met, (policy_of(after, "home", who) for who in shoppers), elsewhere, strict=True):
        assert (one == "uniform") == (other == "uniform") == (away == "uniform")
    salted = before.model_copy(update={"salt": "another"})
    assert 0.4 < np.mean([policy_of(salted, "home", who) == one for who, one in zip(shoppers, met, strict=True)]) < 0.6


def test_what_a_policy_learns_changes_what_is_shown_without_a_restart(open_shop: Open, settings: Settings) -> None:
    """Shown, clicked, learnt and shown again, all over HTTP: forks are clicked, nothing else."""
    shop = open_shop(**everybody("learner", LEARNER, head=5))
    folder = settings.paths.policies
    first = [shop.ask(user_id=f"u{number}", surface="product") for number in range(60)]
    assert {row["feature_set"] for answer in first for row in shop.rows(answer)} == {"linear-1"}
    about = {"type": "click", "time": datetime.now(UTC).isoformat()}
    clicks = [
        event(10 * number + item["rank"], item["item_id"], **about, request_id=answer["request_id"], user_id=f"u{number}")
        for number, answer in enumerate(first)
        for item in answer["items"]
        if item["item_id"] in ("fork", "spoon")
    ]
    assert shop.client.post("/v1/events", json=clicks).json()["accepted"] == len(clicks)
    later = datetime.now(UTC) + timedelta(hours=26)
    told = learn_due(shop.log, folder, shop.service.policies._params, later)
    assert (told.learnt, told.rewarded) == (180, len(clicks))
    shop.service.policies.check()
    second = [shop.ask(user_id=f"v{number}", surface="product") for number in range(60)]
    assert {answer["policy"] for answer in second}.isdisjoint({answer["policy"] for answer in first})
    top = [Counter(answer["items"][0]["item_id"] for answer in answers) for answers in (first, second)]
    assert top[1]["fork"] + top[1]["spoon"] > top[0]["fork"] + top[0]["spoon"] + 10
    again = open_shop(**everybody("learner", LEARNER, head=5))  # another process: the same policy
    assert again.ask(surface="product")["policy"] in {answer["policy"] for answer in second}


def test_greedy_traffic_is_learnt_from_too_once_anybody_learns(open_shop: Open) -> None:
    neural = {"name": "deep", "kind": "neural_linear", "dims": 2}
    shop = open_shop(defined=[neural], assigned=[{"surfaces": ["email"], "shares": {"deep": 1.0}}])
    answer = shop.ask(surface="home")
    assert (answer["policy"], [item["item_id"] for item in answer["items"]]) == ("greedy", ["mug", "plate", "bowl"])
    rows = shop.rows(answer)
    names = names_of(rows[0]["feature_set"])
    assert names[-1].startswith("item_4@1.")  # bound to the model, which has five directions
    values = dict(zip(names, np.frombuffer(rows[1]["features"], "<f4"), strict=True))
    assert (values["one"], values["on_home"], values["on_email"]) == (1, 1, 0)
    assert values["place"] == pytest.approx(1 / np.log2(3))
    assert values["score"] == pytest.approx(1 / np.sqrt(2))  # the second of 5, 4, 3, 2, 1
    deep = shop.ask(surface="email")
    assert deep["policy"].startswith("deep@")
    assert all(0 < item["propensity"] <= 1 for item in deep["items"])


def test_a_bad_state_is_refused_by_name_and_the_last_good_one_stays(open_shop: Open, settings: Settings) -> None:
    shop, folder = open_shop(**everybody("learner", LEARNER)), settings.paths.policies
    shop.ask()
    learn_due(shop.log, folder, shop.service.policies._params, datetime.now(UTC) + timedelta(hours=26))
    shop.service.policies.check()
    good = shop.ask()["policy"]
    assert shop.metric("endcap_policy_state_current") == 1
    (folder / "state-00000009-0123456789abcdef.json").write_text("{}")
    for _ in range(2):
        shop.service.policies.check()
    assert shop.ask()["policy"] == good
    degraded = shop.client.get("/readyz").json()["degraded"]
    assert degraded[0].startswith("state of policies refused, the last good one stays: state-00000009-0123456789abcdef.json: ")
    assert (shop.metric("endcap_policy_state_current"), shop.metric("endcap_policy_state_refused_total")) == (0, 1)
    (folder / "state-00000009-0123456789abcdef.json").unlink()
    shop.service.policies.check()
    assert shop.client.get("/readyz").json()["degraded"] == []
    for path in folder.glob("state-*"):
        path.unlink()
    shop.service.policies.check()
    assert shop.ask()["policy"] == good
    assert "all states are gone" in shop.client.get("/readyz").json()["degraded"][0]
    assert state_files.names(folder) == []


def test_a_new_state_is_seen_by_itself(tmp_path: Path) -> None:
    store = PolicyStore(Policies.model_validate(everybody("learner", LEARNER)), tmp_path, Metrics(), reload_seconds=0.01)
    store.start()
    assert store.current.name is None
    name = state_files.save(tmp_path, State("click 1"), keep=2)
    wait_for(lambda: store.current.name == name)
    store.stop()
    assert not store._thread.is_alive()


def test_without_a_model_the_fallback_is_no_policy(open_shop: Open) -> None:
    shop = open_shop(**everybody("warm", WARM))
    shop.service.models.current = None
    answer = shop.ask()
    assert (answer["policy"], answer["fallback"]) == ("fallback-popularity", True)
