"""A person's afternoon in headless Chromium: start a DAG from its form, approve a promotion, read reports, drift and registry.

Each page is kept as a picture in SCREENSHOT_DIR (default: the test's own folder); docs/images holds such pictures.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from endcap import stack
from endcap.contracts import MODEL_NAME

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.e2e.conftest import Played

    from endcap.demo.airflow_client import AirflowClient

pytestmark = [pytest.mark.browser, pytest.mark.stack, pytest.mark.timeout(1200)]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
Found = TypeVar("Found")
WAIT = 60_000  # milliseconds


@pytest.fixture(scope="module")
def page(played: Played) -> Iterator[Page]:
    """A window of somebody logged in to Airflow as admin."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        window = browser.new_page(viewport={"width": 1440, "height": 900})
        window.set_default_timeout(WAIT)
        window.goto(played.settings.airflow_url)
        window.fill("input[name=username]", "admin")
        window.fill("input[name=password]", stack.password(played.settings, "admin"))
        window.get_by_role("button", name="Sign in").click()
        window.get_by_role("link", name="Dags", exact=True).first.wait_for()
        yield window
        browser.close()


@pytest.fixture
def picture(page: Page, tmp_path: Path) -> Callable[[str], None]:
    """Keep what the window shows."""
    folder = Path(os.environ.get("SCREENSHOT_DIR", str(tmp_path)))

    def keep(name: str) -> None:
        page.wait_for_timeout(1200)  # fonts and charts settle
        path = folder / f"{name}.png"
        page.screenshot(path=path)
        assert path.stat().st_size > 10_000, f"{name} is an empty page"

    return keep


def test_the_five_dags_are_there(played: Played, page: Page, picture: Callable[[str], None]) -> None:
    page.goto(f"{played.settings.airflow_url}/dags")
    for dag in ("ingest_events", "monitor_models", "promote_model", "retrain_full", "update_incremental"):
        page.get_by_role("link", name=dag, exact=True).first.wait_for()
    picture("airflow-dags")


def test_a_dag_is_started_from_its_form(
    played: Played, airflow: AirflowClient, page: Page, picture: Callable[[str], None]
) -> None:
    before = {run.run_id for run in airflow._newest("monitor_models")}
    page.goto(f"{played.settings.airflow_url}/dags/monitor_models")
    page.get_by_role("button", name="Trigger").first.click()
    field = page.locator("#element_dataset_version")
    field.wait_for()
    assert field.input_value() == "latest"
    field.fill("dataset-2")
    picture("airflow-form")
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
    fresh = eventually(lambda: next((run for run in airflow._newest("monitor_models") if run.run_id not in before), None))
    run = airflow.wait(fresh, timeout_seconds=180)
    assert run.state == "success"
    assert airflow.xcom(run, "check_drift")["dataset_version"] == "dataset-2"
    page.goto(f"{airflow.link(run)}/tasks/check_drift/details")
    report = page.get_by_role("link", name="Report", exact=True)
    report.wait_for()
    assert (report.get_attribute("href") or "").endswith("/endcap/reports/drift/dataset-2/index.html")
    picture("airflow-task")


def test_a_promotion_is_approved_by_a_person(
    played: Played, airflow: AirflowClient, page: Page, picture: Callable[[str], None]
) -> None:
    champion = played.summary["champion"]
    run = airflow.trigger("promote_model", {"model_version": champion})
    eventually(lambda: airflow.waits_for_person(run, "approve"))
    page.goto(f"{airflow.link(run)}/tasks/approve/required_actions")
    approve = page.get_by_role("button", name="Approve")
    approve.wait_for()
    page.get_by_text(f"Promote model {champion}?").first.wait_for()
    picture("airflow-approval")
    approve.click()
    run = airflow.wait(run, timeout_seconds=120)
    assert run.state == "success"
    assert airflow.tasks(run)["promote"] == "success"


def test_a_rejected_promotion_ends_red(played: Played, airflow: AirflowClient) -> None:
    run = airflow.trigger("promote_model", {"model_version": played.summary["champion"]})
    eventually(lambda: airflow.waits_for_person(run, "approve"))
    airflow.answer(run, "approve", "Reject", {"reason": "too many lanterns"})
    run = airflow.wait(run, timeout_seconds=120)
    assert run.state == "failed"
    assert airflow.tasks(run)["reject"] == "failed"
    assert airflow.tasks(run)["promote"] == "skipped"


def test_scorecard_and_data_docs_open_inside_airflow(played: Played, page: Page, picture: Callable[[str], None]) -> None:
    page.goto(played.summary["model_versions"][0]["scorecard"])
    page.get_by_text("passed every gate").first.wait_for()
    picture("scorecard")
    page.goto(played.summary["quarantined"][0]["report"])
    page.get_by_text("event_id").first.wait_for()
    picture("data-docs")


def test_the_drift_report_opens(played: Played, page: Page, picture: Callable[[str], None]) -> None:
    page.goto(played.settings.evidently_url)
    page.get_by_text("Endcap").first.click()
    page.wait_for_load_state("networkidle")
    picture("evidently-project")
    page.goto(played.summary["drift"][0]["report"])
    page.wait_for_load_state("networkidle")
    picture("evidently-drift")
    assert "Airflow" not in page.title()


def test_the_registry_shows_the_champion_with_its_lineage(played: Played, page: Page, picture: Callable[[str], None]) -> None:
    champion = played.summary["champion"]
    page.goto(f"{played.settings.mlflow_url}/#/models/{MODEL_NAME}/versions/{champion}")
    page.get_by_text("dataset_version").first.wait_for()
    page.get_by_text("champion").first.wait_for()
    if (close := page.get_by_role("button", name="Close")).count():
        close.first.click()
    picture("mlflow-registry")


def test_the_service_shows_its_model_and_its_api(played: Played, page: Page, picture: Callable[[str], None]) -> None:
    page.goto(played.settings.serving_url)
    page.get_by_text("all well").wait_for()
    picture("service")
    page.goto(f"{played.settings.serving_url}/docs")
    page.get_by_text("/v1/recommendations").first.wait_for()
    picture("service-docs")


def test_a_visitor_shops_and_the_operator_sees_it(played: Played, page: Page) -> None:
    page.goto(f"{played.settings.serving_url}/shop")
    page.get_by_role("button", name="New visitor").click()
    page.locator("#shelf > li").first.wait_for()
    link = page.get_by_role("link", name=f"version {played.summary['champion']} in MLflow")
    assert (
        link.get_attribute("href")
        == f"{played.settings.mlflow_url}/#/models/{MODEL_NAME}/versions/{played.summary['champion']}"
    )
    page.goto(f"{played.settings.serving_url}/operator")
    page.get_by_role("heading", name="By model version").wait_for()


def eventually(find: Callable[[], Found | None], seconds: float = 90) -> Found:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.5)
    return found
