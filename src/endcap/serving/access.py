"""Who may ask for what, and how often: settled before a body is read. What no rule names is an operator's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.routing import Match

from endcap.contracts import Role
from endcap.errors import ServiceUnavailable
from endcap.serving.key_ring import KeyRefused
from endcap.serving.problems import problem, responses
from endcap.serving.rates import ANONYMOUS

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from endcap.serving.key_ring import KeyRing
    from endcap.serving.metrics import Metrics
    from endcap.serving.rates import Counter, Verdict

OPEN = frozenset({"/healthz", "/readyz", "/pages/{name}"})  # for whoever restarts and routes, who holds no key; styles, scripts
RETRY_SECONDS = 2


def roles(path: str, tags: list[str], methods: frozenset[str]) -> frozenset[Role]:
    """Who may use a route: routes tagged `shop` are the shop's, what only looks is the readers', and the rest an operator's."""
    if path in OPEN:
        return frozenset(Role)
    if "shop" in tags:
        return frozenset({Role.SHOP, Role.OPERATOR})
    looks = methods <= {"GET", "HEAD"} and ("operations" in tags or path == "/openapi.json")
    return frozenset({Role.READER, Role.OPERATOR}) if looks else frozenset({Role.OPERATOR})


class Access:
    """ASGI middleware: 429 for who calls too often, 401 without a key that counts, 403 for the wrong role.

    `scope["caller"]` is the key, or None where none is asked for.
    """

    def __init__(self, app: ASGIApp, routes: list[BaseRoute], ring: KeyRing, rates: Counter, metrics: Metrics) -> None:
        self.app, self.routes, self.ring, self.rates, self.metrics = app, routes, ring, rates, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = self._route(scope)
        scope["route"], scope["caller"] = route, None  # the route for the metrics of calls that are refused here
        if getattr(route, "path", "") in OPEN:
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope, route) if self.ring.demanded else None
        verdict = await self._count(scope)
        if not verdict.allowed:
            self.metrics.rate_refusals.labels(verdict.role).inc()
            refusal = _too_often(verdict)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(verdict.headers())
            await send(message)

        await (refusal or self.app)(scope, receive, told)

    async def _count(self, scope: Scope) -> Verdict:
        if key := scope["caller"]:
            return await self.rates.count(key.role.value, key.id)
        return await self.rates.count(ANONYMOUS, (scope.get("client") or ("unknown",))[0])

    def _refusal(self, scope: Scope, route: BaseRoute | None) -> Response | None:
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        try:
            key = self.ring.identify(header)
        except KeyRefused as error:
            self.metrics.key_refusals.labels(error.reason).inc()
            answer = problem(401, f"{error.field}: {error.problem}.", field=error.field, action=error.action)
            answer.headers["WWW-Authenticate"] = 'Bearer realm="endcap"'
            return answer
        except ServiceUnavailable as error:
            answer = problem(503, error.problem, field=error.field, action=error.action)
            answer.headers["Retry-After"] = str(RETRY_SECONDS)
            return answer
        scope["caller"] = key
        wanted = allowed(route)
        if key.role in wanted:
            return None
        self.metrics.key_refusals.labels("role").inc()
        names = " or ".join(sorted(role.value for role in wanted))
        action = f"Use a key of role {names}: `endcap keys create --role …` (docs/security.md)."
        return problem(
            403, f"The role of this key may not do that: it needs {names}.", field="role", value=key.role.value, action=action
        )

    def _route(self, scope: Scope) -> BaseRoute | None:
        partial = None
        for route in self.routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return route
            if match is Match.PARTIAL and partial is None:
                partial = route
        return partial


def _too_often(verdict: Verdict) -> Response:
    rate, again = verdict.rate, max(1, verdict.reset_seconds)
    detail = f"More than {rate.calls:,} calls in {rate.seconds} s (serving.rates.{verdict.role})."
    return problem(429, detail, action=f"Wait {again} s (Retry-After) and send it again; nothing of this call was done.")


def allowed(route: BaseRoute | None) -> frozenset[Role]:
    """Who may use a route; what is no route at all tells any valid key that it is none."""
    if route is None:
        return frozenset(Role)
    methods = frozenset(getattr(route, "methods", None) or ())
    return roles(getattr(route, "path", ""), list(getattr(route, "tags", None) or ()), methods)


def describe(page: dict[str, Any], routes: list[BaseRoute], demanded: bool) -> None:
    """Say in the OpenAPI description which roles may use an operation, and how it refuses."""
    page["components"].setdefault("securitySchemes", {})["key"] = {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "endcap_…",
        "description": "An API key, made with `endcap keys create`. Roles: shop, reader, operator.",
    }
    own = {
        (getattr(route, "path_format", ""), method): route
        for route in routes
        for method in getattr(route, "methods", None) or ()
    }
    for path, calls in page["paths"].items():
        for verb, call in calls.items():
            if path in OPEN:
                continue
            names = sorted(role.value for role in allowed(own.get((path, verb.upper()))))
            call["security"] = [{"key": []}] if demanded else [{"key": []}, {}]
            call["description"] = f"{call.get('description', '').rstrip()}\n\nRoles: {', '.join(names)}."
            for status, answer in responses(401, 403, 429, 503).items():
                known = {key: value for key, value in answer.items() if key != "model"}
                call["responses"].setdefault(str(status), known)
