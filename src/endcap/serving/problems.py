"""Errors as application/problem+json (RFC 9457): which field, which value, what to do. Never a stack trace."""

from __future__ import annotations

import difflib
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from endcap.errors import EndcapError, InputError, ServiceUnavailable, shorten

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = "1"  # what a 503 says: parts that are away are tried again every second
SEE_DOCS = "See /docs for the fields and an example."


class Problem(BaseModel):
    """What went wrong and what to do about it."""

    type: str = Field("about:blank", description="A URI for the kind of problem.")
    title: str = Field(description="The HTTP status in words.", examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(description="What is wrong, in one sentence.", examples=["k: must be at most 100; got 5000."])
    field: str | None = Field(None, description="The field or header that is wrong.", examples=["k"])
    value: str | None = Field(None, description="The value it had, shortened.", examples=["5000"])
    action: str | None = Field(None, description="What to do next.", examples=["Ask for at most 100 items."])


def problem(status: int, detail: str, *, field: str = "", value: object = None, action: str = "") -> JSONResponse:
    """A problem+json response."""
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        field=field or None,
        value=None if value is None else shorten(value),
        action=action or None,
    )
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, media_type=MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for problems with these statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "model": Problem, "content": content} for status in statuses}


def explain(error: Any, known: tuple[str, ...] = ()) -> tuple[str, str, object, str]:
    """(field, problem, value, action) of one pydantic error; an unknown field is compared with the `known` ones."""
    place = [str(part) for part in error["loc"]]
    field = _sayable(".".join(place[1:] if place[:1] in (["body"], ["path"], ["query"]) else place))
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        action = f"Did you mean `{near[0]}`?" if near else f"Leave it out. {SEE_DOCS}"
        return field, "is not a known field", value, action
    if error["type"] == "missing":
        return field, "is required", None, f"Add it. {SEE_DOCS}"
    if error["type"] == "json_invalid":
        return "body", f"is not JSON ({error.get('ctx', {}).get('error', 'malformed')})", None, "Send one JSON object."
    message = str(error["msg"]).removeprefix("Value error, ")
    return field, message[0].lower() + message[1:], value, SEE_DOCS


def _sayable(name: str) -> str:
    """A field name as a caller may have made it up, short and fit for UTF-8."""
    return name[:80].encode("utf-8", errors="backslashreplace").decode()


def install(app: FastAPI, known_fields: tuple[str, ...]) -> None:
    """Answer every error of `app` as a problem. `known_fields` are offered when a request has a misspelt one."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        field, what, value, action = explain(error.errors()[0], known_fields)
        status = 400 if field == "body" else 422
        return problem(status, f"{field or 'body'}: {what}.", field=field or "body", value=value, action=action)

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # the only one that FastAPI raises: JSON too deep, a number with too many digits
            detail = "body: is JSON that nobody could mean: too deep, or a number with too many digits."
            return problem(400, detail, field="body", action="Send one JSON object.")
        action = "`/` lists the routes, /docs explains them." if error.status_code in (404, 405) else ""
        return problem(error.status_code, str(error.detail), action=action)

    @app.exception_handler(EndcapError)
    async def known(_request: Request, error: EndcapError) -> JSONResponse:
        status = 503 if isinstance(error, ServiceUnavailable) else 422 if isinstance(error, InputError) else 500
        answer = problem(status, error.problem, field=error.field, value=error.value, action=error.action)
        if status == 503:
            answer.headers["Retry-After"] = RETRY_SECONDS
        return answer

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", extra={"path": request.url.path}, exc_info=error)
        return problem(
            500, "The service failed on this request.", action="The log of the service has the cause (`endcap logs`)."
        )
