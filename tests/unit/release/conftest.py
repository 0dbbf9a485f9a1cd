"""One tiny model, packaged as it would be registered, and the dataset version whose last week judges it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.fixtures.release_exam import HOLDOUT_DAYS, write_dataset
from tests.fixtures.tiny_model import build_tiny_model

from endcap.contracts import ModelVersion
from endcap.release.gates import Exam
from endcap.release.package import package
from endcap.release.signing import Keys


@pytest.fixture(scope="session")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    folder = tmp_path_factory.mktemp("exam")
    model = build_tiny_model(folder / "model")
    dataset = write_dataset(folder / "dataset")
    card = json.loads((dataset / "dataset.json").read_text())
    return Exam(package(model, folder / "package"), None, dataset, "dataset-1", card, HOLDOUT_DAYS, recent_days=28)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.load(tmp_path / "secrets")


@pytest.fixture
def version() -> ModelVersion:
    return ModelVersion("3", "full", "dataset-2", "c0de", "9a9a", "d1" * 32, "run1")
