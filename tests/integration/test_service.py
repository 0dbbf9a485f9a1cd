"""The service as a process of its own: what it acknowledged survives kill -9, and the registry may come and go."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.fixtures.mlflow import free_port, mlflow_server
from tests.fixtures.tiny_model import UNTIL, build_tiny_model

from endcap.config import load_settings
from endcap.contracts import ModelVersion
from endcap.data.events import EventLog
from endcap.release.promotion import promote
from endcap.release.records import GATE, gate_record, to_tag
from endcap.release.registry import Registry
from endcap.release.signing import Keys

START_SECONDS = 60


@dataclass
class Process:
    """A running `endcap serve`."""

    popen: subprocess.Popen[bytes]
    url: str
    output: Path

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()

    def wait_for(self, met: Callable[[dict[str, Any]], bool], path: str = "/v1/model") -> dict[str, Any]:
        """The JSON at `path` once it is as wanted."""
        end = time.monotonic() + START_SECONDS
        state: dict[str, Any] = {}
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                state = httpx.get(self.url + path, timeout=10).json()
                if met(state):
                    return state
            assert self.popen.poll() is None, self.output.read_text()
            time.sleep(0.1)
        raise AssertionError(f"{path} stayed {state}:\n{self.output.read_text()}")


Start = Callable[..., Process]


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts services over the test's home; those still alive at its end are stopped."""
    running: list[Process] = []

    def run(**environ: str) -> Process:
        port = free_port()
        output = tmp_path / f"service-{port}.log"
        own = {"ENDCAP_HOME": str(home), "ENDCAP_MLFLOW_URL": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1", **environ}
        command = [sys.executable, "-m", "endcap.cli", "serve", "--port", str(port)]
        with output.open("wb") as log:
            popen = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
        process = Process(popen, f"http://127.0.0.1:{port}", output)
        running.append(process)
        process.wait_for(lambda state: state["status"] == "ok", "/healthz")
        return process

    yield run
    for process in running:
        if process.popen.poll() is None:
            process.popen.terminate()
            try:
                process.popen.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def event(name: str) -> dict[str, Any]:
    return {
        "event_id": name,
        "type": "purchase",
        "user_id": "u1",
        "item_id": "item01",
        "time": "2011-11-01T10:00:00Z",
        "price": 1.0,
    }


def kill_under_load(service: Process) -> tuple[set[str], set[str]]:
    """Send events and ask for slates from several threads until it is killed amid them. Returns what it acknowledged."""
    events: set[str] = set()
    requests: set[str] = set()

    def send(shop: int) -> None:
        with httpx.Client(base_url=service.url, timeout=10) as http, contextlib.suppress(httpx.TransportError):
            for number in range(100_000):
                names = [f"shop{shop}-{number}-{line}" for line in range(3)]
                answer = http.post("/v1/events", json=[event(name) for name in names])
                assert answer.status_code == 202, answer.text
                events.update(names)

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=10) as http, contextlib.suppress(httpx.TransportError):
            while True:
                answer = http.post("/v1/recommendations", json={"user_id": "u1", "k": 2}).json()
                if answer["items"]:
                    requests.add(answer["request_id"])

    threads = [threading.Thread(target=send, args=(shop,)) for shop in range(3)] + [threading.Thread(target=ask)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + START_SECONDS
    while (len(events) < 150 or len(requests) < 10) and time.monotonic() < end:
        time.sleep(0.01)
    service.kill()
    for thread in threads:
        thread.join()
    assert len(events) >= 150
    assert len(requests) >= 10
    return events, requests


def stored_events(log: EventLog) -> set[str]:
    log.claim("all", UNTIL)
    return set(log.batch_event_ids("all"))


def check_survival(start: Start, log: EventLog, **environ: str) -> None:
    from tests.unit.serving.conftest import catalogue

    log.create()
    log.upsert_catalog(catalogue(["item01", "item02"]))
    events, requests = kill_under_load(start(**environ))
    again = start(**environ)
    known = sorted(events)[:10]
    resent = httpx.post(f"{again.url}/v1/events", json=[event(name) for name in known]).json()
    assert resent == {"accepted": 0, "duplicates": 10, "rejected": []}
    assert events <= stored_events(log)
    assert all(log.request(request) for request in requests)


def test_what_was_acknowledged_survives_kill_9(start: Start, home: Path) -> None:
    check_survival(start, EventLog(load_settings().event_log_url))


@pytest.mark.postgres
def test_what_was_acknowledged_survives_kill_9_with_postgresql(start: Start, postgres_url: str) -> None:
    log = EventLog(postgres_url)
    check_survival(start, log, ENDCAP_EVENT_LOG_URL=postgres_url)
    log.close()


def test_without_an_event_log_events_are_refused_and_slates_answered(start: Start) -> None:
    service = start(ENDCAP_EVENT_LOG_URL="postgresql://nobody@127.0.0.1:9/nothing")
    refused = httpx.post(f"{service.url}/v1/events", json=[event("e1")])
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    answer = httpx.post(f"{service.url}/v1/recommendations", json={"user_id": "u1"})
    assert (answer.status_code, answer.json()["fallback"]) == (200, True)
    assert httpx.get(f"{service.url}/readyz").status_code == 503


def test_a_port_in_use_is_said_in_one_line(start: Start, home: Path) -> None:
    port = start().url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "endcap.cli", "serve", "--port", port]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert f"127.0.0.1:{port}" in second.stderr
    assert "Traceback" not in second.stderr


