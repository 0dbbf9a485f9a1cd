"""What the service does when its surroundings break: a full or slow disk, a corrupt model, a clock that jumps.

Away parts are elsewhere: the event log (test_service), the registry (test_model_store), Redis (test_rates), the table of keys
(test_access). Each behaviour has a page in docs/runbooks.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from limits.aio.storage import memory
from tests.fixtures.tiny_model import build_tiny_model
from tests.unit.serving.conftest import CountingModel, Shelf, event
from tests.unit.serving.test_service import ask, ids, metric

from endcap.config import Params, Settings
from endcap.contracts import ModelVersion, Role
from endcap.data.events import EventLog
from endcap.data.privacy import pseudonym_key
from endcap.models.digest import digest
from endcap.release.audit import AuditLog
from endcap.release.records import GATE, PROMOTION, gate_record, promotion_record, to_tag
from endcap.release.signing import Keys
from endcap.sections import Rate, Rates
from endcap.serving import model_store
from endcap.serving.api_keys import ApiKeys
from endcap.serving.key_ring import SNAPSHOT, KeyRefused
from endcap.serving.metrics import Metrics
from endcap.serving.model_store import ModelStore
from endcap.serving.rates import Counter

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from endcap.serving.service import Service


@pytest.fixture
def served(client: TestClient, service: Service, shelf: Shelf) -> TestClient:
    """A client of a service that serves model 1."""
    shelf.publish(1)
    service.models.check()
    return client


def limit_pages(service: Service, pages: int) -> None:
    """Let SQLite find no room beyond so many more pages: what it then says and does is what it does on a full disk."""
    engine = service._event_log._engine
    engine.dispose()  # connections to come have the limit

    @sa.event.listens_for(engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        now = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={now + pages}")


def test_on_a_full_disk_what_was_acknowledged_is_there_and_nothing_else(
    served: TestClient, service: Service, log: EventLog
) -> None:
    limit_pages(service, 8)
    acknowledged: list[str] = []
    for call in range(100):
        events = [event(f"{call}-{number}") for number in range(20)]  # type: ignore[arg-type]
        answer = served.post("/v1/events", json=events)
        if answer.status_code != 202:
            break
        acknowledged += [str(one["event_id"]) for one in events]
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "nothing was half written" in answer.json()["action"]
    assert served.get("/readyz").status_code == 503
    assert served.get("/healthz").status_code == 200
    slate = ask(served, user_id="u1")
    assert (len(slate["items"]), slate["fallback_reason"]) == (3, "event_log_away")
    log.claim("all", datetime(2027, 1, 1, tzinfo=UTC))
    assert sorted(log.batch_event_ids("all")) == sorted(acknowledged)
    limit_pages(service, 1_000_000)  # there is room again
    service._watch._retry_at = 0
    assert served.post("/v1/events", json=events).json()["accepted"] == 20
    assert not ask(served)["fallback"]


def test_a_champion_that_finds_no_room_is_refused_and_the_old_one_stays(
    served: TestClient, service: Service, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    download, full = shelf.download, OSError(errno.ENOSPC, "No space left on device")
    shelf.publish(2, [1, 2, 3, 4, 5])
    monkeypatch.setattr(shelf, "download", lambda *_: (_ for _ in ()).throw(full))
    service.models.check()
    assert ids(ask(served))[0] == "mug"
    assert "No space left" in served.get("/v1/model").json()["refused"]["reason"]
    assert metric(served, 'endcap_model_refused_total{cause="load"}') == 1
    monkeypatch.setattr(shelf, "download", download)
    monkeypatch.setattr(model_store, "RETRY_SECONDS", 0.0)
    service.models.check()
    assert ids(ask(served))[0] == "fork"


def test_keys_count_though_they_cannot_be_noted_on_disk(served: TestClient, service: Service, settings: Settings) -> None:
    (settings.paths.secrets / SNAPSHOT).unlink(missing_ok=True)
    (settings.paths.secrets / SNAPSHOT).mkdir()  # no file can take this place
    key = pseudonym_key("", settings.paths.secrets)
    table = ApiKeys(settings.event_log_url, key, AuditLog(settings.event_log_url, Keys.load(settings.paths.secrets)))
    text = table.create(Role.READER, "grafana", "ada")[1]
    table.close()
    service.keys.check()
    assert served.get("/v1/model").status_code == 401
    assert served.get("/v1/model", headers={"Authorization": f"Bearer {text}"}).status_code == 200


def corrupt(directory: Path, how: str) -> None:
    """Spoil the largest file of weights."""
    weights = max(directory.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = weights.read_bytes()
    weights.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": b"\xff" * len(content)}[how])


@pytest.mark.parametrize("how", ["cut", "empty", "noise"])
def test_a_corrupt_model_is_refused_though_its_digest_was_signed(
    settings: Settings, params: Params, shelf: Shelf, how: str, tmp_path: Path
) -> None:
    """Broken before it was registered, so that only the real loader can find out."""
    keys = Keys.load(settings.paths.secrets)
    metrics = Metrics()
    surfaces = params.serving.repeat_surfaces
    store = ModelStore(shelf, keys, settings.paths.models, metrics, repeat_surfaces=surfaces, reload_seconds=3600)

    def publish(number: str, spoil: bool) -> None:
        directory = build_tiny_model(shelf.root / number)
        if spoil:
            corrupt(directory, how)
        bare = ModelVersion(number, "full", "dataset-1", "abc", "def", digest(directory), "run")
        gate = keys.sign(gate_record(bare, passed=True, champion=None, checks={"quality": True}))
        shelf.retag(bare, {GATE: to_tag(gate), PROMOTION: to_tag(keys.sign(promotion_record(bare, gate, "ada")))})

    publish("1", spoil=False)
    store.check()
    publish("2", spoil=True)
    store.check()
    state = store.state()
    assert state.model_version == "1"
    assert state.refused is not None
    assert state.refused.model_version == "2"
    assert "cannot be read as a model" in state.refused.reason
    assert metrics.registry.get_sample_value("endcap_model_refused_total", {"cause": "load"}) == 1


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_a_refused_champion_is_tried_again_whatever_the_clock_on_the_wall_says(
    service: Service, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    broken, loads = True, []

    def load(directory: Path) -> Any:
        loads.append(directory)
        if broken:
            raise ValueError("cannot be read yet")
        return CountingModel.load(directory)

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + jump

    beat = time.monotonic
    service.models._load = load
    shelf.publish(1)
    service.models.check()
    monkeypatch.setattr(model_store, "datetime", Jumped)
    service.models.check()
    assert len(loads) == 1  # not at once again
    broken = False
    monkeypatch.setattr(model_store.time, "monotonic", lambda: beat() + model_store.RETRY_SECONDS)
    service.models.check()
    assert service.models.current is not None


def test_a_clock_that_jumps_never_locks_a_caller_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = [time.time()]
    monkeypatch.setattr(memory.time, "time", lambda: wall[0])
    counter = Counter(Rates(shop=Rate(calls=2, seconds=10)), "", Metrics())

    async def run() -> None:
        for jump in (0, 86_400, -2 * 86_400):  # each jump may give a new window, and never less than that
            wall[0] += jump
            verdicts = [await counter.count("shop", "a") for _ in range(3)]
            assert [verdict.allowed for verdict in verdicts] == [True, True, False]
            assert 0 <= verdicts[2].reset_seconds <= 20
            wall[0] += 20
            assert (await counter.count("shop", "a")).allowed
            wall[0] += 40

    asyncio.run(run())


def test_a_clock_ahead_ends_keys_early_and_one_set_right_brings_them_back(
    client: TestClient, service: Service, settings: Settings
) -> None:
    key = pseudonym_key("", settings.paths.secrets)
    table = ApiKeys(settings.event_log_url, key, AuditLog(settings.event_log_url, Keys.load(settings.paths.secrets)))
    text = table.create(Role.READER, "grafana", "ada", days=30)[1]
    table.close()
    service.keys.check()
    service.keys._clock = lambda: datetime.now(UTC) + timedelta(days=31)
    with pytest.raises(KeyRefused, match="is expired"):
        service.keys.identify(f"Bearer {text}")
    service.keys._clock = lambda: datetime.now(UTC) - timedelta(days=31)
    assert service.keys.identify(f"Bearer {text}").role is Role.READER


def test_events_from_a_clock_ahead_are_named_and_not_stored(client: TestClient) -> None:
    late = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    answer = client.post("/v1/events", json=[event(1, time=late), event(2)]).json()
    assert (answer["accepted"], [rejected["index"] for rejected in answer["rejected"]]) == (1, [0])
    assert "minutes ahead" in answer["rejected"][0]["reason"]


def test_on_a_slow_disk_slates_are_marked_health_answers_and_events_may_be_sent_again(
    served: TestClient, service: Service, log: EventLog
) -> None:
    """The disk takes a write and does not come back: an event call waits for it, a slate waits its patience only."""
    began, go_on, append = threading.Event(), threading.Event(), service._event_log.append
    answers: list[dict[str, int]] = []

    def slow(events: Any) -> Any:
        began.set()
        go_on.wait(60)
        return append(events)

    service._event_log.append = slow  # type: ignore[method-assign]
    service._exposures.patience_seconds = 0.05
    sender = threading.Thread(target=lambda: answers.append(served.post("/v1/events", json=[event(1)]).json()))
    sender.start()
    try:
        assert began.wait(30)
        assert ask(served)["fallback_reason"] == "exposures_late"
        assert served.get("/healthz").status_code == 200
        assert served.get("/readyz").status_code == 200
    finally:
        go_on.set()
        sender.join()
    assert answers == [{"accepted": 1, "duplicates": 0, "rejected": []}]
    assert served.post("/v1/events", json=[event(1)]).json()["duplicates"] == 1  # as a sender does that gave up waiting
    assert log.claim("all", datetime(2027, 1, 1, tzinfo=UTC)) == 1
