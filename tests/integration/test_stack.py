"""The stack with its real parts: who may do what, what is served to whom, what happens when a part or all of them die."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from endcap.config import Settings
from endcap.demo.airflow_client import AirflowClient, DagRun
from endcap.errors import EndcapError
from endcap.stack import control, log_ins, password
from endcap.stack.processes import stack_processes
from endcap.stack.supervisor import Supervisor

pytestmark = pytest.mark.stack
DAY = {"interval_start": "2011-01-01T00:00:00+00:00", "interval_end": "2011-01-02T00:00:00+00:00", "source": "log"}


@pytest.fixture
def client(stack: Settings) -> Iterator[Callable[..., AirflowClient]]:
    """Airflow's API as one of its users; connections are closed at the end."""
    with contextlib.ExitStack() as opened:

        def log_in(user: str = "operator", secret: str | None = None) -> AirflowClient:
            airflow = AirflowClient(stack.airflow_url, user, secret or password(stack, user))
            opened.callback(airflow._http.close)
            return airflow

        yield log_in


def eventually(holds: Callable[[], Any], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.3)


def test_every_part_is_well_and_up_again_changes_nothing(stack: Settings) -> None:
    before = {name: record["pid"] for name, record in Supervisor(stack.paths).processes().items()}
    control.up(stack)
    assert {name: record["pid"] for name, record in Supervisor(stack.paths).processes().items()} == before
    parts = control.status(stack)
    assert [part for part in parts if not part.well] == []
    assert len(parts) == 7


def test_airflow_read_all_dags_without_error(stack: Settings, client: Callable[..., AirflowClient]) -> None:
    airflow = client()
    assert airflow._call("GET", "/api/v2/importErrors")["import_errors"] == []
    assert not any(dag["is_paused"] for dag in airflow._call("GET", "/api/v2/dags")["dags"])
    assert airflow._call("GET", "/api/v2/pools/training")["slots"] == 1


def test_roles(stack: Settings, client: Callable[..., AirflowClient]) -> None:
    assert sorted(log_ins(stack)) == ["admin", "operator", "viewer"]
    with pytest.raises(EndcapError, match=r"[Ff]orbidden"):
        client("viewer").trigger("ingest_events", DAY)
    with pytest.raises(EndcapError, match="log-in"):
        client("operator", "wrong").run("ingest_events", "x")


def test_the_form_refuses_what_is_no_version(client: Callable[..., AirflowClient]) -> None:
    with pytest.raises(EndcapError, match="dataset_version"):
        client().trigger("retrain_full", {"dataset_version": "newest"})


def test_reports_are_for_those_who_logged_in(stack: Settings) -> None:
    folder = stack.paths.reports / "validation" / "b"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text("<h1>report</h1>")
    url = f"{stack.reports_url}/validation/b/"
    with httpx.Client() as browser:
        assert browser.get(url).status_code == 401
        away = browser.get(url, headers={"accept": "text/html"})
        assert (away.status_code, "/auth/login" in away.headers["location"]) == (307, True)
        answer = browser.post(
            f"{stack.airflow_url}/auth/token", json={"username": "viewer", "password": password(stack, "viewer")}
        )
        browser.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        assert browser.get(url).text == "<h1>report</h1>"
        assert browser.get(f"{stack.reports_url}/%2e%2e/secrets/airflow_passwords.json").status_code == 404


def test_an_empty_interval_makes_no_version_and_starts_nothing(stack: Settings, client: Callable[..., AirflowClient]) -> None:
    airflow = client()
    run = airflow.wait(airflow.trigger("ingest_events", DAY), timeout_seconds=180)
    assert (run.state, airflow.tasks(run)["quarantine_batch"]) == ("success", "skipped")
    assert airflow.tasks(run)["version_dataset"] == "skipped"


def test_a_part_that_dies_is_started_again(stack: Settings) -> None:
    supervisor = Supervisor(stack.paths)
    pid = supervisor.processes()["evidently"]["pid"]
    next(process for process in stack_processes(stack.home) if process.pid == pid).kill()
    eventually(lambda: supervisor.processes()["evidently"]["pid"] not in (0, pid))
    eventually(lambda: all(part.well for part in control.status(stack)))


def test_a_run_goes_on_after_everything_was_killed(stack: Settings, client: Callable[..., AirflowClient]) -> None:
    airflow = client()
    run: DagRun = airflow.trigger("ingest_events", DAY)
    eventually(lambda: airflow.run(run.dag_id, run.run_id).state == "running")
    for process in stack_processes(stack.home):
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that ended by itself since the list was made
            process.kill()
    eventually(lambda: not stack_processes(stack.home))
    assert {part.state for part in control.status(stack)} == {"down"}
    control.up(stack, seconds=240)
    assert airflow.wait(run, timeout_seconds=240).state == "success"
