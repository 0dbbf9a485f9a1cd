"""The operator's page tells of the canary that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from endcap.sections import Canary

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from tests.unit.serving.canary.conftest import Begin


def test_a_canary_that_runs_is_on_the_operators_page(client: TestClient, begin: Begin, canary: Canary) -> None:
    state = begin(canary)
    text = client.get("/operator").text
    assert state.told() in text
    assert f"<dd>{canary.steps[0].share:.0%}</dd>" in text
    assert '<a href="/canary">' in text
