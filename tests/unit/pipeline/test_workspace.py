"""Workspaces: pinned, whole or absent, and never in each other's way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from endcap.config import load_params
from endcap.data.locks import locked
from endcap.data.versions import DatasetRepository
from endcap.errors import ConfigError, DatasetError, ServiceUnavailable
from endcap.pipeline import code
from endcap.pipeline import workspace as workspaces

Commit = Callable[[DatasetRepository, str, str], None]


def test_a_workspace_holds_code_data_and_its_card(project: Path, datasets: DatasetRepository) -> None:
    path = workspaces.create("manual__2011-12-01T00:00:00+00:00")
    assert ":" not in path.name
    card = workspaces.read(path)
    assert (card.dataset_version, card.kind, card.parent_version) == ("dataset-1", "full", None)
    assert card.code_tree == code.snapshot().tree
    assert card.params_hash == load_params(project / "params.yaml").digest()
    assert (path / "data/dataset/catalog.parquet").read_text() == "tea"
    assert json.loads((path / "data/parent/parent.json").read_text()) == {"kind": "full"}
    assert (path / "src/standin.py").exists()


def test_a_rerun_keeps_what_was_pinned(project: Path, datasets: DatasetRepository, commit_catalog: Commit) -> None:
    first = workspaces.create("run-1")
    commit_catalog(datasets, "file-2", "coffee")
    (project / "src/standin.py").write_text("raise SystemExit\n")
    assert workspaces.create("run-1") == first
    assert workspaces.read(first).dataset_version == "dataset-1"
    assert workspaces.read(workspaces.create("run-2")).dataset_version == "dataset-2"
    assert workspaces.read(workspaces.create("run-3", dataset_version="dataset-1")).dataset_version == "dataset-1"


def test_overrides_become_part_of_the_code(project: Path, datasets: DatasetRepository) -> None:
    plain = workspaces.read(workspaces.create("plain"))
    path = workspaces.create("short", params_overrides={"train.max_epochs": 1, "train.update.epochs": 3})
    card = workspaces.read(path)
    assert load_params(path / "params.yaml").train.update.epochs == 3
    assert card.params_hash != plain.params_hash
    assert card.code_tree != plain.code_tree
    stored = code.read(card.code_tree, "params.yaml")
    assert yaml.safe_load(stored or b"")["train"]["max_epochs"] == 1
    with pytest.raises(ConfigError, match="max_epochs"):
        workspaces.create("typo", params_overrides={"train.max_epoch": 1})
    assert not (path.parent / "typo").exists()


def test_nothing_is_left_when_it_cannot_be_made(project: Path, datasets: DatasetRepository, home: Path) -> None:
    with pytest.raises(DatasetError, match=r"dataset-9.*Known"):
        workspaces.create("run", dataset_version="dataset-9")
    with pytest.raises(ConfigError, match="kind"):
        workspaces.create("run", kind="partial")
    assert list((home / "workspaces").iterdir()) == []
    assert [path.name for path in (home / "scratch").iterdir()] == [".lock"]


def test_an_update_needs_the_registry(
    project: Path, datasets: DatasetRepository, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("ENDCAP_MLFLOW_URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match="MLflow"):
        workspaces.create("run", kind="incremental")
    assert list((home / "workspaces").iterdir()) == []


def test_old_workspaces_go_but_never_one_in_use(project: Path, datasets: DatasetRepository) -> None:
    paths = [workspaces.create(f"run-{number}") for number in range(4)]
    for age, path in enumerate(reversed(paths)):
        os.utime(path / workspaces.CARD, (1_000_000 - age, 1_000_000 - age))
    with locked(paths[0] / workspaces.LOCK):
        assert workspaces.prune(paths[0].parent, keep=2) == [paths[1]]
    assert [path.exists() for path in paths] == [True, False, True, True]
    with pytest.raises(DatasetError, match="no such workspace"):
        workspaces.read(paths[1])
