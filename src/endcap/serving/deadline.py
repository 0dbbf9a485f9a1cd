"""How long a call may take, with its body and its work, and how many may be under way: each may hold a body in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from endcap.serving.access import OPEN
from endcap.serving.problems import RETRY_SECONDS, problem

if TYPE_CHECKING:
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from endcap.serving.metrics import Metrics


class Deadline:
    """ASGI middleware: 408 when the body was not whole after `seconds`, 503 when the answer was not.

    Also 503, at once, when `most` calls are under way. Health is answered in any case.
    """

    def __init__(self, app: ASGIApp, seconds: float, most: int, metrics: Metrics) -> None:
        self.app, self.seconds, self.most, self.metrics = app, seconds, most, metrics
        self._under_way = 0  # changed in the event loop alone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or getattr(scope.get("route"), "path", "") in OPEN:
            await self.app(scope, receive, send)
            return
        if self._under_way >= self.most:
            self._count(scope, "too_many")
            await _busy(f"{self.most} calls are under way.", _NOTHING)(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._timed(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            self._count(scope, "deadline")
            reading = scope["method"] in ("POST", "PUT", "PATCH") and not whole
            told = f"There was no answer within {self.seconds:g} s (serving.deadline_seconds)."
            answer = _dripping(self.seconds) if reading else _busy(told, _PERHAPS)
            await answer(scope, receive, send)

    def _count(self, scope: Scope, reason: str) -> None:
        self.metrics.shed.labels(getattr(scope.get("route"), "path", "unknown"), reason).inc()


_NOTHING = "Wait as Retry-After says and send it again; nothing of this call was done."
_PERHAPS = "Send it again: events that were stored count once. See docs/runbooks/service-overloaded.md."


def _busy(told: str, action: str) -> JSONResponse:
    answer = problem(503, told, action=action)
    answer.headers["Retry-After"] = RETRY_SECONDS
    return answer


def _dripping(seconds: float) -> JSONResponse:
    action = "Send the body at once; nothing of this call was done."
    answer = problem(408, f"The body was not whole after {seconds:g} s.", field="body", action=action)
    answer.headers["Connection"] = "close"
    return answer
