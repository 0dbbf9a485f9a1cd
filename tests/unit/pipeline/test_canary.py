"""A canary from its start to its end, through HTTP and the event log on a schedule of seconds: shoppers, service, decider."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from fastapi.testclient import TestClient
from tests.fixtures.canary_shelf import CanaryShelf
from tests.unit.serving.conftest import CountingModel
from typer.testing import CliRunner

from endcap.cli import app
from endcap.config import Settings, load_params, project_root
from endcap.errors import ReleaseError, ServiceUnavailable
from endcap.pipeline import canary
from endcap.release.audit import AuditLog
from endcap.release.signing import Keys
from endcap.serving.app import create_app
from endcap.serving.service import Service

if TYPE_CHECKING:
    from endcap.release.canary_state import CanaryState

ATTRIBUTION_SECONDS = 1.5
SAME, REVERSED = (5, 4, 3, 2, 1), (1, 2, 3, 4, 5)
STEP = {"slack": 1.0, "min_shoppers": 40, "min_hours": 0.0, "patience_hours": 1.0}
GUARDS = {
    "clicks": {"better": "higher", "bar": -0.5, "scale": "relative", "ceiling": 1.0},
    "errors": {"better": "lower", "bar": 0.2, "scale": "absolute", "ceiling": 1.0},
}
SMALL = {
    "enabled": True,
    "confirm": True,
    "confidence": 0.95,
    "shadow": None,
    "steps": [{"share": 0.3, **STEP}, {"share": 0.5, **STEP}],
    "guards": GUARDS,
}
Configure = Callable[..., None]


@pytest.fixture
def shelf(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CanaryShelf:
    shelf = CanaryShelf(tmp_path / "shelf", Keys.load(settings.paths.secrets))
    shelf.publish(1)
    monkeypatch.setattr(canary, "registry_of", lambda _: shelf)
    return shelf


@pytest.fixture(autouse=True)
def configure(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write params.yaml with a schedule of seconds, and what is given."""

    def write(**changed: Any) -> None:
        params = yaml.safe_load((project_root() / "params.yaml").read_text())
        params["canary"] = SMALL | changed
        params["monitoring"]["attribution_hours"] = ATTRIBUTION_SECONDS / 3600
        params["serving"]["reload_seconds"] = 3600.0
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        monkeypatch.setenv("ENDCAP_PARAMS", str(tmp_path / "params.yaml"))

    write()
    return write


@pytest.fixture
def shop(settings: Settings, shelf: CanaryShelf) -> Iterator[tuple[TestClient, Service]]:
    service = Service(settings, load_params(), shelf, CountingModel.load)
    with TestClient(create_app(service=service), raise_server_exceptions=False) as client:
        yield client, service


def visit(client: TestClient, shoppers: range) -> None:
    """Each shopper is shown one item; every other one would click a mug, and nobody anything else."""
    for number in shoppers:
        user = f"u{number}"
        answer = client.post("/v1/recommendations", json={"user_id": user, "k": 1}).json()
        item = answer["items"][0]["item_id"]
        if item == "mug" and number % 2:
            click = {"event_id": answer["request_id"], "type": "click", "user_id": user, "item_id": item}
            more = {"time": datetime.now(UTC).isoformat(), "request_id": answer["request_id"]}
            client.post("/v1/events", json=[click | more]).raise_for_status()


def run_to_the_end(client: TestClient, service: Service, shoppers: int) -> dict[str, Any]:
    """Shoppers come and the decider looks, step by step, until nothing more is decided by evidence."""
    told = canary.look()
    while told["state"] == "running":
        service.models.check()
        service.candidates.check()
        visit(client, range(shoppers))
        settled = time.monotonic() + ATTRIBUTION_SECONDS
        step = told["step"]
        while told["state"] == "running" and told["step"] == step:
            told = canary.look()
            assert time.monotonic() < settled + 30, told
            time.sleep(0.1)
    service.candidates.check()
    return told


def history(shelf: CanaryShelf) -> CanaryState:
    from endcap.release import canary_rollout

    state = canary_rollout.newest(shelf, shelf.keys)  # type: ignore[arg-type]
    assert state is not None
    return state


