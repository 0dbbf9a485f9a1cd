"""No request body grows past a limit, however it is sent: a huge line costs a refusal, not the memory of the service.

Compressed bodies are refused unread: a few kilobytes of them can be gigabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from endcap.serving.problems import problem

if TYPE_CHECKING:
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 5_000_000


class BodyLimit:
    """ASGI middleware: 413 when a body is announced, or turns out, to be larger than `limit` bytes; 415 for a packed one."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY_BYTES) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if (encoding := headers.get(b"content-encoding", b"identity").strip().lower()) not in (b"identity", b""):
            await _packed(encoding.decode("latin-1"))(scope, receive, send)
            return
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit():
            await _no_length(announced.decode("latin-1"))(scope, receive, send)
            return
        if int(announced) > self.limit:
            await self._too_large(announced.decode())(scope, receive, send)
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
                await self._too_large(f"more than {self.limit}")(scope, receive, send)

    def _too_large(self, value: str) -> JSONResponse:
        action = "Send fewer or smaller events a call; nothing of this call was stored."
        detail = f"The body is larger than {self.limit:,} bytes."
        return _closing(problem(413, detail, field="Content-Length", value=value, action=action))


def _packed(encoding: str) -> JSONResponse:
    action = "Send the body uncompressed; nothing of this call was stored."
    return _closing(problem(415, "The body is compressed.", field="Content-Encoding", value=encoding, action=action))


def _no_length(value: str) -> JSONResponse:
    action = "Send the number of bytes, or leave it out and send the body in chunks."
    return _closing(problem(400, "The length is no number.", field="Content-Length", value=value, action=action))


def _closing(answer: JSONResponse) -> JSONResponse:
    """The rest of the body is not read, so the connection cannot be used again."""
    answer.headers["Connection"] = "close"
    return answer


class _TooLarge(BaseException):
    """Not an Exception: the application's own handlers must not answer it with 400 or 500."""