def candidate(registry: Registry, directory: Path, seed: int) -> ModelVersion:
    """A tiny model in MLflow, not judged yet."""
    return registry.register(
        build_tiny_model(directory, seed=seed),
        kind="full",
        dataset_version="dataset-1",
        code_commit="abc",
        code_tree="def",
        params_hash="123",
        parent_version=None,
        metrics={},
    )


def earn(registry: Registry, keys: Keys, version: ModelVersion) -> None:
    """Pass the gates and be approved."""
    before = registry.champion()
    record = gate_record(version, passed=True, champion=before.version if before else None, checks={"quality": True})
    registry.set_tags(version.version, {GATE: to_tag(keys.sign(record))})
    promote(registry, keys, version.version, "ada")


def test_the_champion_of_mlflow_serves_and_outlives_it(start: Start, home: Path, tmp_path: Path) -> None:
    keys = Keys.load(load_settings().paths.secrets)
    with mlflow_server(tmp_path / "mlflow") as url:
        registry = Registry(url)
        first, second = (candidate(registry, tmp_path / f"model{seed}", seed) for seed in (1, 2))
        earn(registry, keys, first)
        service = start(ENDCAP_MLFLOW_URL=url)
        service.wait_for(lambda state: state["model_version"] == first.version)
        registry.set_champion(second.version)  # by hand, without gates or approval
        state = service.wait_for(lambda state: state["refused"] is not None)
        assert (state["model_version"], state["refused"]["model_version"]) == (first.version, second.version)
        registry.set_champion(first.version)
        earn(registry, keys, second)
        state = service.wait_for(lambda state: state["model_version"] == second.version)
        assert (state["refused"], state["approved_by"], state["digest"]) == (None, "ada", second.digest)
    service.kill()
    service = start(ENDCAP_MLFLOW_URL=url)  # MLflow is gone
    state = service.wait_for(lambda state: state["model_version"] == second.version)
    assert (state["source"], state["registry_up"]) == ("disk", False)
    events = [{**event(f"e{number}"), "item_id": "item04"} for number in range(3)]
    httpx.post(f"{service.url}/v1/events", json=events).raise_for_status()
    body = {"user_id": "u1", "k": 5, "explain": True, "context": {"time": UNTIL.isoformat()}}
    answer = httpx.post(f"{service.url}/v1/recommendations", json=body, timeout=20).json()
    assert (answer["fallback"], answer["model_version"]) == (False, second.version)
    reasons = {item["item_id"]: item["reasons"][0]["text"] for item in answer["items"]}
    assert reasons["item04"] == "You bought this 3 times"
