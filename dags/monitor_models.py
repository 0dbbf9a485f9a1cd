"""### Has the shop moved away from what the champion learnt?

**When**: after every new dataset version (asset `dataset`), or by hand.

**Steps**: compare the newest interval with the champion's training data (columns, texts, scores, online quality) → is an
update wanted? (drift, and the cooldown is over) → announce it with the asset `drift`, which starts `update_incremental`.
No drift: the last two tasks are skipped and nothing starts. The Evidently report is linked on `check_drift`.

**Run again**: writes the same report; an update that was announced is not announced again by another run,
nor is another one within the cooldown.

**Runbooks**: `docs/runbooks/drift-reported.md`, `docs/runbooks/airflow-away-or-task-stuck.md`
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from endcap.pipeline import monitor
from loop import DATASET, DATASET_PATTERN, DRIFT, RULES, from_event

PARAMS = {
    "dataset_version": Param(
        "latest",
        type="string",
        pattern=DATASET_PATTERN,
        title="Dataset version",
        description="Whose newest interval is judged: `latest` or a version such as `dataset-3`.",
    ),
}


@task
def check_drift(dataset_version: str) -> dict[str, Any]:
    return monitor.check_drift(dataset_version)


@task.short_circuit
def update_wanted(check: dict[str, Any], run: str) -> bool:
    return monitor.update_wanted(check, run)


@task(outlets=[DRIFT])
def announce_drift(dataset_version: str, *, outlet_events: Any = None) -> None:
    outlet_events[DRIFT].extra = {"dataset_version": dataset_version}


@dag(schedule=[DATASET], params=PARAMS, doc_md=__doc__, tags=["endcap", "monitoring"],
     max_active_runs=1, dagrun_timeout=timedelta(hours=1), **RULES)  # fmt: skip
def monitor_models() -> None:
    version = from_event("dataset_version")
    update_wanted(check_drift(version), "{{ run_id }}") >> announce_drift(version)


DAG = monitor_models()
