"""No request body grows past a limit, however it is sent: a huge line costs a refusal, not the memory of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endcap.serving.problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 5_000_000


class BodyLimit:
    """ASGI middleware: 413 as soon as a body is announced, or turns out, to be larger than `limit` bytes."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self.limit:
            await self._refuse(announced.decode(errors="replace"), scope, receive, send)
            return
        seen, started = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except _TooLarge:
            if not started:
                await self._refuse(f"more than {self.limit}", scope, receive, send)

    async def _refuse(self, value: str, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem(
            413,
            f"The body is larger than {self.limit:,} bytes.",
            field="Content-Length",
            value=value,
            action="Send fewer or smaller events a call; nothing of this call was stored.",
        )
        response.headers["Connection"] = "close"
        await response(scope, receive, send)


class _TooLarge(BaseException):
    """Not an Exception: the application's own handlers must not answer it with 400 or 500."""
