"""A study in a folder with prepared data: real fits, trials in MLflow, a page, a workspace that takes the best values over."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from tests.unit.pipeline.test_stages import no_encoder, write_dataset, write_parent
from typer.testing import CliRunner

from endcap.cli import app
from endcap.config import Params, load_params, with_values
from endcap.data.locks import locked
from endcap.data.versions import DatasetRepository
from endcap.errors import ConfigError, DatasetError, ServiceUnavailable, TrainingError
from endcap.pipeline import code, stages, text_stages
from endcap.pipeline import workspace as workspaces
from endcap.pipeline.params_file import write_values
from endcap.pipeline.study_objective import by_epoch, make_search
from endcap.pipeline.tune import tune, tune_workspace
from endcap.release.trials import EXPERIMENT, PARENT, TRIAL, TrialLog

ROOT = Path(__file__).resolve().parents[3]
QUICK = {
    "train.dim": 16,
    "train.max_length": 20,
    "train.max_epochs": 2,
    "tune.pruner": "none",
    "tune.space": {"train.dim": {"choices": [8, 16]}, "train.learning_rate": {"low": 0.001, "high": 0.01, "log": True}},
}

__all__ = ["no_encoder"]  # a fixture


@pytest.fixture
def quick(params: Params) -> Params:
    return with_values(params, QUICK)


@pytest.fixture
def prepared(tmp_path: Path, quick: Params, no_encoder: None) -> Path:
    root = tmp_path / "checkout"
    write_dataset(root)
    write_parent(root)
    stages.prepare(root, quick)
    text_stages.encode(root, quick)
    return root


@pytest.fixture
def mlflow(mlflow_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("ENDCAP_MLFLOW_URL", mlflow_url)
    return MlflowClient(mlflow_url)


def runs(client: MlflowClient, study: str) -> dict[str, Any]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment
    found = client.search_runs([experiment.experiment_id], f"tags.`endcap.study` = '{study}'")
    return {run.data.tags.get(TRIAL, ""): run for run in found}


def test_a_study_is_run_shown_logged_and_gone_on_with(
    prepared: Path, quick: Params, mlflow: MlflowClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    first = tune(prepared, quick, trials=2, progress=shown.append)
    assert first["trials"] == len(shown) == 2
    second = tune(prepared, quick, trials=3)
    assert (second["study"], second["trials"]) == (first["study"], 3)
    assert second["best_value"] >= second["present_value"] == first["present_value"]
    folder = home / "tuning" / second["study"]
    overlay = yaml.safe_load((folder / "best.yaml").read_text())["train"]
    assert {f"train.{key}": value for key, value in overlay.items()} == second["values"]
    assert json.loads((folder / "outcome.json").read_text()) == second
    assert (home / "reports/tuning" / second["study"] / "index.html").exists()
    assert second["report_url"].endswith(f"/endcap/reports/tuning/{second['study']}/index.html")

    logged = runs(mlflow, second["study"])
    parent = logged.pop("")
    assert sorted(logged) == ["0", "1", "2"]
    assert {run.data.tags[PARENT] for run in logged.values()} == {parent.info.run_id}
    assert parent.info.run_id in second["mlflow_url"]
    assert parent.data.metrics["ndcg_at_10"] == second["best_value"]
    assert {run.info.status for run in (parent, *logged.values())} == {"FINISHED"}
    chosen = logged[str(second["best_trial"])]
    assert chosen.data.params == {key: str(value) for key, value in second["values"].items()}
    assert len(mlflow.get_metric_history(chosen.info.run_id, "progress")) == 2

    monkeypatch.setenv("ENDCAP_MLFLOW_URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match=f"logging the trials of study {second['study']}"):
        tune(prepared, quick, trials=4)


def test_trials_that_mlflow_missed_are_logged_later(
    prepared: Path, quick: Params, mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = TrialLog.sync, itertools.count()

    def away_after_the_start(log: TrialLog, trials: list[Any]) -> str:
        if next(calls) in (1, 2):
            raise ServiceUnavailable("MLflow does not answer")
        return real(log, trials)

    monkeypatch.setattr(TrialLog, "sync", away_after_the_start)
    tune(prepared, quick, study="gaps", trials=2)
    assert caplog.text.count("trial not logged yet") == 2
    assert sorted(runs(mlflow, "gaps")) == ["", "0", "1"]


def test_a_second_process_on_a_study_is_refused(prepared: Path, quick: Params, mlflow: MlflowClient, home: Path) -> None:
    with locked(home / "tuning" / "busy" / ".lock"), pytest.raises(ConfigError, match="study busy: is running in another"):
        tune(prepared, quick, study="busy")


def test_an_interrupted_command_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("endcap.pipeline.tune.tune", stopped)
    result = CliRunner().invoke(app, ["tune"])
    assert result.exit_code == 130
    assert "the same command goes on" in result.output


def test_what_a_study_depends_on_makes_its_name(prepared: Path, quick: Params, params: Params) -> None:
    facts = make_search(prepared, quick).facts
    assert facts["dataset_version"] == "dataset-1"
    inside = with_values(quick, {"train.learning_rate": 0.002, "train.update.epochs": 9, "tune.trials": 3})
    assert make_search(prepared, inside).facts == facts
    for key, value in {"train.layers": 2, "tune.metric": "recall_at_10", "prepare.validation_days": 3}.items():
        assert make_search(prepared, with_values(quick, {key: value})).facts != facts


def test_what_cannot_be_tuned_is_refused_before_anything_is_computed(
    prepared: Path, quick: Params, mlflow: MlflowClient, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"tune\.space: is empty"):
        tune(prepared, with_values(quick, {"tune.space": {}}))
    with pytest.raises(ConfigError, match="--study: is no name for a folder"):
        tune(prepared, quick, study="../up")
    with pytest.raises(DatasetError, match="Run the stages prepare and encode first"):
        tune(tmp_path / "nowhere", quick)
    (prepared / "data/parent/parent.json").write_text('{"kind": "incremental"}')
    with pytest.raises(ConfigError, match="only a full training is tuned"):
        tune(prepared, quick)


def test_values_that_do_not_go_together_fail_with_their_reason(prepared: Path, quick: Params, mlflow: MlflowClient) -> None:
    odd = with_values(quick, {"tune.sampler": "grid", "tune.space": {"train.heads": {"choices": [3]}}})
    with pytest.raises(TrainingError, match=r"no trial was completed.*train\.heads.*multiple of train\.heads"):
        tune(prepared, odd, study="odd")
    logged = runs(mlflow, "odd")
    assert (logged["0"].info.status, logged["0"].data.params) == ("FAILED", {"train.heads": "3"})


def test_the_trainers_lines_become_reports() -> None:
    told: list[tuple[int, float]] = []
    show = by_epoch(lambda epoch, value: told.append((epoch, value)))
    for line in (
        "epoch 1/8 loss 4.2100 validation NDCG 0.0390",
        "12 texts encoded",
        "epoch 2/8 loss 4.0000 validation NDCG 0.0412",
    ):
        show(line)
    assert told == [(1, 0.039), (2, 0.0412)]


def test_a_workspace_takes_the_best_values_over(
    project: Path, datasets: DatasetRepository, mlflow: MlflowClient, quick: Params, no_encoder: None, home: Path
) -> None:
    shutil.copytree(ROOT / "src" / "endcap", project / "src" / "endcap", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "expectations", project / "expectations")
    root = workspaces.create("retrain-1", params_overrides=QUICK)
    before = workspaces.read(root)
    shutil.rmtree(root / "data")
    write_dataset(root)
    write_parent(root)
    stages.prepare(root, quick)
    text_stages.encode(root, quick)

    assert tune_workspace(root, 0) == {"trials": 0}
    assert workspaces.read(root) == before
    outcome = tune_workspace(root, 2)
    card, params = workspaces.read(root), load_params(root / "params.yaml")
    assert outcome["trials"] == 2
    assert (params.train.dim, params.train.learning_rate) == tuple(outcome["values"].values())
    assert card.tuned == f"retrain-1#{outcome['best_trial']}"
    assert card.params_hash == params.digest()
    assert code.read(card.code_tree, "params.yaml") == (root / "params.yaml").read_bytes()
    assert tune_workspace(root, 2) == outcome
    assert workspaces.read(root) == card


def test_a_dry_run_shows_the_space_and_does_nothing(home: Path) -> None:
    result = CliRunner().invoke(app, ["tune", "--dry-run", "--sampler", "random", "--trials", "5"])
    assert result.exit_code == 0, result.output
    assert "random, 5 trials, judged by ndcg_at_10" in result.output
    assert "32, 64, 128" in result.output
    assert not home.exists()


def test_the_best_values_are_written_into_params_yaml(
    prepared: Path, mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "params.yaml", prepared / "params.yaml")
    write_values(prepared / "params.yaml", QUICK)
    monkeypatch.chdir(prepared)
    result = CliRunner().invoke(app, ["tune", "--trials", "2", "--study", "applied", "--apply"])
    assert result.exit_code == 0, result.output
    assert "trial 0 (1/2) complete" in result.output
    values = json.loads((prepared.parent / "home/tuning/applied/outcome.json").read_text())["values"]
    assert load_params(prepared / "params.yaml").train.learning_rate == values["train.learning_rate"]
