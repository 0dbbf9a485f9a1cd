"""The whole chain behind a request, read back over a real registry; and a model rebuilt from its lineage alone."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.tiny_model import build_tiny_model
from typer.testing import CliRunner

from endcap.cli import app
from endcap.config import Settings, load_settings
from endcap.data.events import EventLog
from endcap.data.versions import DatasetRepository
from endcap.errors import InputError, RegistryError
from endcap.pipeline import lineage, release, reproduce
from endcap.pipeline import workspace as workspaces
from endcap.release import promotion
from endcap.release.records import GATE, gate_record, to_tag
from endcap.release.registry import Registry
from endcap.release.signing import Keys

NOW = datetime(2011, 12, 1, tzinfo=UTC)
EVALUATE = """
  evaluate:
    cmd: python -m standin evaluate
    deps: [work/model]
    outs: [work/evaluation]
"""
STANDIN = """
import json, os, pathlib, sys
stage = sys.argv[1]
out = pathlib.Path("work", {"prepare": "prepared", "train": "model", "evaluate": "evaluation"}[stage])
out.mkdir(parents=True)
drift = pathlib.Path(os.environ["ENDCAP_HOME"], "drift")
value = len(pathlib.Path("data/dataset/catalog.parquet").read_text()) / 10 + drift.exists()
(out / "metrics.json").write_text(json.dumps({"ndcg_at_10": value}))
(out / "curves.csv").write_text("step,train_loss\\n0,2.0\\n1,1.0\\n")
"""


@pytest.fixture
def shop(project: Path, datasets: DatasetRepository, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The stand-in project with a third stage, its registry, and one request that model 1 answered."""
    monkeypatch.setenv("ENDCAP_MLFLOW_URL", mlflow_url)
    with (project / "dvc.yaml").open("a") as file:
        file.write(EVALUATE)
    (project / "src" / "standin.py").write_text(STANDIN)
    return load_settings()


def trained(name: str) -> str:
    """Version of a candidate that a workspace trained."""
    path = workspaces.create(name)
    for stage in reproduce.stages(path):
        reproduce.run_stage(path, stage)
    shutil.rmtree(path / "work" / "model")
    build_tiny_model(path / "work" / "model")
    return str(release.register_candidate(path)["model_version"])


def shown(settings: Settings, request_id: str, model: str, *, fallback: bool = False) -> None:
    log = EventLog(settings.event_log_url)
    log.create()
    row: dict[str, Any] = {
        "request_id": request_id,
        "user_id": "u1",
        "surface": "home",
        "time": NOW,
        "item_id": "i1",
        "rank": 1,
    }
    more = {"score": 0.5, "propensity": 1.0, "policy": "blend", "model_version": model, "fallback": fallback}
    log.append_exposures([row | more, row | more | {"item_id": "i2", "rank": 2, "policy": "pinned"}])
    log.close()


def approve(settings: Settings, model: str) -> None:
    registry, keys = Registry(settings.mlflow_url), Keys.load(settings.paths.secrets)
    record = gate_record(registry.get(model), passed=True, champion=None, checks={"NDCG@10 against popularity": True})
    registry.set_tags(model, {GATE: to_tag(keys.sign(record))})
    promotion.promote(registry, keys, model, "ann")


def test_a_request_leads_to_its_approver_and_a_model_is_rebuilt(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained("first")
    shown(shop, "req-1", model)
    bare = lineage.trace("req-1")
    assert "missing" in bare["gates"]
    assert "missing" in bare["approval"]

    approve(shop, model)
    chain = lineage.trace("req-1")
    assert [item["item_id"] for item in chain["request"]["items"]] == ["i1", "i2"]
    assert chain["model"]["version"] == model
    assert chain["dataset"]["version"] == "dataset-1"
    assert chain["dataset"]["batch_id"] == "file-1"
    assert chain["code"] == {"commit": f"snapshot-{chain['code']['tree'][:12]}", "tree": chain["code"]["tree"]}
    assert chain["params"]["hash"] == workspaces.read(shop.paths.workspaces / "first").params_hash
    assert (chain["gates"]["passed"], chain["gates"]["verified"]) == (True, True)
    assert (chain["approval"]["approved_by"], chain["approval"]["verified"]) == ("ann", True)
    assert chain["parents"] == []
    assert lineage.trace(f"model-{model}") == {key: value for key, value in chain.items() if key != "request"}
    assert lineage.trace("dataset-1")["models"] == [{"version": model, "kind": "full"}]

    found = json.loads(CliRunner().invoke(app, ["lineage", "req-1", "--json"]).stdout)
    assert found == chain
    tree = CliRunner().invoke(app, ["lineage", "req-1"], env={"COLUMNS": "200"}).stdout
    assert "approved_by: ann" in tree

    (shop.paths.workspaces / "first").rename(shop.paths.root / "gone")  # a rebuild needs neither the workspace nor the project
    monkeypatch.setenv("ENDCAP_PROJECT", "/nowhere")
    (same,) = reproduce.reproduce_model(model)
    assert (same.metric, same.original, same.difference) == ("ndcg_at_10", pytest.approx(0.3), 0.0)
    (shop.paths.root / "drift").touch()
    assert reproduce.reproduce_model(model)[0].difference == pytest.approx(1.0)
    outcome = CliRunner().invoke(app, ["reproduce", model])
    assert outcome.exit_code == 1
    assert "1 of 1 metrics differ" in outcome.stdout
    assert CliRunner().invoke(app, ["reproduce", model, "--tolerance", "2"]).exit_code == 0


def test_a_tampered_record_is_said_to_be_so(shop: Settings) -> None:
    model = trained("tampered")
    approve(shop, model)
    registry = Registry(shop.mlflow_url)
    record = json.loads(registry.get(model).tags[GATE])
    registry.set_tags(model, {GATE: to_tag(record | {"passed": True, "judged_at": "yesterday"})})
    chain = lineage.trace(model)
    assert chain["gates"]["verified"] is not True
    assert chain["approval"]["verified"] is not True


def test_what_cannot_be_traced_says_so(shop: Settings) -> None:
    shown(shop, "req-2", "popularity", fallback=True)
    found = lineage.trace("req-2")
    assert "fallback" in found["model"]["missing"]
    assert found["request"]["policy"] == "blend, pinned"
    with pytest.raises(InputError, match="no such request"):
        lineage.trace("req-absent")
    with pytest.raises(InputError, match="req-…"):
        lineage.trace("tuesday")
    with pytest.raises(RegistryError):
        lineage.trace("model-999")


def test_a_checkout_is_ready_for_dvc_by_hand(
    project: Path, datasets: DatasetRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert "dataset-1" in CliRunner().invoke(app, ["dataset", "pull"], catch_exceptions=False).stdout
    (project / "data/dataset/catalog.parquet").write_text("edited by hand")
    assert json.loads((project / "data/parent/parent.json").read_text()) == {"kind": "full"}
    assert "no_scm = True" in (project / ".dvc/config.local").read_text()
    assert CliRunner().invoke(app, ["dataset", "pull", "1"]).exit_code == 0
    assert (project / "data/dataset/catalog.parquet").read_text() == "tea", "the hand's edit never reached the cache"
    listed = CliRunner().invoke(app, ["dataset", "list"], env={"COLUMNS": "200"}).stdout
    assert "file-1" in listed
    assert json.loads(CliRunner().invoke(app, ["dataset", "show"]).stdout)["version"] == "dataset-1"
