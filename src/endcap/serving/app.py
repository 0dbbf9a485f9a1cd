"""The application: the service's parts put together, its routes, and what every request passes through."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from endcap import __version__
from endcap.config import Params, Settings, load_params, load_settings
from endcap.serving import access, problems
from endcap.serving.access import Access
from endcap.serving.body_limit import BodyLimit
from endcap.serving.deadline import Deadline
from endcap.serving.metrics import Metrics
from endcap.serving.page_routes import pages
from endcap.serving.routes import operations, shop
from endcap.serving.schemas import Context, Event, RecommendationRequest, SessionEvent, ShelfFilters
from endcap.serving.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ABOUT = """
The shop's front end asks for **slates** and says what shoppers **did**; the platform learns from both.

1. `POST /v1/recommendations` answers with items and a `request_id`, and has logged what it shows before you read it.
2. `POST /v1/events` takes views, clicks and purchases; give the `request_id` of the slate that led to them.

Where the service asks for API keys, send one as `Authorization: Bearer endcap_…`; each call says which roles may make it.

User ids become pseudonyms at this door; the raw id is stored nowhere. Times are given with their zone. Errors are
[problem+json](https://www.rfc-editor.org/rfc/rfc9457) and say which field is wrong and what to do.
"""


def create_app(settings: Settings | None = None, params: Params | None = None, service: Service | None = None) -> FastAPI:
    """The ASGI application. Without arguments it reads the environment and params.yaml (`uvicorn --factory`)."""
    service = service or Service(settings or load_settings(), params or load_params())

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        yield
        await service.rates.close()
        await run_in_threadpool(service.stop)

    app = FastAPI(
        title="Endcap",
        summary="Recommendations for a shop.",
        description=_ABOUT,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    fields = {name for model in (RecommendationRequest, Context, ShelfFilters, SessionEvent) for name in model.model_fields}
    problems.install(app, tuple(sorted(fields)))
    app.include_router(shop)
    app.include_router(operations)
    app.include_router(pages)
    _describe(app, demanded=service.settings.api_keys == "required")
    app.add_middleware(BodyLimit)
    app.add_middleware(Deadline, seconds=service.deadline_seconds, most=service.most_calls, metrics=service.metrics)
    app.add_middleware(Access, routes=app.router.routes, ring=service.keys, rates=service.rates, metrics=service.metrics)
    app.add_middleware(Measured, metrics=service.metrics)  # the last one added is the first to see a call
    return app


def _describe(app: FastAPI, *, demanded: bool) -> None:
    """Add to the API page the Event schema, which the route reads by itself, and who may use what."""
    describe = app.openapi

    def openapi() -> dict[str, object]:
        page = describe()
        schemas = page["components"]["schemas"]
        if "Event" not in schemas:
            schema = Event.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas["Event"] = schema
            access.describe(page, app.router.routes, demanded)
        return page

    app.openapi = openapi  # type: ignore[method-assign]


class Measured:
    """Counts and times every request by its route (not its path: paths hold ids)."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.requests.labels(route, scope["method"], str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(time.perf_counter() - started)
