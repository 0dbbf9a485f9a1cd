"""The service keeps what its OpenAPI description promises: schemathesis makes right and wrong calls of it, by a fixed seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from tests.fixtures.programs import missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.testclient import TestClient

    from endcap.serving.service import Service

EXAMPLES = 60  # of each operation and each kind
WAYS = [
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("GET", "/v1/canary"),
    ("GET", "/v1/items/{item_id}/related"),
    ("GET", "/v1/model"),
    ("POST", "/v1/events"),
    ("POST", "/v1/recommendations"),
]
BEYOND_A_SCHEMA = {"k", "context.time"}  # what the shop sets in params.yaml, and what depends on the clock
TAKE_INPUT = [way for way in WAYS if "{" in way[1] or way[0] == "POST"]


@pytest.fixture(scope="module")
def schemathesis() -> Any:
    try:
        import schemathesis
    except ImportError:
        missing("schemathesis is not installed (scripts/setup installs it)")
    return schemathesis


@pytest.fixture
def schema(client: TestClient, service: Service, shelf: Any, schemathesis: Any) -> Any:
    """The description of a service that runs and serves model 1."""
    shelf.publish(1)
    service.models.check()
    return schemathesis.openapi.from_dict(client.get("/openapi.json").json())


def test_every_operation_is_tried(schema: Any) -> None:
    assert sorted((found.ok().method.upper(), found.ok().path) for found in schema.get_all_operations()) == WAYS


@pytest.mark.parametrize(
    ("kind", "method", "path"), [("positive", *way) for way in WAYS] + [("negative", *way) for way in TAKE_INPUT]
)
def test_no_call_finds_a_difference_between_service_and_description(
    client: TestClient, schema: Any, schemathesis: Any, kind: str, method: str, path: str
) -> None:
    from schemathesis.checks import negative_data_rejection as line_by_line  # a bad event is rejected within a 202
    from schemathesis.checks import positive_data_acceptance as unsaid

    strategy = schema[path][method].as_strategy(generation_mode=schemathesis.GenerationMode(kind))

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def keeps_its_promise(case: Any) -> None:
        sent = case.as_transport_kwargs(base_url=str(client.base_url))
        sent.pop("cookies", None)  # the service reads none
        if isinstance(sent.get("data"), bytes):
            sent["content"] = sent.pop("data")
        answer = client.request(**sent)
        case.validate_response(answer, excluded_checks=[unsaid, *([line_by_line] if path == "/v1/events" else [])])
        if kind == "positive" and answer.status_code == 422:
            assert answer.json()["field"] in BEYOND_A_SCHEMA, answer.text

    run: Callable[[], None] = keeps_its_promise
    run()
