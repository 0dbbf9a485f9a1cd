"""A tiny project with the shape of Endcap's: two stages, one module, and the real params.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from endcap.config import Settings
from endcap.data.versions import DatasetRepository

ROOT = Path(__file__).resolve().parents[3]

DVC_YAML = """
stages:
  prepare:
    cmd: python -m standin prepare
    deps: [data/dataset, src/standin.py]
    outs: [work/prepared]
  train:
    cmd: python -m standin train
    deps: [work/prepared, data/parent]
    params: [train]
    outs: [work/model]
"""

STANDIN = """
import os, pathlib, sys
stage = sys.argv[1]
print(f"stand-in {stage} runs", flush=True)
print("remembers home", os.environ["ENDCAP_HOME"], file=sys.stderr, flush=True)
out = pathlib.Path("work", {"prepare": "prepared", "train": "model"}[stage])
out.mkdir(parents=True)
if stage == "prepare":
    (out / "names.txt").write_text(pathlib.Path("data/dataset/catalog.parquet").read_text())
else:
    (out / "model.txt").write_text((pathlib.Path("work/prepared/names.txt")).read_text().upper())
"""


@pytest.fixture
def project(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in project, an unpacked archive without git, which `ENDCAP_PROJECT` names."""
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / ".dvc").mkdir()
    (root / "src" / "standin.py").write_text(STANDIN)
    (root / "dvc.yaml").write_text(DVC_YAML)
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    monkeypatch.setenv("ENDCAP_PROJECT", str(root))
    return root


@pytest.fixture
def commit_catalog() -> Callable[[DatasetRepository, str, str], None]:
    """Makes the next version, whose catalogue is the given text: commit_catalog(repository, batch_id, text)."""

    def commit(repository: DatasetRepository, batch_id: str, text: str) -> None:
        def write(folder: Path) -> dict[str, object]:
            (folder / "catalog.parquet").unlink(missing_ok=True)
            (folder / "catalog.parquet").write_text(text)
            day = "2011-12-01T00:00:00+00:00"
            return {"interval_start": day, "interval_end": day, "events": 1, "users": 1, "items": 1, "added_events": 1}

        repository.commit(batch_id, write)

    return commit


@pytest.fixture
def datasets(settings: Settings, commit_catalog: Callable[[DatasetRepository, str, str], None]) -> DatasetRepository:
    """A repository with dataset-1, whose catalogue says "tea"."""
    repository = DatasetRepository(settings.paths, settings.dvc_remote_url, "abc")
    commit_catalog(repository, "file-1", "tea")
    return repository
