"""The release tasks as a DAG calls them, over a real MLflow server, dataset repository and workspace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fixtures.release_exam import END, exam_events, write_dataset
from tests.fixtures.tiny_model import START, build_tiny_model

from endcap.config import Settings, load_settings, project_root
from endcap.data.versions import DatasetRepository
from endcap.errors import GatesFailed, RecordInvalid, ReleaseError, TrainingError
from endcap.pipeline import release
from endcap.release.registry import Registry


@pytest.fixture
def shop(home: Path, mlflow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings over the server, thresholds for forty shoppers, and dataset-1."""
    params = yaml.safe_load((project_root() / "params.yaml").read_text())
    params["gates"] |= {"margin_vs_baselines": 0.05, "margin_vs_champion": 0.05, "max_latency_ms": 5000.0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setenv("ENDCAP_PARAMS", str(tmp_path / "params.yaml"))
    monkeypatch.setenv("ENDCAP_MLFLOW_URL", mlflow_url)
    settings = load_settings()
    commit_dataset(settings, "file-1")
    return settings


def commit_dataset(settings: Settings, batch_id: str) -> str:
    """The next dataset version, with the exam's events."""

    def write(folder: Path) -> dict[str, Any]:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_dataset(folder)
        (folder / "dataset.json").unlink()
        events = exam_events()
        counts = {"events": len(events), "users": 40, "items": 20, "added_events": len(events)}
        times = {"interval_start": START.isoformat(), "interval_end": END.isoformat()}
        return {**counts, **times, "validation": {"passed": True, "warnings": [], "report": "validation/file-1/index.html"}}

    return DatasetRepository(settings.paths, settings.dvc_remote_url, "c0de").commit(batch_id, write).version


def workspace(settings: Settings, name: str, seed: int = 0) -> Path:
    root = settings.paths.workspaces / name
    build_tiny_model(root / "work" / "model", seed=seed)
    evaluation = root / "work" / "evaluation"
    (evaluation / "plots").mkdir(parents=True)
    (evaluation / "metrics.json").write_text(json.dumps({"ndcg_at_10": 0.5}))
    (evaluation / "curves.csv").write_text("step,train_loss\n0,2.0\n1,1.0\n")
    shutil.copy(project_root() / "params.yaml", root / "params.yaml")
    lineage = {
        "run_id": name,
        "kind": "full",
        "dataset_version": "dataset-1",
        "parent_version": None,
        "created_at": END.isoformat(),
    }
    code = {"code_commit": "c0de", "code_tree": "7ree", "params_hash": "9a9a"}
    (root / "workspace.json").write_text(json.dumps({**lineage, **code}))
    return root


def test_a_candidate_is_registered_judged_approved_and_a_worse_one_refused(shop: Settings) -> None:
    first = release.register_candidate(workspace(shop, "run-1"))["model_version"]
    assert release.register_candidate(shop.paths.workspaces / "run-1")["model_version"] == first
    with pytest.raises(RecordInvalid):
        release.require_gates(first)

    outcome = release.evaluate_gates(first)
    assert outcome["failed"] == []
    assert release.require_gates(first)["report_url"] == outcome["report_url"]
    assert release.promote(first, "ann") == {"model_version": first, "approved_by": "ann"}
    assert release.verify_champion()["approved_by"] == "ann"

    page = shop.paths.reports / "gates" / f"model-{first}" / "index.html"
    assert outcome["report_url"] == f"{shop.reports_url}/gates/model-{first}/index.html"
    assert f"Model {first} passed every gate" in page.read_text()
    with Registry(shop.mlflow_url)._connection.open("a test") as client:
        version = client.get_model_version("endcap-recommender", first)
        assert f"[Scorecard]({outcome['report_url']})" in version.description
        assert "scorecard/index.html" in [file.path for file in client.list_artifacts(version.run_id, "scorecard")]

    again = release.evaluate_gates(first)  # judging the champion again neither needs itself as a rival nor unseats it
    assert again["passed"]
    assert release.verify_champion()["model_version"] == first

    newer = commit_dataset(shop, "file-2")  # what was learnt from an older version is judged on the newest one's newest days
    assert release.evaluate_gates(first)["passed"]
    record = json.loads((shop.paths.reports / "gates" / f"model-{first}" / "gate_record.json").read_text())
    assert (record["dataset_version"], record["judged_dataset_version"]) == ("dataset-1", newer)

    spoiled = workspace(shop, "run-2", seed=5)
    config = spoiled / "work" / "model" / "config.json"
    values = json.loads(config.read_text())
    values["blend_weights"] = {s: {n: -v for n, v in weights.items()} for s, weights in values["blend_weights"].items()}
    config.write_text(json.dumps(values))
    worse = release.register_candidate(spoiled)["model_version"]
    refused = release.evaluate_gates(worse)
    assert "NDCG@10 against the champion" in refused["failed"]
    assert refused["summary_markdown"].startswith("✗")
    with pytest.raises(GatesFailed, match="NDCG@10 against the champion"):
        release.require_gates(worse)
    with pytest.raises(RecordInvalid, match="not passed"):
        release.promote(worse, "ann")
    with pytest.raises(ReleaseError, match="was rejected by bob"):
        release.reject(worse, "bob", "worse")
    with pytest.raises(ReleaseError, match="no earlier champion"):
        release.rollback("ann")
    assert release.verify_champion()["model_version"] == first


def test_a_workspace_without_a_model_registers_nothing(shop: Settings) -> None:
    root = workspace(shop, "run-3")
    (root / "work" / "model" / "config.json").unlink()

    with pytest.raises(TrainingError, match="no trained model"):
        release.register_candidate(root)