def test_a_worse_candidate_is_rolled_back(shop: tuple[TestClient, Service], shelf: CanaryShelf) -> None:
    client, service = shop
    shelf.candidate(2, REVERSED)  # shows forks, which nobody wants
    canary.start("2", "ada")
    told = run_to_the_end(client, service, shoppers=260)
    assert (told["state"], told["step"], told["share"]) == ("rolled_back", 0, 0.0)
    assert told["reason"].startswith("clicks -100.0%")
    assert "surely beyond the bar" in told["reason"]
    answers = [client.post("/v1/recommendations", json={"user_id": f"u{n}", "k": 1}).json() for n in range(40)]
    assert {(answer["model_version"], answer["arm"]) for answer in answers} == {("1", None)}
    assert shelf.pointers == {"champion": "1", "canary": None, "newest": "2"}
    entry = history(shelf).history[-1]
    assert (entry.what, entry.by) == ("rolled_back", "the guards")
    assert entry.look is not None
    assert entry.look.candidate.clicks == 0 < entry.look.champion.clicks
    with pytest.raises(ReleaseError, match=r"model 2: was rolled back in its canary: clicks -100\.0%"):
        canary.follow("2")


def test_an_equal_candidate_goes_to_the_end_and_a_person_confirms(
    shop: tuple[TestClient, Service], shelf: CanaryShelf, settings: Settings
) -> None:
    client, service = shop
    shelf.candidate(2, SAME)
    canary.start("2", "ada")
    told = run_to_the_end(client, service, shoppers=360)
    assert (told["state"], told["share"], told["overdue"]) == ("passed", 1.0, False), told
    assert canary.follow("2")["over"]
    assert shelf.pointers["champion"] == "1", "only a person makes it champion"
    assert {client.post("/v1/recommendations", json={}).json()["model_version"] for _ in range(10)} == {"2"}
    assert any("waits for a person" in line for line in client.get("/readyz").json()["degraded"])
    assert [entry.what for entry in history(shelf).history] == ["started", "advanced", "passed"]
    assert canary.crown("2", "bob")["state"] == "promoted"
    assert shelf.pointers == {"champion": "2", "canary": None, "newest": "2"}
    assert shelf.get("2").tags["promoted_by"] == "bob"
    assert [action for action, *_ in audited(settings, shelf)][-2:] == ["canary.passed", "model.promoted"]
    assert canary.follow("2")["state"] == "promoted"


def test_without_a_last_word_the_end_promotes(
    shop: tuple[TestClient, Service], shelf: CanaryShelf, configure: Configure
) -> None:
    client, service = shop
    configure(confirm=False, steps=[SMALL["steps"][1]])  # type: ignore[index]
    shelf.candidate(2, SAME)
    canary.start("2", "ada")
    assert run_to_the_end(client, service, shoppers=300)["state"] == "promoted"
    assert shelf.pointers == {"champion": "2", "canary": None, "newest": "2"}
    assert shelf.get("2").tags["promoted_by"] == "ada"


def test_two_deciders_at_once_are_as_one(shop: tuple[TestClient, Service], shelf: CanaryShelf, settings: Settings) -> None:
    client, service = shop
    shelf.candidate(2, REVERSED)
    canary.start("2", "ada")
    service.models.check()
    service.candidates.check()
    visit(client, range(260))
    time.sleep(ATTRIBUTION_SECONDS)
    told: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: told.append(canary.look())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one["state"] for one in told] == ["rolled_back"] * 4
    assert [entry.what for entry in history(shelf).history] == ["started", "rolled_back"]
    assert [(action, by) for action, by, _ in audited(settings, shelf)] == [
        ("canary.started", "ada"),
        ("canary.rolled_back", "the guards"),
    ]


def test_another_champion_ends_the_canary(shelf: CanaryShelf) -> None:
    shelf.candidate(2)
    canary.start("2", "ada")
    shelf.publish(3)
    told = canary.look()
    assert told["state"] == "rolled_back"
    assert told["reason"] == "the champion is now model 3, compared was with model 1"


