"""### Take one closed interval of events into a new dataset version

**When**: by hand, also for a landed file (`endcap ingest FILE` names it), or on `ENDCAP_INGEST_SCHEDULE` (cron).

**Steps**: collect the batch → validate it against `expectations/` → clean → commit a dataset version, which the asset
`dataset` announces. A batch that breaks a blocking expectation goes to quarantine, whole, and the run is red with the reasons.

**Run again**: the same interval reads the same events and writes the same result; a batch that is already in a version is
not taken twice. Safe after a kill at any step.

**Runbooks**: `docs/runbooks/batch-quarantined.md`, `docs/runbooks/run-was-killed.md`
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from endcap.pipeline import ingest, quarantine
from loop import DATASET, FINAL, RULES

MOMENT = {"type": ["null", "string"], "format": "date-time"}
PARAMS = {
    "interval_start": Param(None, **MOMENT, title="From", description="UTC, inclusive. Empty: a day before this run."),
    "interval_end": Param(None, **MOMENT, title="To", description="UTC, exclusive. Empty: the start of this run."),
    "source": Param("log", type="string", title="Source", description="`log` or a landed file batch.", examples=["log"]),
}
END = "{{ params.interval_end or dag_run.run_after.isoformat() }}"
START = "{{ params.interval_start or (dag_run.run_after - macros.timedelta(days=1)).isoformat() }}"


@task
def collect_batch(start: str, end: str, source: str) -> dict[str, Any]:
    return ingest.collect_batch(start, end, source)


@task
def validate_batch(batch_id: str) -> dict[str, Any]:
    return ingest.validate_batch(batch_id)


@task.branch
def accept_or_quarantine(passed: bool) -> str:
    return "clean_batch" if passed else "quarantine_batch"


@task(**FINAL)
def quarantine_batch(batch_id: str) -> None:
    quarantine.quarantine_batch(batch_id)


@task
def clean_batch(batch_id: str) -> dict[str, Any]:
    return ingest.clean_batch(batch_id)


@task(outlets=[DATASET])
def version_dataset(batch_id: str, *, ti: Any = None, outlet_events: Any = None) -> dict[str, Any]:
    made = ingest.version_dataset(batch_id, ti.run_id)
    if made["skipped"]:
        ti.xcom_push("return_value", made)
        raise AirflowSkipException(f"nothing new: the batch adds nothing beyond {made['dataset_version']}")
    outlet_events[DATASET].extra = {"dataset_version": made["dataset_version"]}
    return made


@dag(schedule=os.environ.get("ENDCAP_INGEST_SCHEDULE") or None, params=PARAMS, doc_md=__doc__, tags=["endcap", "data"],
     max_active_runs=1, dagrun_timeout=timedelta(hours=2), **RULES)  # fmt: skip
def ingest_events() -> None:
    batch = collect_batch(START, END, "{{ params.source }}")["batch_id"]
    choice = accept_or_quarantine(validate_batch(batch)["passed"])
    choice >> clean_batch(batch) >> version_dataset(batch)
    choice >> quarantine_batch(batch)


DAG = ingest_events()
