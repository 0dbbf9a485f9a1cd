"""More calls than can be answered: those that were accepted keep their place, the others are turned away at once."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.unit.serving.conftest import CountingModel, Shelf, event

from endcap.config import Params, Settings
from endcap.errors import Overloaded
from endcap.serving.app import create_app
from endcap.serving.metrics import Metrics
from endcap.serving.service import Service
from endcap.serving.workers import Workers

THREADS, WAITING = 6, 3  # threads for slates as service.py has them; places in the queue


class Gate:
    """A model that answers nobody before it is opened, and notes in which order calls came to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.inside, self.most, self._lock = threading.Event(), 0, 0, threading.Lock()
        self.shut = False
        score = CountingModel.score

        def slow(*arguments: Any) -> Any:
            if self.shut:
                with self._lock:
                    self.inside += 1
                    self.most = max(self.most, self.inside)
                self.opened.wait(60)
                with self._lock:
                    self.inside -= 1
            return score(*arguments)

        monkeypatch.setattr(CountingModel, "score", slow)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


@pytest.fixture
def service(settings: Settings, params: Params, shelf: Shelf, gate: Gate) -> Service:
    shelf.publish(1)
    return make(settings, params, shelf)


def make(settings: Settings, params: Params, shelf: Shelf, **more: Any) -> Service:
    serving = params.serving.model_copy(update={"reload_seconds": 3600.0, "max_waiting": WAITING, **more})
    return Service(settings, params.model_copy(update={"serving": serving}), shelf, CountingModel.load)


