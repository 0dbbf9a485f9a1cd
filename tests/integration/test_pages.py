"""The storefront and the operator's page in headless Chromium, over a real service and a real log.

Each page is kept as a picture in SCREENSHOT_DIR (default: the test's own folder); docs/images holds such pictures.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.fixtures.gift_shop import HOSTILE, LikingModel, served, write_gift_shop
from tests.fixtures.programs import missing
from tests.unit.serving.conftest import Shelf, catalogue

from endcap.config import Params, Settings
from endcap.contracts import ModelVersion
from endcap.data.events import EventLog
from endcap.models.digest import digest
from endcap.release.signing import Keys
from endcap.serving.service import Service

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1440, "height": 900}


class GiftShelf(Shelf):
    """Its champions are gift shops."""

    def publish_shop(self, number: int) -> ModelVersion:
        from dataclasses import replace

        from endcap.release.records import GATE, PROMOTION, gate_record, promotion_record, to_tag

        bare = ModelVersion(str(number), "full", "dataset-4", "abc123", "def456", "", "run")
        bare = replace(bare, digest=digest(write_gift_shop(self.root / str(number))))
        gate = self.keys.sign(gate_record(bare, passed=True, champion=None, checks={"quality": True}))
        promotion = self.keys.sign(promotion_record(bare, gate, "ada"))
        return self.retag(bare, {GATE: to_tag(gate), PROMOTION: to_tag(promotion)})


@pytest.fixture
def gift_shelf(settings: Settings, tmp_path: Path) -> GiftShelf:
    return GiftShelf(tmp_path / "shelf", Keys.load(settings.paths.secrets))


@pytest.fixture
def service(settings: Settings, params: Params, gift_shelf: GiftShelf) -> Service:
    named = settings.model_copy(update={"shop_shoppers": "17850, 12583"})
    return Service(named, params, gift_shelf, LikingModel.load)


@pytest.fixture
def url(service: Service, gift_shelf: GiftShelf) -> Iterator[str]:
    """The address of a service whose model 7 serves a gift shop."""
    gift_shelf.publish_shop(7)
    with served(service) as address:
        service.models.check()
        yield address


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    log = EventLog(settings.event_log_url)
    log.create()
    yield log
    log.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    chromium = chromium or missing("Chromium is not installed")
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield window
        window.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    """A window that fails the test on any error of a script, a broken policy, or a call to another address."""
    page = browser.new_page(viewport=DESKTOP)
    page.set_default_timeout(30_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: None if asked.url.startswith("http://127.0.0.1:") else wrong.append(asked.url))
    yield page
    page.close()
    assert wrong == []


@pytest.fixture
def picture(page: Page, tmp_path: Path) -> Callable[..., None]:
    """Keep what the window shows."""
    folder = Path(os.environ.get("SCREENSHOT_DIR", str(tmp_path)))
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, *, whole: bool = False) -> None:
        page.screenshot(path=folder / f"{name}.png", full_page=whole)

    return keep


def enter(page: Page, url: str) -> None:
    """A new visitor in the storefront, whose first shelf and its exposure are there."""
    page.goto(f"{url}/shop")
    page.get_by_role("button", name="New visitor").click()
    inspected(page)


def inspected(page: Page) -> str:
    """The request id of the shelf, once the inspector shows it."""
    page.wait_for_function(
        """() => { const id = document.getElementById("shelf").dataset.request;
                   return id && document.getElementById("inspector").textContent.includes(id) }"""
    )
    return page.locator("#shelf").get_attribute("data-request") or ""


def after(page: Page, act: Callable[[], None]) -> str:
    """The request id of the shelf that follows an act."""
    before = inspected(page)
    act()
    page.wait_for_function("id => document.getElementById('shelf').dataset.request !== id", arg=before)
    return inspected(page)


def shelf(page: Page) -> list[str]:
    return [str(card.get_attribute("data-item")) for card in page.locator("#shelf > li").all()]


def card(page: Page, item: str) -> Locator:
    return page.locator(f"#shelf > li[data-item={item}]")


def in_log(settings: Settings) -> list[dict[str, Any]]:
    """Every event of the log, oldest first."""
    log = EventLog(settings.event_log_url)
    now = datetime.now(UTC) + timedelta(minutes=1)
    log.claim("all", now)
    rows: list[dict[str, Any]] = log.read_batch("all").to_pylist()
    log.close()
    return rows


def test_a_purchase_changes_the_next_shelf_and_is_in_the_log(
    page: Page, url: str, settings: Settings, picture: Callable[..., None]
) -> None:
    enter(page, url)
    first = shelf(page)
    assert "TO0" not in first
    opened = after(page, lambda: card(page, "KI2").get_by_role("button", name="Look at").click())
    picture("storefront-item")
    bought = after(page, lambda: page.get_by_role("button", name="Buy now").click())
    assert opened != bought
    second = shelf(page)
    assert second[0] == "KI2"
    assert [card(page, item).locator(".state.new").count() for item in second] == [int(item not in first) for item in second]
    assert "▲" in card(page, "KI2").inner_text()
    assert "You bought this before" in card(page, "KI2").inner_text()
    events = in_log(settings)
    assert [(event["type"], event["item_id"], event["surface"]) for event in events] == [
        ("click", "KI2", "home"),
        ("view", "KI2", "product"),
        ("purchase", "KI2", "product"),
    ]
    log = EventLog(settings.event_log_url)
    led = {event["request_id"] for event in events}
    assert [row["item_id"] for row in log.request(led.pop())] == first
    assert not led
    assert {event["user_id"] for event in events} == {log.request(bought)[0]["user_id"]}
    assert [event["price"] for event in events][-1] == pytest.approx(1.25 + 0.7 * (8 * 7 % 11))
    log.close()


def test_views_and_the_basket_count_at_once(page: Page, url: str, picture: Callable[..., None]) -> None:
    enter(page, url)
    after(page, lambda: card(page, "GA1" if "GA1" in shelf(page) else "KI4").get_by_role("button", name="Add").click())
    assert page.locator("#basket").inner_text() == "Basket (1)"
    after(page, lambda: card(page, "LI1").get_by_role("button", name="Add").click())
    after(page, lambda: card(page, "LI0").get_by_role("button", name="Look at").click())
    assert "LI0" not in shelf(page)
    page.get_by_role("button", name="Add to basket: Paper lantern").first.click()
    page.locator("#basket", has_text="Basket (3)").wait_for()
    after(page, lambda: page.get_by_role("button", name="Basket (3)").click())
    assert page.locator("#shelf-title").inner_text() == "Goes with your basket"
    assert card(page, "LI1").get_by_text("in the basket").count() == 1
    picture("storefront-basket")
    after(page, lambda: page.get_by_role("button", name="Buy all").click())
    assert page.locator("#basket").inner_text() == "Basket (0)"
    assert {"LI0", "LI1"} <= set(shelf(page)[:3])


def test_the_keyboard_goes_on_where_it_was(page: Page, url: str) -> None:
    def focused() -> str:
        return str(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"))

    enter(page, url)
    card(page, "LI1").get_by_role("button", name="Add").focus()
    after(page, lambda: page.keyboard.press("Enter"))
    page.wait_for_function("document.activeElement.getAttribute('aria-label') === 'Add to basket: Fairy lights'")
    page.keyboard.press("Tab")
    assert focused() == "Hide: Fairy lights"
    after(page, lambda: page.keyboard.press("Enter"))
    page.wait_for_function("document.activeElement.id === 'shelf-title'")
    card(page, "LI0").locator(".title").focus()
    after(page, lambda: page.keyboard.press("Space"))
    page.wait_for_function("document.activeElement.textContent === 'Paper lantern'")


def test_a_second_click_is_no_second_purchase(page: Page, url: str, settings: Settings) -> None:
    enter(page, url)
    after(page, lambda: card(page, "LI0").locator(".title").click())
    after(page, lambda: page.get_by_role("button", name="Buy now").dblclick())
    assert [event["type"] for event in in_log(settings)].count("purchase") == 1


def test_what_is_hidden_goes_and_what_has_no_price_cannot_be_bought(page: Page, url: str) -> None:
    enter(page, url)
    after(page, lambda: card(page, "LI0").get_by_role("button", name="Hide").click())
    assert "LI0" not in shelf(page)
    after(page, lambda: card(page, "LI3").get_by_role("button", name="Look at").click())
    assert page.get_by_role("button", name="Buy now: Tin candle lamp").is_disabled()


def test_the_inspector_shows_what_the_log_has(page: Page, url: str, settings: Settings) -> None:
    enter(page, url)
    request_id = inspected(page)
    log = EventLog(settings.event_log_url)
    rows = log.request(request_id)
    log.close()
    shown = [[cell.inner_text() for cell in line.locator("td").all()] for line in page.locator("#inspector tbody tr").all()]
    assert [(int(rank), float(score), float(propensity), policy) for rank, _, score, propensity, policy in shown] == [
        (row["rank"], pytest.approx(row["score"], abs=5e-4), row["propensity"], row["policy"]) for row in rows
    ]
    told = page.locator("#inspector dl").inner_text()
    for value in (request_id, "greedy", "7", "dataset-4", "no check of model 7 is known here"):
        assert value in told
    link = page.get_by_role("link", name="version 7 in MLflow").get_attribute("href")
    assert link == f"{settings.mlflow_url}/#/models/endcap-recommender/versions/7"
    page.get_by_text("Lineage", exact=True).click()
    chain = page.locator("#inspector pre").inner_text()
    assert '"approved_by": "ada"' in chain
    assert "no such dataset version" in chain  # nothing is made up where the card is not here
    assert rows[0]["user_id"] not in page.content()


def test_a_title_with_a_script_is_text(page: Page, url: str) -> None:
    enter(page, url)
    assert card(page, "LI4").locator(".title").inner_text() == HOSTILE
    after(page, lambda: card(page, "LI4").get_by_role("button", name="Add").click())
    after(page, lambda: card(page, "LI4").locator(".title").click())
    assert page.locator("#item h2").inner_text() == HOSTILE
    assert HOSTILE in page.locator("#inspector table").inner_text() or HOSTILE in page.locator("#session").inner_text()
    assert page.evaluate("window.broken") is None


def test_a_policy_and_a_model_with_a_script_are_text_for_the_operator(page: Page, url: str, log: EventLog) -> None:
    row = {"request_id": "r1", "user_id": None, "surface": "home", "time": datetime.now(UTC), "item_id": "a", "rank": 1}
    log.append_exposures(
        [{**row, "score": 1.0, "propensity": 1.0, "policy": HOSTILE, "model_version": HOSTILE, "fallback": False}]
    )
    page.goto(f"{url}/operator")
    assert page.get_by_text(HOSTILE).count() == 2
    assert page.evaluate("window.broken") is None


def test_known_shoppers_are_those_whom_the_operator_names(
    page: Page, url: str, settings: Settings, picture: Callable[..., None]
) -> None:
    file = settings.paths.reports / "drift" / "dataset-5" / "check.json"
    file.parent.mkdir(parents=True)
    report = f"{settings.reports_url}/drift/dataset-5/index.html"
    check = {"dataset_version": "dataset-5", "model_version": "7", "date": "2026-11-20", "drifted": False}
    file.write_text(json.dumps({**check, "report_url": report, "ui_url": f"{settings.evidently_url}/projects/1"}))
    for number, (user, item) in enumerate([("17850", "KI0"), ("17850", "KI0"), ("17850", "GA3"), ("stranger", "TO1")]):
        event = {"event_id": f"e{number}", "type": "purchase", "user_id": user, "item_id": item, "price": 2.0}
        moment = datetime.now(UTC) - timedelta(days=1, minutes=-number)
        assert httpx.post(f"{url}/v1/events", json=[{**event, "time": moment.isoformat()}]).json()["accepted"] == 1
    page.goto(f"{url}/shop")
    page.get_by_role("button", name="Shop as 17850").wait_for()
    assert page.locator("#shoppers").inner_text().replace("\n", " ") == (
        "17850 bought 2× Enamel mug, 1× Seed packets, mixed 12583 bought nothing yet"
    )
    page.get_by_role("button", name="Shop as 17850").click()
    inspected(page)
    after(page, lambda: card(page, "KI1").get_by_role("button", name="Look at").click())
    after(page, lambda: card(page, "LI1").get_by_role("button", name="Look at").click())
    after(page, lambda: page.locator("#item").get_by_role("button", name="Add").click())
    after(page, lambda: page.get_by_role("button", name="Home").click())
    page.evaluate("window.scrollTo(0, 0)")
    drift = page.get_by_role("link", name="dataset-5 has not drifted").get_attribute("href")
    assert drift == report
    picture("storefront")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.emulate_media(color_scheme="dark")
    picture("storefront-phone", whole=True)
    page.get_by_label("Shopper’s id").fill("stranger")
    page.keyboard.press("Enter")
    page.get_by_text("Shopping as stranger.").wait_for()


def test_without_a_model_the_shelf_is_there_and_marked(page: Page, service: Service, log: EventLog) -> None:
    log.upsert_catalog(catalogue(["mug", "plate"]))
    bought = {"type": "purchase", "user_id": "p", "time": datetime.now(UTC) - timedelta(hours=1), "quantity": 1.0, "price": 1.0}
    log.append([{**bought, "event_id": f"e{item}", "item_id": item} for item in ("mug", "plate")])
    with served(service) as address:
        enter(page, address)
        page.get_by_text("Fallback: no_model.").wait_for()
        assert sorted(shelf(page)) == ["mug", "plate"]
        assert "fallback-popularity" in page.locator("#inspector").inner_text()
        assert "no model chose it" in page.locator("#inspector pre").text_content()
        page.goto(f"{address}/operator")
        row = page.locator("tr[data-name=none] td").all_inner_texts()
        assert (row[1], row[5]) == ("1", "1")
        assert "no_model" in page.locator("section[aria-labelledby=fallbacks]").inner_text()
        assert page.get_by_text("no model serves").count() == 1


def test_the_operators_figures_equal_a_hand_count(page: Page, url: str, log: EventLog, picture: Callable[..., None]) -> None:
    now = datetime.now(UTC)
    events: list[dict[str, Any]] = []
    for number in range(60):
        time = now - timedelta(minutes=55 - number * 0.8)
        about = {"request_id": f"r{number}", "user_id": f"u{number % 25}", "surface": "home", "time": time, "score": 1.0}
        worse = number % 15 == 0
        version = "none" if worse else "6" if number < 24 else "7"
        about |= {"propensity": 1.0, "model_version": version, "fallback": worse}
        policy = "fallback-popularity" if worse else "greedy"
        items = [(f"i{rank}", "pinned" if rank == 3 else policy) for rank in (1, 2, 3)]
        log.append_exposures(
            [{**about, "item_id": item, "rank": rank, "policy": how} for rank, (item, how) in enumerate(items, start=1)]
        )
        did = [("click", "i1")] * (number % 3 == 0) + [("purchase", "i3")] * (number % 10 == 1)
        for kind, item in did:
            what = {"event_id": f"{kind}{number}", "type": kind, "item_id": item, "quantity": 1.0, "price": 1.0}
            events.append({**about, **what, "time": time + timedelta(seconds=9)})
    log.append(events)
    of_seven = [number for number in range(60) if number >= 24 and number % 15]
    clicked = sum(number % 3 == 0 or number % 10 == 1 for number in of_seven)
    bought = sum(number % 10 == 1 for number in of_seven)
    httpx.post(f"{url}/v1/recommendations", json={"user_id": "late", "k": 3}).raise_for_status()
    page.goto(f"{url}/operator?window=hour")
    assert page.locator("#slates").inner_text() == "61"
    cells = page.locator("tr[data-name='7'] td").all_inner_texts()
    slates = len(of_seven) + 1  # and the one asked just now
    assert cells[1] == str(slates)
    assert cells[3].startswith(f"{100 * clicked / slates:.1f} %")
    assert cells[4].startswith(f"{100 * bought / slates:.1f} %")
    pinned = page.locator("tr[data-name=pinned] td").all_inner_texts()
    assert (pinned[1], pinned[3].split(" %")[0]) == ("60", f"{100 * 6 / 60:.1f}")
    answers = page.locator("section[aria-labelledby=requests] tbody tr").first.locator("td").all_inner_texts()
    assert answers[:3] == ["/v1/recommendations", "1", "0"]
    assert answers[3].endswith("ms")
    assert page.locator("svg circle").count() > 5
    picture("operator")
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    picture("operator-phone", whole=True)


def test_the_operators_page_refreshes_itself(page: Page, url: str) -> None:
    page.clock.install()
    page.goto(f"{url}/operator")
    page.get_by_text("The log is empty: nothing was ever shown.").wait_for()
    page.get_by_role("region", name="Latency by route").focus()
    httpx.post(f"{url}/v1/recommendations", json={"k": 3}).raise_for_status()
    for _ in range(4):  # figures are kept for some seconds
        page.clock.run_for(10_000)
        page.wait_for_timeout(2_000)
    assert page.locator("#slates").inner_text() == "1"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Latency by route"
    page.route("**/operator", lambda route: route.abort())
    page.clock.run_for(10_000)
    page.get_by_text("These figures are old").wait_for()


def test_a_failing_call_is_said_in_words(page: Page, url: str) -> None:
    enter(page, url)
    page.route("**/v1/events", lambda route: route.abort())
    card(page, "LI0").get_by_role("button", name="Add").click()
    page.get_by_role("alert").get_by_text("The service does not answer.").wait_for()
    page.unroute("**/v1/events")
    after(page, lambda: card(page, "LI0").get_by_role("button", name="Add").click())
    assert page.get_by_role("alert").count() == 0
