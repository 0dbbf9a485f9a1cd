"""Results of benchmarks as runs of a real MLflow."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

from endcap.benchmark import experiment_log
from endcap.benchmark.experiment_log import EXPERIMENT, PARENT, log_result
from endcap.errors import ServiceUnavailable

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
QUALITY = {
    "commit": "abc", "protocol": {"name": "leave-one-out"}, "data": {"files": {"f.parquet": "12"}, "columns": {"user": "user"}},
    "models": {
        "popularity": {"mean": {"ndcg@10": 0.01, "cold.recall@20": float("nan"), "gini@5": None}, "training": {}},
        "Endcap": {"mean": {"ndcg@10": 0.06}, "training": {"42": {"hyper_parameters": {"dim": 64, "augment": {"crop": 0.0}}}}},
    },
}  # fmt: skip


def runs(url: str, page: str) -> tuple[Any, dict[str, Any]]:
    client = mlflow.MlflowClient(tracking_uri=url)
    parent = client.get_run(page.rsplit("/", 1)[1])
    wanted = f"tags.`{PARENT}` = '{parent.info.run_id}'"
    found = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id], wanted)
    return parent, {run.info.run_name: run for run in found}


def test_each_model_is_a_run_with_its_figures_and_knobs(mlflow_url: str, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    out.write_text("{}")
    parent, models = runs(mlflow_url, log_result(mlflow_url, "quality", QUALITY, (out,)))
    assert parent.data.tags["commit"] == "abc"
    assert parent.data.tags["data.columns.user"] == "user"
    assert {name: run.data.metrics for name, run in models.items()} == {
        "popularity": {"ndcg_at_10": 0.01}, "Endcap": {"ndcg_at_10": 0.06},
    }  # fmt: skip
    assert models["Endcap"].data.params == {"dim": "64", "augment.crop": "0.0"}
    assert {run.info.status for run in (parent, *models.values())} == {"FINISHED"}
    listed = mlflow.MlflowClient(tracking_uri=mlflow_url).list_artifacts(parent.info.run_id)
    assert [file.path for file in listed] == ["r.json"]


@pytest.mark.parametrize("name", ["quality_beauty_ids", "behaviour"])
def test_the_results_that_the_project_keeps_can_be_logged(name: str, mlflow_url: str) -> None:
    result = json.loads((RESULTS / f"{name}.json").read_text())
    parent, models = runs(mlflow_url, log_result(mlflow_url, name, result))
    assert parent.data.tags["commit"] == result["commit"]
    assert len(models) >= 4
    assert all(run.data.metrics for run in models.values())


@pytest.mark.parametrize("name", ["scale", "distributed", "ingest"])
def test_results_without_models_stand_on_the_run_itself(name: str, mlflow_url: str) -> None:
    result = json.loads((RESULTS / f"{name}.json").read_text())
    parent, models = runs(mlflow_url, log_result(mlflow_url, name, result))
    assert models == {}
    assert {type(value) for value in parent.data.metrics.values()} == {float}
    assert len(parent.data.metrics) >= 1


def test_an_mlflow_that_is_away_says_so() -> None:
    with pytest.raises(ServiceUnavailable, match="logging the benchmark quality"):
        log_result("http://127.0.0.1:9", "quality", QUALITY)


def test_examples_in_the_docs_hold() -> None:
    assert doctest.testmod(experiment_log).failed == 0
