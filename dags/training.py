"""The training tasks that `retrain_full` and `update_incremental` share: one task for each stage of dvc.yaml, in its order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import task

from endcap.pipeline import release, reproduce, tune
from endcap.pipeline import workspace as workspaces
from loop import CANDIDATE

STAGES = ("prepare", "adapt", "encode", "train", "evaluate")  # tests/dags compares them with dvc.yaml
TUNED = "train"  # the stage that the task tune stands before
POOL = "training"  # one slot: two trainings at once starve the machine


@task(execution_timeout=timedelta(minutes=10))
def make_workspace(run: str, dataset_version: str, kind: str) -> str:
    """A checkout of its own for this run: code, dataset version, parent model."""
    return str(workspaces.create(run, dataset_version=dataset_version, kind=kind))


@task(pool=POOL, execution_timeout=timedelta(hours=2))
def run_stage(workspace: str, stage: str) -> dict[str, Any]:
    """One stage by DVC: restored from the cache when nothing it depends on changed."""
    return reproduce.run_stage(workspace, stage)


@task(pool=POOL, execution_timeout=timedelta(hours=3))
def search(workspace: str, trials: str) -> dict[str, Any]:
    """Hyper-parameters by Optuna: the best ones become the workspace's. Nothing when no trials are asked for."""
    return tune.tune_workspace(workspace, int(trials))


@task(outlets=[CANDIDATE])
def register_candidate(workspace: str, *, outlet_events: Any = None) -> dict[str, Any]:
    """The model goes into the registry; nobody serves it before it passed its gates."""
    candidate = release.register_candidate(workspace)
    outlet_events[CANDIDATE].extra = {"model_version": candidate["model_version"]}
    return candidate


def train_candidate(kind: str, dataset_version: str, tune_trials: str = "") -> None:
    """make_workspace → every stage → register_candidate; with `tune_trials` (a template) a task `tune` before train."""
    workspace = make_workspace("{{ dag.dag_id }}-{{ run_id }}", dataset_version, kind)
    before = workspace
    for stage in STAGES:
        if stage == TUNED and tune_trials:
            tuned = search.override(task_id="tune")(workspace, tune_trials)
            before >> tuned
            before = tuned
        now = run_stage.override(task_id=stage)(workspace, stage)
        before >> now
        before = now
    before >> register_candidate(workspace)
