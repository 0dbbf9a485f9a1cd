"""How often a caller may call: counted in this process or, for all, in a real Redis; and what holds while that is away."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.fixtures.programs import missing
from tests.fixtures.stack import free_ports
from tests.unit.serving.conftest import CountingModel, Shelf

from endcap.config import Params, Settings
from endcap.errors import ConfigError
from endcap.sections import Rate, Rates
from endcap.serving.app import create_app
from endcap.serving.metrics import Metrics
from endcap.serving.rates import Counter, Verdict
from endcap.serving.service import Service

TIGHT = Rates(shop=Rate(calls=3, seconds=3600), anonymous=Rate(calls=2, seconds=3600))


def counted(counter: Counter, *callers: str, role: str = "shop") -> list[Verdict]:
    """What became of calls, in a loop of their own."""

    async def run() -> list[Verdict]:
        verdicts = [await counter.count(role, caller) for caller in callers]
        await counter.close()
        return verdicts

    return asyncio.run(run())


def make_client(settings: Settings, params: Params, shelf: Shelf, rates: Rates = TIGHT) -> TestClient:
    serving = params.serving.model_copy(update={"reload_seconds": 3600.0, "rates": rates})
    service = Service(settings, params.model_copy(update={"serving": serving}), shelf, CountingModel.load)
    return TestClient(create_app(service=service))


def sample(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name) or 0.0


def test_a_caller_gets_as_many_calls_as_its_role_has_and_no_more() -> None:
    verdicts = counted(Counter(TIGHT, "", Metrics()), "a", "a", "a", "a", "b")
    assert [verdict.allowed for verdict in verdicts] == [True, True, True, False, True]
    assert [verdict.remaining for verdict in verdicts] == [2, 1, 0, 0, 2]


def test_who_calls_too_often_is_told_when_to_come_again(settings: Settings, params: Params, shelf: Shelf) -> None:
    with make_client(settings, params, shelf) as client:
        answers = [client.get("/v1/model") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"anonymous";q=2;w=3600'
        assert answers[0].headers["ratelimit"].startswith('"anonymous";r=1;t=')
        refused = answers[2]
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert refused.headers["content-type"] == "application/problem+json"
        assert "serving.rates.anonymous" in refused.json()["detail"]
        assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


def test_refusals_by_rate_are_counted(settings: Settings, params: Params, shelf: Shelf) -> None:
    with make_client(settings, params, shelf) as client:
        for _ in range(3):
            client.get("/v1/model")
        service: Service = client.app.state.service  # type: ignore[attr-defined]
        rendered = service.metrics.render().decode()
        assert 'endcap_rate_refusals_total{role="anonymous"} 1.0' in rendered


def test_guessing_at_keys_is_limited_by_address(settings: Settings, params: Params, shelf: Shelf) -> None:
    with make_client(settings.model_copy(update={"api_keys": "required"}), params, shelf) as client:
        assert [client.get("/v1/model").status_code for _ in range(3)] == [401, 401, 429]


@pytest.mark.redis
def test_processes_count_together_in_redis(redis_url: str) -> None:
    one, two = Metrics(), Metrics()
    verdicts = counted(Counter(TIGHT, redis_url, one), "together", "together")
    verdicts += counted(Counter(TIGHT, redis_url, two), "together", "together")
    assert [verdict.allowed for verdict in verdicts] == [True, True, True, False]
    assert [verdict.remaining for verdict in verdicts] == [None, None, None, 0]
    assert "Retry-After" in verdicts[-1].headers()
    assert sample(two, "endcap_rate_store_up") == 1
    assert sample(two, "endcap_rate_fallbacks_total") == 0


@pytest.mark.redis
def test_a_window_ends_in_redis_too(redis_url: str) -> None:
    short = Rates(shop=Rate(calls=1, seconds=1))

    async def run() -> None:
        counter = Counter(short, redis_url, Metrics())
        assert (await counter.count("shop", "ends")).allowed
        assert not (await counter.count("shop", "ends")).allowed
        end = time.monotonic() + 30
        while not (await counter.count("shop", "ends")).allowed:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)
        await counter.close()

    asyncio.run(run())


@contextlib.contextmanager
def redis_at(port: int, folder: Path) -> Iterator[None]:
    program = shutil.which("redis-server") or missing("Redis is not installed (scripts/system-packages installs it)")
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.mark.redis
def test_while_redis_is_away_each_process_counts_alone_and_says_so(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    metrics, now = Metrics(), [0.0]

    async def run() -> None:
        counter = Counter(TIGHT, f"redis://127.0.0.1:{port}/0", metrics, clock=lambda: now[0])
        with redis_at(port, tmp_path):
            assert (await counter.count("shop", "a")).allowed
            assert not counter.away
        assert [(await counter.count("shop", "a")).allowed for _ in range(4)] == [True, True, True, False]
        assert counter.away
        assert sample(metrics, "endcap_rate_store_up") == 0
        assert sample(metrics, "endcap_rate_fallbacks_total") == 4
        with redis_at(port, tmp_path):
            now[0] += 2.0  # the pause is over
            assert (await counter.count("shop", "a")).allowed
            assert not counter.away
        assert sample(metrics, "endcap_rate_store_up") == 1
        await counter.close()

    asyncio.run(run())


def test_a_redis_that_never_was_there_does_not_stop_answers(settings: Settings, params: Params, shelf: Shelf) -> None:
    with make_client(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}), params, shelf) as client:
        assert [client.get("/v1/model").status_code for _ in range(3)] == [200, 200, 429]
        assert any("Redis away" in line for line in client.get("/readyz").json()["degraded"])


def test_a_redis_that_accepts_and_says_nothing_is_given_up_on(settings: Settings, params: Params, shelf: Shelf) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        verdicts = counted(Counter(TIGHT, url, Metrics(), clock=lambda: 0.0), "a", "a", "a", "a")
    assert [verdict.allowed for verdict in verdicts] == [True, True, True, False]


def test_a_url_that_is_none_names_the_variable_and_not_the_password(params: Params) -> None:
    with pytest.raises(ConfigError, match="ENDCAP_REDIS_URL") as raised:
        Counter(TIGHT, "http://:secret@redis:6379/0", Metrics())
    assert "secret" not in str(raised.value)
