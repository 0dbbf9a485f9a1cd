"""Airflow as docker/compose.yaml runs it: PostgreSQL for its tables, tasks sent through Redis to a Celery worker."""

from __future__ import annotations

import contextlib
import json
import re
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from endcap.demo.airflow_client import AirflowClient, DagRun
from endcap.errors import EndcapError

if TYPE_CHECKING:
    from tests.fixtures.production import Compose

pytestmark = [pytest.mark.redis, pytest.mark.postgres]
DAY = {"interval_start": "2011-01-01T00:00:00+00:00", "interval_end": "2011-01-02T00:00:00+00:00", "source": "log"}
SERVICES = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-worker")


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def trigger_once_read(airflow: AirflowClient, seconds: float = 120) -> DagRun:
    """Start the run as soon as the DAG processor has read the file."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return airflow.trigger("ingest_events", DAY)
        except EndcapError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@pytest.mark.timeout(480)
def test_the_tasks_of_a_dag_run_on_a_celery_worker(compose: Compose) -> None:
    compose.run("airflow-database")
    with compose.up(*SERVICES):
        compose.wait_until_healthy("airflow-api-server")
        passwords = json.loads((compose.home / "airflow" / "simple_auth_manager_passwords.json.generated").read_text())
        with contextlib.closing(AirflowClient(compose.airflow_url, "operator", passwords["operator"])) as airflow:
            run = airflow.wait(trigger_once_read(airflow), timeout_seconds=180)
            tasks = airflow.tasks(run)
        for service in SERVICES[1:]:
            compose.wait_until_healthy(service)

    assert run.state == "success", (tasks, compose.log("airflow-worker")[-3000:])
    assert (tasks["clean_batch"], tasks["quarantine_batch"], tasks["version_dataset"]) == ("success", "skipped", "skipped")

    environment = compose.environment("airflow-worker")
    backend = environment["AIRFLOW__CELERY__RESULT_BACKEND"].removeprefix("db+")
    results = dict(rows(backend, "SELECT task_id, status FROM celery_taskmeta"))
    assert sorted(results.values()) == ["SUCCESS"] * 5, "one for each task but quarantine_batch"
    done = set(re.findall(r"Task execute_workload\[([\w-]+)\] succeeded", compose.log("airflow-worker")))
    assert done == set(results)

    metadata = environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert rows(metadata, "SELECT DISTINCT dag_id, state FROM dag_run") == [("ingest_events", "success")]
    assert rows(environment["ENDCAP_EVENT_LOG_URL"], "SELECT count(*) FROM events") == [(0,)], "the tasks made the event log"
