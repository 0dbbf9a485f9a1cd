"""The trials of a study as MLflow runs below one parent run. What is there already is left, so that logging again mends gaps.

A study is kept by Optuna (tuning/study.py); MLflow is where people compare trials with each other and with other experiments.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from endcap.release.candidate import experiment_id
from endcap.release.connection import Connection
from endcap.tuning.study import values_of

EXPERIMENT = "endcap-tuning"
STUDY, TRIAL, PARENT = "endcap.study", "endcap.trial", "mlflow.parentRunId"
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


class TrialLog:
    """One study's runs. Each method connects anew, so MLflow may come and go between two trials."""

    def __init__(self, url: str, study: str, metric: str) -> None:
        self.connection, self.study, self.metric = Connection(url), study, metric

    def sync(self, trials: Sequence[Any]) -> str:
        """Log every finished trial (optuna.trial.FrozenTrial) that MLflow does not hold yet. Returns the parent run's id.

        Raises:
            ServiceUnavailable: MLflow does not answer; what is missing is logged next time.
        """
        with self.connection.open(f"logging the trials of study {self.study}") as client:
            experiment = experiment_id(client, EXPERIMENT)
            runs = self._runs(client, experiment)
            parent = runs.get("") or self._create(client, experiment, self.study, {})
            for trial in trials:
                known = runs.get(str(trial.number))
                if known is None or known.info.status == "RUNNING":
                    tags = {PARENT: parent.info.run_id, TRIAL: str(trial.number)}
                    run = known or self._create(client, experiment, f"trial {trial.number}", tags)
                    self._fill(client, run.info.run_id, trial)
            return str(parent.info.run_id)

    def conclude(self, trials: Sequence[Any], best: Any, facts: Mapping[str, Any], report: Path) -> str:
        """Write the best value, what the trials depend on and the report to the parent run. Returns the run's page.

        Raises:
            ServiceUnavailable: MLflow does not answer.
        """
        parent = self.sync(trials)
        with self.connection.open(f"logging the outcome of study {self.study}") as client:
            from mlflow.entities import Metric, RunTag

            client.log_batch(parent, metrics=[Metric(self.metric, best.value, _now(), best.number)])
            chosen = {f"best.{key}": value for key, value in values_of(best.params).items()}
            tags = {**{f"endcap.{key}": value for key, value in facts.items()}, **chosen, "best.trial": best.number}
            client.log_batch(parent, tags=[RunTag(key, str(value)[:5000]) for key, value in tags.items()])
            client.log_artifacts(parent, str(report), "report")
            client.set_terminated(parent, "FINISHED")
            run = client.get_run(parent)
        return f"{self.connection.url}/#/experiments/{run.info.experiment_id}/runs/{parent}"

    def _create(self, client: Any, experiment: str, name: str, tags: Mapping[str, str]) -> Any:
        return client.create_run(experiment, run_name=name, tags={STUDY: self.study, **tags})

    def _runs(self, client: Any, experiment: str) -> dict[str, Any]:
        """Trial number → run; the parent has the empty number."""
        wanted = f"tags.`{STUDY}` = '{self.study}'"
        found = client.search_runs([experiment], filter_string=wanted, max_results=10_000)
        return {run.data.tags.get(TRIAL, ""): run for run in found}

    def _fill(self, client: Any, run_id: str, trial: Any) -> None:
        from mlflow.entities import Metric, Param

        params = [Param(key, str(value)) for key, value in values_of(trial.params).items()]
        points = [Metric("progress", value, _now(), step) for step, value in trial.intermediate_values.items()]
        if trial.state.name == "COMPLETE":
            points.append(Metric(self.metric, trial.value, _now(), 0))
        if trial.duration:
            points.append(Metric("seconds", trial.duration.total_seconds(), _now(), 0))
        client.log_batch(run_id, metrics=[one for one in points if math.isfinite(one.value)], params=params)
        for key, value in trial.user_attrs.items():
            client.set_tag(run_id, f"endcap.{key}", str(value)[:5000])
        client.set_terminated(run_id, STATUS.get(trial.state.name, "FAILED"))


def _now() -> int:
    return int(time.time() * 1000)
