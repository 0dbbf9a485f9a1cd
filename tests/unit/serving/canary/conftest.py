"""A service whose registry knows canaries: model 1 is the champion, model 2 the candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.fixtures.canary_shelf import CanaryShelf

from endcap.config import Params, Settings
from endcap.data.canary_log import CanaryLog
from endcap.release import canary_rollout
from endcap.release.canary_state import CanaryState
from endcap.release.signing import Keys
from endcap.sections import Canary
from endcap.serving.service import Service

AT = datetime(2026, 1, 15, tzinfo=UTC)
REVERSED = (1, 2, 3, 4, 5)  # scores of a candidate that puts the fork first, where the champion has the mug
Begin = Callable[..., CanaryState]


@pytest.fixture
def shelf(settings: Settings, tmp_path: Path) -> CanaryShelf:
    return CanaryShelf(tmp_path / "shelf", Keys.load(settings.paths.secrets))


@pytest.fixture
def canary(params: Params) -> Canary:
    """The project's, without a shadow."""
    assert params.canary is not None
    return params.canary.model_copy(update={"shadow": None})


@pytest.fixture
def rows(settings: Settings) -> Iterator[CanaryLog]:
    log = CanaryLog(settings.event_log_url)
    log.create()
    yield log
    log.close()


@pytest.fixture
def begin(service: Service, shelf: CanaryShelf) -> Begin:
    """Start a canary of model 2 with these settings; the service has seen it."""

    def start(settings: Canary, *, shadow_only: bool = False) -> CanaryState:
        shelf.publish(1)
        shelf.candidate(2, REVERSED)
        state = canary_rollout.start(shelf, shelf.keys, settings, "2", "ada", AT, shadow_only=shadow_only)
        service.models.check()
        service.candidates.check()
        return state

    return start
