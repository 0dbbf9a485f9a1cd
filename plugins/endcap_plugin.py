"""Endcap inside Airflow's UI: reports below /endcap/reports for whoever is logged in, a Report button, other screens.

Every Airflow process imports this file, tasks too, so whatever is heavy is imported when the first request arrives.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from endcap.config import load_settings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SETTINGS = load_settings()
PREFIX = "/endcap/reports"
SAFE = {  # a report shows the shop's own texts: its scripts may draw, but not call Airflow's API with the reader's log-in
    "Content-Security-Policy": "connect-src 'none'; form-action 'none'; frame-ancestors 'self'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}


class Reports:
    """An ASGI app that serves one folder, read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request

        if scope["type"] != "http":
            return
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import PlainTextResponse, RedirectResponse

        if request.method not in {"GET", "HEAD"}:
            return PlainTextResponse("Reports are read-only.", 405)
        if not await _logged_in(request):
            if "text/html" in request.headers.get("accept", ""):
                return RedirectResponse(f"/auth/login?next={quote(str(request.url))}", 307)
            return PlainTextResponse("Log in to Airflow first.", 401)
        return await run_in_threadpool(
            self.find, request.url.path.removeprefix(request.scope.get("root_path", "")).removeprefix(PREFIX)
        )

    def find(self, path: str) -> Response:
        """The file or folder at `path` (URL path below the prefix); 404 for anything outside the folder."""
        from urllib.parse import unquote

        from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse

        missing = PlainTextResponse("No such report.", 404)
        try:
            target = (self.folder / unquote(path).lstrip("/")).resolve()
            inside = target.is_relative_to(self.folder)
            if inside and target.is_file():
                return FileResponse(target, headers=SAFE)
            if not inside or (not target.is_dir() and target != self.folder):
                return missing
        except (OSError, ValueError):  # a NUL byte or an endless name
            return missing
        if not path.endswith("/"):
            return RedirectResponse(f"{PREFIX}{path}/", 307)
        if (target / "index.html").is_file():
            return FileResponse(target / "index.html", headers=SAFE)
        return HTMLResponse(_listing(target, self.folder), headers=SAFE)


def _listing(folder: Path, root: Path) -> str:
    """Newest first."""
    entries = sorted(folder.iterdir(), key=lambda entry: -entry.stat().st_mtime) if folder.is_dir() else []
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    rows = "".join(
        f'<li><a href="{quote(entry.name)}{"/" * entry.is_dir()}">{html.escape(entry.name)}</a></li>' for entry in visible
    )
    title = "Reports" if folder == root else html.escape(str(folder.relative_to(root)))
    style = "body{font:16px/1.6 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}li{list-style:none}"
    up = "" if folder == root else '<p><a href="../">↑ all</a></p>'
    head = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{style}</style>"
    return f"{head}<h1>{title}</h1>{up}<ul>{rows or '<li>None yet.</li>'}</ul>"


async def _logged_in(request: Request) -> bool:
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
    from airflow.api_fastapi.core_api.security import resolve_user_from_token
    from starlette.exceptions import HTTPException

    kind, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        await resolve_user_from_token(token if kind.lower() == "bearer" else request.cookies.get(COOKIE_NAME_JWT_TOKEN))
    except HTTPException:
        return False
    return True


class ReportLink(BaseOperatorLink):
    """A button on every task that left a `report_url`."""

    @property
    def name(self) -> str:
        return "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        from airflow.serialization.definitions.operatorlink import XComOperatorLink

        return XComOperatorLink(name=self.name, xcom_key="report_url").get_link(operator, ti_key=ti_key)


def _screen(name: str, href: str, route: str | None = None) -> dict[str, Any]:
    return {"name": name, "href": href, "destination": "nav", "category": "browse", "url_route": route}


class EndcapPlugin(AirflowPlugin):
    name = "endcap"
    fastapi_apps = [{"app": Reports(SETTINGS.paths.reports), "url_prefix": PREFIX, "name": "Endcap reports"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        _screen("Endcap reports", f"{PREFIX}/", "endcap-reports"),
        _screen("Drift (Evidently)", SETTINGS.evidently_url),
        _screen("Models (MLflow)", f"{SETTINGS.mlflow_url}/#/models"),
        _screen("Recommendation service", f"{SETTINGS.serving_url}/docs"),
        _screen("Canary", f"{SETTINGS.serving_url}/canary"),
    ]
    global_operator_extra_links = [ReportLink()]  # noqa: RUF012
