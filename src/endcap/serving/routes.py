"""The routes of the HTTP contract, version 1. Each is a few lines: the work is done in the modules beside this one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from endcap.contracts import Surface
from endcap.serving.canary_page import render as render_canary
from endcap.serving.canary_shown import CanaryShown
from endcap.serving.event_intake import MAX_EVENTS
from endcap.serving.landing import page
from endcap.serving.problems import problem, responses
from endcap.serving.reference import reference
from endcap.serving.schemas import (
    Context,
    EventsAnswer,
    Health,
    Identifier,
    ModelState,
    Readiness,
    RecommendationAnswer,
    RecommendationRequest,
)
from endcap.serving.service import Service

shop = APIRouter(prefix="/v1", tags=["shop"])
operations = APIRouter(tags=["operations"])

_EVENTS_SCHEMA = {"type": "array", "items": {"$ref": "#/components/schemas/Event"}, "maxItems": MAX_EVENTS}
_PURCHASE = {"event_id": "536365-1", "type": "purchase", "user_id": "17850", "item_id": "84077", "quantity": 2, "price": 0.29}
_VIEW = {"event_id": "v-81", "type": "view", "user_id": "17850", "item_id": "22423", "surface": "home"}
_EVENTS_EXAMPLE = [{**_PURCHASE, "time": "2026-11-07T10:00:00Z"}, {**_VIEW, "time": "2026-11-07T10:01:30Z"}]
_EVENTS_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _EVENTS_SCHEMA, "example": _EVENTS_EXAMPLE},
        "application/x-ndjson": {"schema": {"type": "string", "description": "One event a line."}},
    },
}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@shop.post("/recommendations", summary="A slate for one shopper", responses=responses(400, 413, 422))
async def recommend(body: RecommendationRequest, request: Request) -> RecommendationAnswer:
    """What should stand on the shelf for this shopper, here and now.

    The answer is logged as an exposure before it is sent. Send its `request_id` back with the events that it leads to.
    `fallback: true` marks an answer that is worse than it should be, e.g. while no model has earned its place.
    """
    return await _service(request).recommend(body)


@shop.get(
    "/items/{item_id:path}/related",
    summary="What goes with an item",
    responses=responses(400, 404, 422),
    response_model=RecommendationAnswer,
)
async def related(
    item_id: Identifier, request: Request, k: Annotated[int, Query(ge=1, description="How many items.")] = 10
) -> RecommendationAnswer | JSONResponse:
    """A slate for the page of one product, for a stranger: as /v1/recommendations with `context.item_id`."""
    service = _service(request)
    body = RecommendationRequest(surface=Surface.PRODUCT, k=k, context=Context(time=None, item_id=item_id))
    if (answer := await service.related(item_id, body)) is not None:
        return answer
    action = "Items are known once a model was trained on a catalogue that lists them."
    return problem(404, "There is no such item.", field="item_id", value=item_id, action=action)


@shop.post(
    "/events",
    status_code=202,
    summary="What shoppers did",
    responses=responses(400, 413, 422, 503),
    openapi_extra={"requestBody": _EVENTS_BODY},
)
async def take_events(request: Request) -> EventsAnswer:
    """Store up to 1,000 events. **When this answers 202, the accepted ones are on disk.**

    Idempotent by `event_id`: after a time-out send the same call again. Each event is checked on its own; a rejected one is
    named by its index and does not stop the others: it lacks a field (a purchase must have a price), holds an unknown one, or
    its time, price or quantity is beyond what the shop's data contract allows. As `application/x-ndjson` even a line that is
    no JSON breaks alone.
    """
    body = await request.body()
    return await _service(request).take(body, request.headers.get("content-type", ""))


@operations.get("/v1/model", summary="The model that serves")
async def model(request: Request) -> ModelState:
    """The version that answers, where it came from, and why a newer champion was refused, if one was."""
    return _service(request).models.state()


@shop.get("/canary", summary="The canary")
async def canary(request: Request) -> CanaryShown:
    """The candidate that answers part of the shoppers, or the last one that did: step, share, evidence, decisions."""
    return _service(request).canary()


@operations.get("/healthz", summary="Is the process up?")
async def health() -> Health:
    """200 as long as the process answers; restart it when it does not."""
    return Health(status="ok")


@operations.get("/readyz", summary="May it get traffic?", responses={503: {"model": Readiness}})
async def ready(request: Request, response: Response) -> Readiness:
    """200 when events can be stored; without a model it still answers, degraded. 503 while the event log is away."""
    state = await run_in_threadpool(_service(request).readiness)
    if not state.ready:
        response.status_code = 503
    return state


@operations.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Text format 0.0.4; docs/metrics.md explains each."""
    content = await run_in_threadpool(_service(request).metrics.render)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


@operations.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The API page."""
    return HTMLResponse(reference(request.app.openapi(), _service(request).settings.serving_url))


@operations.get("/canary", include_in_schema=False)
async def canary_page(request: Request) -> HTMLResponse:
    """The page of the canary; it asks again by itself."""
    shown = await run_in_threadpool(_service(request).canary)
    return HTMLResponse(await run_in_threadpool(render_canary, shown, datetime.now(UTC)), headers={"Cache-Control": "no-store"})


@operations.get("/", include_in_schema=False)
async def landing(request: Request) -> HTMLResponse:
    """The front page: what serves, what is worse than it should be, where to go."""
    service = _service(request)
    state = await run_in_threadpool(service.readiness)
    return HTMLResponse(page(service.models.state(), state, service.settings, service.keys.demanded))
