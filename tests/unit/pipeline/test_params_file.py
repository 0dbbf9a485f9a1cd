"""Values written into params.yaml: comments stay, and what is wrong changes nothing."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import pytest

from endcap.config import load_params, project_root
from endcap.errors import ConfigError
from endcap.pipeline.params_file import write_values


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(project_root() / "params.yaml", tmp_path / "params.yaml"))


def test_only_the_lines_with_new_values_change(file: Path) -> None:
    before = file.read_text()
    params = write_values(file, {"train.dim": 32, "train.learning_rate": 1e-05, "train.update.epochs": 3, "recent_days": 14})
    changed = [line for line in difflib.ndiff(before.splitlines(), file.read_text().splitlines()) if line[:1] in "+-"]
    assert len(changed) == 8
    assert any(line.startswith("+ recent_days: 14") and '# what "recent popularity" means' in line for line in changed)
    assert load_params(file) == params
    assert (params.train.dim, params.train.learning_rate, params.recent_days) == (32, 1e-05, 14)


def test_a_wrong_value_leaves_the_file_as_it_was(file: Path) -> None:
    before = file.read_text()
    for key, value in {"train.dim": 33, "train.dims": 32, "train.dropout": 1.0}.items():
        with pytest.raises(ConfigError, match="train"):
            write_values(file, {key: value})
    assert file.read_text() == before
    assert [path.name for path in file.parent.iterdir()] == ["params.yaml"]
    with pytest.raises(ConfigError, match="cannot be read"):
        write_values(file.parent / "nowhere.yaml", {})
