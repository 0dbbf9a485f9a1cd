"""The pages for people: /shop and /operator. Styles and scripts are files of their own, so that no page runs anything else."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from starlette.exceptions import HTTPException

from endcap.serving.problems import problem
from endcap.serving.schemas import Identifier
from endcap.serving.service import Service

pages = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).parent / "browser"
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_MOST_ITEMS = 100
Window = Literal["hour", "day", "week"]  # of WINDOWS


class Asset(StrEnum):
    """The files that pages load."""

    ICON_SVG = "icon.svg"
    PAGES_CSS = "pages.css"
    SHOP_CSS = "shop.css"
    SHOP_JS = "shop.js"
    OPERATOR_CSS = "operator.css"
    OPERATOR_JS = "operator.js"


class Until(StrEnum):
    """Where a window ends."""

    NOW = "now"
    NEWEST = "newest"


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _shop(request: Request) -> Service:
    """The service, if it has a storefront."""
    service = _service(request)
    if not service.settings.storefront:
        raise HTTPException(404, "This service has no storefront (ENDCAP_STOREFRONT).")
    return service


@pages.get("/pages/{name}")
async def asset(name: Asset) -> FileResponse:
    """A style or script."""
    return FileResponse(_FOLDER / name.value, headers=HEADERS)


@pages.get("/shop", tags=["shop"])
async def shop_page(request: Request) -> FileResponse:
    """The storefront; the same page for everybody, its script asks for the rest."""
    _shop(request)
    return FileResponse(_FOLDER / "shop.html", headers=HEADERS)


@pages.get("/shop/start", tags=["shop"])
async def shop_start(request: Request) -> dict[str, Any]:
    """The service's clock and the shoppers that the operator names."""
    service = _shop(request)
    return await service.look(service.storefront.start)


@pages.get("/shop/items", tags=["shop"])
async def shop_items(request: Request, id: Annotated[list[Identifier], Query(max_length=_MOST_ITEMS)]) -> list[dict[str, Any]]:
    """What a shop's front end would know itself: title, category and price."""
    service = _shop(request)
    return await service.look(lambda: service.storefront.items(id))


@pages.get("/shop/requests/{request_id}", tags=["shop"], response_model=None)
async def shop_request(request: Request, request_id: Identifier) -> dict[str, Any] | Response:
    """What was logged of one answer, for the inspector."""
    service = _shop(request)
    found = await service.look(lambda: service.storefront.logged(request_id))
    if found is None:
        action = "A slate without items has none, and those of a fallback may be late or lost (endcap_exposures_total)."
        return problem(404, "The log has no exposure of this request.", field="request_id", value=request_id, action=action)
    return found


@pages.get("/operator", tags=["operations"])
async def operator_page(request: Request, window: Window = "hour", until: Until = Until.NOW) -> HTMLResponse:
    """How the shelf does over a window."""
    service = _service(request)
    html = await service.look(
        lambda: service.operator.render(
            window,
            newest=until is Until.NEWEST,
            ready=service.readiness(),
            canary=service.canary(),
        )
    )
    return HTMLResponse(html, headers=HEADERS)
