"""Champion and candidate of a canary fill their places by the same policy, each over what it knows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.test_service import ask, metric

from endcap.config import Params
from endcap.exploring import Policies
from endcap.sections import Canary
from endcap.serving.service import Service

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from tests.unit.serving.canary.conftest import Begin

LEARNER = {"name": "learner", "kind": "thompson", "floor": 0.2}


@pytest.fixture
def params(params: Params) -> Params:
    everybody = {"defined": [LEARNER], "assigned": [{"shares": {"learner": 1.0}}]}
    return params.model_copy(update={"policies": Policies.model_validate(everybody)})


def test_both_arms_meet_the_policy(client: TestClient, service: Service, canary: Canary, begin: Begin) -> None:
    begin(canary.model_copy(update={"steps": canary.steps[2:]}))  # half of the shoppers
    answers = [ask(client, user_id=f"u{number}", k=2) for number in range(60)]
    first = {arm: [answer["items"][0] for answer in answers if answer["arm"] == arm] for arm in ("champion", "candidate")}
    for answer in answers:
        assert answer["policy"].startswith("learner@")
        assert all(0 < item["propensity"] < 1 for item in answer["items"])
    chances = {arm: {item["item_id"]: item["propensity"] for item in items} for arm, items in first.items()}
    assert all(len(shown) > 1 for shown in chances.values())
    assert max(chances["champion"], key=chances["champion"].__getitem__) == "mug"  # what its own model puts first
    assert max(chances["candidate"], key=chances["candidate"].__getitem__) == "fork"
    assert not metric(client, "endcap_fallbacks_total")


def test_policies_are_made_once_for_each_of_the_two_models(
    client: TestClient, service: Service, canary: Canary, begin: Begin
) -> None:
    begin(canary.model_copy(update={"steps": canary.steps[2:]}))
    for number in range(20):
        ask(client, user_id=f"u{number}")
    made = {id(ready) for ready in service.policies._ready}
    assert {ready.served.version.version for ready in service.policies._ready} == {"1", "2"}
    for number in range(20):
        ask(client, user_id=f"u{number}")
    assert {id(ready) for ready in service.policies._ready} == made