def play(service: Service, scene: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a scene against the application in one event loop, as uvicorn would."""

    async def run() -> None:
        app = create_app(service=service)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", timeout=60) as client,
        ):
            await until(lambda: service.models.current is not None)  # its own thread takes model 1, and nobody else scores
            await scene(client)

    asyncio.run(run())


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not met():
            await asyncio.sleep(0.01)


def slate(client: httpx.AsyncClient) -> asyncio.Task[httpx.Response]:
    return asyncio.ensure_future(client.post("/v1/recommendations", json={"k": 1}))


def shed(service: Service, work: str, reason: str) -> float:
    return service.metrics.registry.get_sample_value("endcap_shed_total", {"work": work, "reason": reason}) or 0.0


def test_what_is_accepted_waits_behind_few_and_the_rest_is_told_at_once(service: Service, gate: Gate) -> None:
    """Nobody who was accepted stands behind more than WAITING others: 10 calls too many change nothing for them."""

    async def scene(client: httpx.AsyncClient) -> None:
        gate.shut = True
        accepted = [slate(client) for _ in range(THREADS + WAITING)]
        await until(lambda: service.metrics.registry.get_sample_value("endcap_waiting", {"work": "slates"}) == WAITING)
        refused = await asyncio.gather(*(slate(client) for _ in range(10)))  # the gate is shut: these did not wait for it
        assert {answer.status_code for answer in refused} == {503}
        assert refused[0].headers["retry-after"] == "1"
        assert refused[0].headers["content-type"] == "application/problem+json"
        assert "nothing of this call was done" in refused[0].json()["action"]
        assert not any(task.done() for task in accepted)
        health = [await client.get(path) for path in ("/healthz", "/readyz", "/v1/model", "/metrics")]
        assert {answer.status_code for answer in health} == {200}
        stored = await client.post("/v1/events", json=[event(1)])  # another kind of work has threads of its own
        assert stored.json()["accepted"] == 1
        gate.opened.set()
        answers = await asyncio.gather(*accepted)
        assert Counter(answer.status_code for answer in answers) == {200: THREADS + WAITING}
        assert not any(answer.json()["fallback"] for answer in answers)

    play(service, scene)
    assert gate.most == THREADS
    assert shed(service, "slates", "queue_full") == 10


def test_after_the_rush_everybody_is_answered_again(service: Service, gate: Gate) -> None:
    async def scene(client: httpx.AsyncClient) -> None:
        gate.shut = True
        tasks = [slate(client) for _ in range(30)]
        await until(lambda: sum(task.done() for task in tasks) == 30 - THREADS - WAITING)
        gate.opened.set()
        await asyncio.gather(*tasks)
        assert [(await slate(client)).status_code for _ in range(3)] == [200] * 3
        assert service.metrics.registry.get_sample_value("endcap_waiting", {"work": "slates"}) == 0

    play(service, scene)


def test_a_call_without_an_answer_is_given_up_and_its_thread_counts_until_it_ends(
    settings: Settings, params: Params, shelf: Shelf, gate: Gate
) -> None:
    shelf.publish(1)
    service = make(settings, params, shelf, deadline_seconds=2.0)

    async def scene(client: httpx.AsyncClient) -> None:
        gate.shut = True
        late = await asyncio.gather(*(slate(client) for _ in range(THREADS + WAITING)))
        assert {answer.status_code for answer in late} == {503}
        assert "serving.deadline_seconds" in late[0].json()["detail"]
        assert late[0].headers["retry-after"] == "1"
        assert gate.inside == THREADS  # the hung ones hold their threads; those that waited have left the queue
        assert service.metrics.registry.get_sample_value("endcap_waiting", {"work": "slates"}) == 0
        assert (await client.get("/healthz")).status_code == 200
        gate.opened.set()
        gate.shut = False
        await until(lambda: gate.inside == 0)
        assert (await slate(client)).status_code == 200

    play(service, scene)
    assert gate.most == THREADS
    assert shed(service, "/v1/recommendations", "deadline") == THREADS + WAITING


def test_a_body_that_drips_in_is_given_up(settings: Settings, params: Params, shelf: Shelf) -> None:
    service = make(settings, params, shelf, deadline_seconds=0.3)

    async def endless() -> Any:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async def ask() -> tuple[int, bytes]:
        """By hand: httpx's transport sends a body only once it has all of it."""
        app = create_app(service=service)
        sent: list[dict[str, Any]] = []
        body = endless()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(body), "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async with app.router.lifespan_context(app):
            await app(scope(), receive, send)  # type: ignore[arg-type]
        return sent[0]["status"], sent[1]["body"]

    status, body = asyncio.run(ask())
    assert status == 408
    assert b"was not whole" in body


def test_bodies_on_their_way_are_limited_too(service: Service) -> None:
    """Each may be 5 MB: so many calls may be under way, and one more is turned away before its body is read."""

    async def scene(client: httpx.AsyncClient) -> None:
        app: Any = client._transport.app  # type: ignore[attr-defined]
        waiting, go_on = 0, asyncio.Event()

        async def send_nothing_yet() -> None:
            async def receive() -> dict[str, Any]:
                nonlocal waiting
                waiting += 1
                await go_on.wait()
                return {"type": "http.request", "body": b"[]", "more_body": False}

            async def send(message: dict[str, Any]) -> None:
                statuses.append(message.get("status"))

            await app(scope(), receive, send)

        statuses: list[int | None] = []
        calls = [asyncio.ensure_future(send_nothing_yet()) for _ in range(service.most_calls)]
        await until(lambda: waiting == service.most_calls)
        refused = await client.post("/v1/events", content=b"[]")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "under way" in refused.json()["detail"]
        assert (await client.get("/healthz")).status_code == 200
        go_on.set()
        await asyncio.gather(*calls)
        assert (await client.post("/v1/events", content=b"[]")).status_code == 202

    play(service, scene)
    assert shed(service, "/v1/events", "too_many") == 1


def scope() -> dict[str, Any]:
    """A POST to /v1/events as a server hands it over."""
    return {
        "type": "http", "method": "POST", "path": "/v1/events", "raw_path": b"/v1/events", "query_string": b"",
        "headers": [(b"transfer-encoding", b"chunked")], "client": ("127.0.0.1", 1), "scheme": "http",
        "http_version": "1.1", "root_path": "", "server": ("service", 80),
    }  # fmt: skip


def test_a_full_queue_does_not_call_what_it_turns_away() -> None:
    metrics, go_on, called = Metrics(), threading.Event(), []
    workers = Workers("slates", 1, 1, metrics)

    async def run() -> None:
        tasks = [asyncio.ensure_future(workers.run(lambda n=n: (called.append(n), go_on.wait(30)))) for n in range(2)]
        await until(lambda: called == [0])
        with pytest.raises(Overloaded, match=r"slates: too many calls wait \(1\)"):
            await workers.run(called.append, 9)
        go_on.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    workers.close()
    assert called == [0, 1]


def test_what_raises_gives_its_place_back() -> None:
    workers = Workers("slates", 1, 1, Metrics())

    async def run() -> None:
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await workers.run(lambda: 1 / 0)

    asyncio.run(run())
    workers.close()
