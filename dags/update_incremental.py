"""### Update the champion with newer events

**When**: when `monitor_models` announces drift (asset `drift`), or by hand.

**Steps**: a workspace with the champion as parent → prepare → adapt → encode → train (warm start; new items get vectors
from their text; old interactions are replayed) → evaluate → a candidate in the registry. Drift trains, it never promotes: the
candidate passes the gates and a person like any other.

**Run again**: stages whose inputs did not change are restored from the cache. Clear a failed task to go on from there.

**Runbooks**: `docs/runbooks/airflow-away-or-task-stuck.md`, `docs/runbooks/run-was-killed.md`
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from loop import DATASET_PATTERN, DRIFT, RULES, from_event
from training import train_candidate

PARAMS = {
    "dataset_version": Param(
        "latest",
        type="string",
        pattern=DATASET_PATTERN,
        title="Dataset version",
        description="`latest` or a version such as `dataset-3`. A run that drift started takes the version that drifted.",
    ),
}


@dag(schedule=[DRIFT], params=PARAMS, doc_md=__doc__, tags=["endcap", "training"],
     max_active_runs=2, dagrun_timeout=timedelta(hours=2), **RULES)  # fmt: skip
def update_incremental() -> None:
    train_candidate("incremental", from_event("dataset_version"))


DAG = update_incremental()
