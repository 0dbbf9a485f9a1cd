"""A small client of Airflow's REST API (v2): trigger, wait, read, answer the person's step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from endcap.errors import EndcapError, ServiceUnavailable

PARKING_SECONDS = 3.0
DONE = frozenset({"success", "failed"})
OnTasks = Callable[[dict[str, str]], None]


@dataclass(frozen=True, slots=True)
class DagRun:
    """A DAG run as the API shows it."""

    dag_id: str
    run_id: str
    state: str

    @property
    def done(self) -> bool:
        return self.state in DONE


class AirflowClient:
    """Talks to Airflow as one user. Tokens are renewed when they expire."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._user, self._password, self.url = user, password, url
        self._http = httpx.Client(base_url=url, timeout=60)

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> DagRun:
        """Start a run now. `conf` must match the DAG's form."""
        body = self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        return DagRun(dag_id, body["dag_run_id"], body["state"])

    def run(self, dag_id: str, run_id: str) -> DagRun:
        body = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
        return DagRun(dag_id, run_id, body["state"])

    def tasks(self, run: DagRun) -> dict[str, str]:
        """Task id → state, in the order of start."""
        body = self._call("GET", f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances")
        rows = sorted(body["task_instances"], key=lambda row: row["start_date"] or "9999")
        return {row["task_id"]: row["state"] or "none" for row in rows}

    def wait(self, run: DagRun, *, timeout_seconds: float = 600, on_tasks: OnTasks | None = None) -> DagRun:
        """Wait until the run has ended, whatever its outcome.

        Raises:
            EndcapError: it has not ended in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            run = self.run(run.dag_id, run.run_id)
            if on_tasks:
                on_tasks(self.tasks(run))
            if run.done:
                return run
            if time.monotonic() > deadline:
                action = f"Look at {self.link(run)} and `endcap logs airflow-scheduler`."
                raise EndcapError(
                    f"not finished after {timeout_seconds:.0f} s", field=run.dag_id, value=run.run_id, action=action
                )
            time.sleep(0.5)

    def started_by(self, dag_id: str, source: DagRun, *, timeout_seconds: float = 60) -> DagRun | None:
        """The run of `dag_id` that an asset event of `source` started; None when there is none in time."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            for run in self._newest(dag_id):
                started = run.state != "queued"  # Airflow cannot show the events of a run without a start
                if started and run.run_id.startswith("asset_triggered") and source.run_id in self._sources(run):
                    return run
            if time.monotonic() > deadline:
                return None
            time.sleep(0.5)

    def xcom(self, run: DagRun, task_id: str, key: str = "return_value") -> Any:
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._call("GET", path, params={"deserialize": False})["value"]

    def waits_for_person(self, run: DagRun, task_id: str) -> bool:
        """Whether the person's step of this run has been asked for some seconds and is not yet answered.

        An answer given while Airflow still parks the task fails it: the executor reports the end of a task queued again.
        """
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/hitlDetails"
        for row in self._call("GET", path)["hitl_details"]:
            if row["task_instance"]["task_id"] == task_id and not row["response_received"]:
                asked = datetime.now(UTC) - datetime.fromisoformat(row["created_at"])
                return asked.total_seconds() >= PARKING_SECONDS
        return False

    def answer(self, run: DagRun, task_id: str, option: str, params: dict[str, Any] | None = None) -> None:
        """Answer the person's step as this client's user."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self._call("PATCH", path, json={"chosen_options": [option], "params_input": params or {}})

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def link(self, run: DagRun) -> str:
        """The run's page in the UI."""
        return f"{self.url}/dags/{run.dag_id}/runs/{run.run_id}"

    def _newest(self, dag_id: str, limit: int = 20) -> Iterator[DagRun]:
        body = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"order_by": "-run_after", "limit": limit})
        for row in body["dag_runs"]:
            yield DagRun(dag_id, row["dag_run_id"], row["state"])

    def _sources(self, run: DagRun) -> set[str]:
        body = self._call("GET", f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/upstreamAssetEvents")
        return {event["source_run_id"] for event in body["asset_events"]}

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        try:
            if "Authorization" not in self._http.headers:
                self._log_in()
            response = self._http.request(method, path, **kwargs)
            if response.status_code == 401:
                self._log_in()
                response = self._http.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise ServiceUnavailable(
                f"Airflow does not answer ({error})", field=self.url, action="`endcap status` shows what runs."
            ) from error
        if response.is_error:
            raise EndcapError(
                f"Airflow refused {method} {path}", value=response.text, action="See `endcap logs airflow-api-server`."
            )
        return response.json()

    def _log_in(self) -> None:
        self._http.headers.pop("Authorization", None)
        response = self._http.post("/auth/token", json={"username": self._user, "password": self._password})
        if response.is_error:
            action = "Set ENDCAP_AIRFLOW_USER and ENDCAP_AIRFLOW_PASSWORD; `endcap env --secrets` shows the generated ones."
            raise EndcapError("Airflow refused the log-in", field="ENDCAP_AIRFLOW_USER", value=self._user, action=action)
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
