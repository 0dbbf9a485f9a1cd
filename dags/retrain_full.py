"""### Train a model from scratch on a dataset version

**When**: by hand, or on `ENDCAP_RETRAIN_SCHEDULE` (cron).

**Steps**: a workspace of its own at a pinned dataset version and code → prepare → adapt → encode → tune → train → evaluate
(but for tune the stages of `dvc.yaml`, one task each) → a candidate in the registry, which the asset `candidate` announces. It
is not served: `promote_model` decides that. `tune` does nothing unless trials are asked for; else it searches hyper-parameters
on the validation days (section `tune` of `params.yaml`). The best become part of the run's code; its output links a report.

**Run again**: stages whose inputs did not change are restored from the cache, and trials that ended are kept. Clear a failed
task to go on from there.

**Runbooks**: `docs/runbooks/airflow-away-or-task-stuck.md`, `docs/runbooks/run-was-killed.md`
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import Param, dag

from loop import DATASET_PATTERN, RULES
from training import train_candidate

PARAMS = {
    "dataset_version": Param(
        "latest",
        type="string",
        pattern=DATASET_PATTERN,
        title="Dataset version",
        description="`latest` or a version such as `dataset-3` (`endcap dataset list`).",
    ),
    "tune_trials": Param(
        0,
        type="integer",
        minimum=0,
        maximum=1000,
        title="Trials of tuning",
        description="0: train with the values of params.yaml. Else so many full trainings search for better ones first.",
    ),
}


@dag(schedule=os.environ.get("ENDCAP_RETRAIN_SCHEDULE") or None, params=PARAMS, doc_md=__doc__, tags=["endcap", "training"],
     max_active_runs=2, dagrun_timeout=timedelta(hours=6), **RULES)  # fmt: skip
def retrain_full() -> None:
    train_candidate("full", "{{ params.dataset_version }}", "{{ params.tune_trials }}")


DAG = retrain_full()