def test_a_model_promoted_past_its_canary_ends_it(shelf: CanaryShelf) -> None:
    from endcap.release import promotion

    shelf.candidate(2)
    canary.start("2", "ada")
    promotion.promote(shelf, shelf.keys, "2", "bob")  # type: ignore[arg-type]
    assert canary.look()["state"] == "promoted"
    assert shelf.pointers["canary"] is None
    assert history(shelf).history[-1].by == "bob"


def test_a_part_that_is_away_is_waited_for(shelf: CanaryShelf) -> None:
    shelf.candidate(2)
    canary.start("2", "ada")
    shelf.away = True
    told = canary.follow("2")
    assert (told["over"], told["state"]) == (False, "unknown")
    assert "MLflow does not answer" in told["reason"]
    with pytest.raises(ServiceUnavailable):
        canary.look()
    shelf.away = False
    assert canary.follow("2")["state"] == "running"


def test_a_person_may_go_on_stop_and_refuse(shelf: CanaryShelf) -> None:
    shelf.candidate(2)
    canary.start("2", "ada")
    assert canary.advance("bob", "nobody shops in August")["step"] == 1
    entry = history(shelf).history[-1]
    assert (entry.what, entry.by, entry.reasons[0]) == ("advanced", "bob", "nobody shops in August")
    with pytest.raises(ReleaseError, match="model 2: was rejected by bob after its canary"):
        canary.refuse("2", "bob", "too many lanterns")
    told = canary.status()
    assert told is not None
    assert (told["state"], told["reason"]) == ("rolled_back", "too many lanterns")
    assert canary.stop("bob", "again")["reason"] == "too many lanterns", "what is over stays as it is"
    with pytest.raises(ReleaseError, match="cannot go on"):
        canary.advance("bob", "please")


def audited(settings: Settings, shelf: CanaryShelf) -> list[tuple[str, str, float]]:
    log = AuditLog(settings.event_log_url, shelf.keys)
    log.verify()
    found = [(str(e.body["action"]), str(e.body["by"]), float(e.body["details"].get("share", -1))) for e in log.entries()]
    log.close()
    return found


def test_the_audit_log_tells_each_step_once(shelf: CanaryShelf, settings: Settings) -> None:
    shelf.candidate(2)
    canary.start("2", "ada")
    canary.start("2", "ada")  # finds it running
    canary.advance("bob", "nobody shops in August")
    canary.stop("eve", "lanterns")
    canary.stop("eve", "lanterns")  # finds it over
    told = [("canary.started", "ada", 0.3), ("canary.advanced", "bob", 0.5), ("canary.rolled_back", "eve", 0.0)]
    assert audited(settings, shelf) == told


def test_what_cannot_be_written_down_is_not_done(shelf: CanaryShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.candidate(2)
    canary.start("2", "ada")
    monkeypatch.setenv("ENDCAP_EVENT_LOG_URL", "postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(ServiceUnavailable, match="event log does not answer"):
        canary.stop("eve", "lanterns")
    assert history(shelf).status == "running"
    assert shelf.pointers["canary"] == "2"


def test_who_goes_by_way_of_a_canary(shelf: CanaryShelf, configure: Configure) -> None:
    shelf.candidate(2)
    assert canary.wanted("2")
    assert not canary.wanted("model-1"), "the champion itself"
    shelf.pointers["champion"] = None
    assert not canary.wanted("2"), "a first model has nothing to be compared with"
    shelf.pointers["champion"] = "1"
    configure(enabled=False)
    assert not canary.wanted("2")


def test_the_command_line_does_the_same(shelf: CanaryShelf) -> None:
    def endcap(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["canary", *arguments])

    assert "There never was a canary" in endcap("status").output
    shelf.candidate(2)
    started = endcap("start", "2", "--yes", "--by", "ada")
    assert "Model 2 answers 30 % of shoppers (step 1 of 2)." in started.output
    waits = endcap("decide")
    assert (waits.exit_code, "0 shoppers in the smaller arm, 40 are wanted" in waits.output) == (0, True)
    assert "step 2 of 2" in endcap("decide", "--advance", "--by", "ada", "--reason", "a test").output
    stopped = endcap("stop", "--yes", "--by", "ada", "--reason", "lanterns")
    assert "was rolled back" in stopped.output
    assert "lanterns" in endcap("status").output
    assert endcap("decide").exit_code == 1
    assert "/canary" in endcap("status").output
