"""The page of a canary in headless Chromium, as its states follow each other: nothing, running, rolled back, passed.

Each is kept as a picture in SCREENSHOT_DIR (default: the test's own folder).
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn
from tests.fixtures.canary_shelf import CanaryShelf
from tests.unit.serving.conftest import CountingModel

from endcap.config import Params, Settings
from endcap.evaluation.sequential import Tally
from endcap.release import canary_rollout
from endcap.release.canary import Arms, decide
from endcap.release.canary_state import ArmSeen, CanaryState, GuardSeen, Look, ShadowSeen
from endcap.release.signing import Keys
from endcap.serving.app import create_app
from endcap.serving.service import Service

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
START = datetime.now(UTC) - timedelta(hours=63.5)


@dataclass
class Shown:
    """A service on a port, its registry, and a window."""

    url: str
    service: Service
    shelf: CanaryShelf
    page: Page
    pictures: Path

    def look(self, state: CanaryState, clicks: float, hours: float) -> Look:
        """A look at 40,000 shoppers an arm, who click as told where the champion has 30 %."""
        at = state.since + timedelta(hours=hours)
        if state.step < 0:
            seen = ShadowSeen(compared=812, errors=0, overlap=0.82, rank_correlation=0.64, candidate_ms=7.1, champion_ms=6.8)
            return Look(at=at, step=-1, action="advance", share=0.01, reasons=("812 requests compared",), shadow=seen)
        arms = {name: Arms(_tally(mine), _tally(theirs)) for name, (mine, theirs) in _means(clicks).items()}
        decision = decide(state.settings, state.step, hours, arms)
        counts = {"requests": 52_310, "shoppers": 40_000, "settled": 41_022, "latency_ms": 31.4, "errors": 52, "fallbacks": 60}
        mine = ArmSeen(**counts, clicks=int(40_000 * clicks), purchases=2_004)  # type: ignore[arg-type]
        theirs = ArmSeen(**counts, clicks=12_000, purchases=2_031)  # type: ignore[arg-type]
        guards = tuple(GuardSeen.of(reading) for reading in decision.readings)
        told = {"action": decision.action, "share": decision.share, "reasons": decision.reasons, "guards": guards}
        return Look(at=at, step=state.step, candidate=mine, champion=theirs, **told)  # type: ignore[arg-type]

    def take(self, state: CanaryState, clicks: float, hours: float) -> CanaryState:
        state = canary_rollout.take(self.shelf, self.shelf.keys, state, self.look(state, clicks, hours))  # type: ignore[arg-type]
        self.service.candidates.check()
        return state

    def picture(self, name: str) -> None:
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        assert path.stat().st_size > 10_000


def _means(clicks: float) -> dict[str, tuple[float, float]]:
    same = {"purchases": 0.05, "errors": 0.001, "fallbacks": 0.001, "latency_ms": 30.0}
    return {"clicks": (clicks, 0.3), **{name: (mean, mean) for name, mean in same.items()}}


def _tally(mean: float, shoppers: int = 40_000) -> Tally:
    squares = mean if mean <= 1 else 1.25 * mean**2
    return Tally(shoppers, shoppers, shoppers * mean, shoppers, shoppers * mean, shoppers * squares)


@pytest.fixture
def shown(settings: Settings, params: Params, tmp_path: Path) -> Iterator[Shown]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("Chromium is not installed")
    shelf = CanaryShelf(tmp_path / "shelf", Keys.load(settings.paths.secrets))
    shelf.publish(1)
    shelf.candidate(2)
    quiet = params.model_copy(update={"serving": params.serving.model_copy(update={"reload_seconds": 3600.0})})
    service = Service(settings, quiet, shelf, CountingModel.load)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service=service), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1240, "height": 900})
            folder = Path(os.environ.get("SCREENSHOT_DIR", str(tmp_path)))
            yield Shown(f"http://127.0.0.1:{listening.getsockname()[1]}/canary", service, shelf, page, folder)
            browser.close()
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()


def test_the_page_follows_a_canary(shown: Shown, params: Params) -> None:
    page, shelf = shown.page, shown.shelf
    assert params.canary is not None
    page.goto(shown.url)
    page.get_by_role("heading", name="No canary is running").wait_for()
    state = canary_rollout.start(shelf, shelf.keys, params.canary, "2", "ada", START)  # type: ignore[arg-type]
    shown.service.models.check()
    shown.service.candidates.check()
    page.get_by_role("heading", name="A canary is running").wait_for()  # by itself: the page asks again
    page.get_by_text("Model 2 runs in the shadow of model 1").wait_for()
    state = shown.take(state, 0.3, 1.0)
    page.reload()
    page.get_by_text("812 requests in the shadow, shown to nobody").wait_for()
    for hours in (25.0, 25.0):
        state = shown.take(state, 0.3, hours)
    state = shown.take(state, 0.3, 12.0)  # within all bars, but the day is not over
    page.reload()
    page.get_by_text("Model 2 answers 50 % of shoppers (step 3 of 3).").wait_for()
    assert page.locator("svg[role=img]").count() == 5
    label = page.locator("svg[role=img]").first.get_attribute("aria-label") or ""
    assert label.startswith("Clicks: ")
    assert label.endswith("bar -5.0%")
    page.get_by_text("12 h of at least 24 h").first.wait_for()
    shown.picture("canary-running")
    state = shown.take(state, 0.27, 12.3)
    page.reload()
    page.get_by_role("heading", name="No canary is running").wait_for()
    page.get_by_text("clicks -10.0%").first.wait_for()
    page.get_by_text("beyond the bar", exact=True).wait_for()
    shown.picture("canary-rolled-back")


def test_the_page_says_that_a_person_is_waited_for(shown: Shown, params: Params) -> None:
    assert params.canary is not None
    shelf, settings = shown.shelf, params.canary.model_copy(update={"shadow": None})
    state = canary_rollout.start(shelf, shelf.keys, settings, "2", "ada <b>", START)  # type: ignore[arg-type]
    shown.service.models.check()
    for _ in settings.steps:
        state = shown.take(state, 0.3, 25.0)
    shown.page.goto(shown.url)
    shown.page.get_by_role("heading", name="A canary waits for a person").wait_for()
    shown.page.get_by_text("approved by ada <b>").wait_for()
    shown.picture("canary-passed")
