"""No call takes longer than a deadline: neither one whose body drips in, nor one whose work hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from endcap.serving.problems import RETRY_SECONDS, problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from endcap.serving.metrics import Metrics


class Deadline:
    """ASGI middleware: 408 when the body was not whole after `seconds`, 503 when the answer was not."""

    def __init__(self, app: ASGIApp, seconds: float, metrics: Metrics) -> None:
        self.app, self.seconds, self.metrics = app, seconds, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        whole, started = False, False

        async def watched_receive() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self.seconds) as watch:
                await self.app(scope, watched_receive, watched_send)
        except TimeoutError:
            if not watch.expired() or started:
                raise
            self.metrics.shed.labels(getattr(scope.get("route"), "path", "unknown"), "deadline").inc()
            reading = scope["method"] in ("POST", "PUT", "PATCH") and not whole
            await (self._slow_body() if reading else self._slow_work())(scope, receive, send)

    def _slow_body(self) -> ASGIApp:
        action = "Send the body at once; nothing of this call was done."
        answer = problem(408, f"The body was not whole after {self.seconds:g} s.", field="body", action=action)
        answer.headers["Connection"] = "close"
        return answer

    def _slow_work(self) -> ASGIApp:
        action = "Send it again: events that were stored count once. See docs/runbooks/service-overloaded.md."
        answer = problem(503, f"There was no answer within {self.seconds:g} s (serving.deadline_seconds).", action=action)
        answer.headers["Retry-After"] = RETRY_SECONDS
        return answer
