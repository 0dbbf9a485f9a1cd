"""dvc.yaml names files, parameters and commands that exist, and every module that a stage's code imports."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from endcap.cli import app
from endcap.config import load_params, project_root

ROOT = project_root()
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PACKAGES = ("data", "models", "training", "evaluation")


def imported(path: Path) -> set[Path]:
    """Files of the project that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("endcap."):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                file = ROOT / "src" / f"{name.replace('.', '/')}.py"
                if file.exists():
                    found.add(file)
    return found


def test_the_stages_are_in_the_order_of_the_dag() -> None:
    assert list(STAGES) == ["prepare", "adapt", "encode", "train", "evaluate"]
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert [stage["cmd"] for stage in STAGES.values()] == [f"python -m endcap.cli {name}" for name in STAGES]
    assert set(STAGES) <= set(commands)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_names_exists(stage: str) -> None:
    for dependency in STAGES[stage]["deps"]:
        assert dependency.startswith(("data/", "work/")) or (ROOT / dependency).exists(), dependency
    values = load_params(ROOT / "params.yaml")
    for key in STAGES[stage]["params"]:
        section: Any = values
        for part in key.split("."):
            section = getattr(section, part)


@pytest.mark.parametrize("stage", ["adapt", "encode", "train", "evaluate"])
def test_a_change_of_any_module_that_computes_is_noticed(stage: str) -> None:
    named = [ROOT / dependency for dependency in STAGES[stage]["deps"]]

    def noticed(file: Path) -> bool:
        return any(file == one or one in file.parents for one in named)

    code = [file for one in named if one.is_dir() for file in one.rglob("*.py")] + [one for one in named if one.suffix == ".py"]
    missing = {
        str(file.relative_to(ROOT))
        for source in code
        if source.name not in ("stages.py", "text_stages.py")  # they import for several stages
        for file in imported(source)
        if file.relative_to(ROOT / "src" / "endcap").parts[0] in PACKAGES and not noticed(file)
    }
    assert missing == set()
