"""The main job, once for all tests here: `endcap demo` on a small simulated shop, from a copy of the project without git."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fixtures.stack import free_ports

from endcap import stack
from endcap.config import Settings, load_settings
from endcap.demo.airflow_client import AirflowClient
from endcap.pipeline import code

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "shop": {"name": "simulated", "weeks": 1, "simulated": {"seed": 7, "items": 150, "shoppers": 160, "days": 70}},
    "train": {"max_epochs": 2, "dim": 16, "layers": 1, "max_length": 30},
    "gates": {"margin_vs_champion": 0.5, "margin_vs_baselines": 0.5, "slice_margin": 0.8, "max_latency_ms": 500.0},
}


@dataclass(frozen=True, slots=True)
class Played:
    """A stack on which the demo has run to its end."""

    settings: Settings
    environ: dict[str, str]
    summary: dict[str, Any]
    output: str

    def endcap(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this stack."""
        command = [sys.executable, "-m", "endcap.cli", *arguments]
        return subprocess.run(
            command, env=self.environ, cwd=self.environ["ENDCAP_PROJECT"], capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="package")
def played() -> Iterator[Played]:
    """`endcap demo`, small; the stack stays up for the tests and is stopped at the end.

    With ENDCAP_HOME set to a home where the demo has been played and whose stack is up, that one is used and left as it is.
    """
    if os.environ.get("ENDCAP_HOME"):
        settings = load_settings()
        summary = json.loads((settings.paths.demo / "summary.json").read_text(encoding="utf-8"))
        yield Played(settings, os.environ | {"ENDCAP_PROJECT": str(ROOT)}, summary, "")
        return
    root = Path(tempfile.mkdtemp(prefix="endcap-e2e-", dir="/tmp"))
    project = root / "project"
    _copy(project)
    environ = _environment(root, project)
    settings = load_settings({key: value for key, value in environ.items() if key.startswith("ENDCAP_")})
    command = [sys.executable, "-m", "endcap.cli", "demo"]
    try:
        done = subprocess.run(command, env=environ, cwd=project, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
        summary = json.loads((settings.paths.demo / "summary.json").read_text(encoding="utf-8"))
        yield Played(settings, environ, summary, done.stdout)
    finally:
        stack.down(settings)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="package")
def airflow(played: Played) -> Iterator[AirflowClient]:
    """Airflow's API as the operator."""
    with contextlib.closing(AirflowClient(played.settings.airflow_url, "operator", stack.password(played.settings))) as client:
        yield client


def _copy(project: Path) -> None:
    for part in code.PATHS:
        source, target = ROOT / part, project / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in SMALL.items():
        params[section] |= values
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def _environment(root: Path, project: Path) -> dict[str, str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("ENDCAP_", "AIRFLOW_", "PYTEST_"))}
    ports = dict(zip(("AIRFLOW", "MLFLOW", "EVIDENTLY", "SERVING"), free_ports(4), strict=True))
    return environ | {
        "ENDCAP_HOME": str(root / "home"),
        "ENDCAP_PROJECT": str(project),
        "PYTHONPATH": str(project / "src"),
        **{f"ENDCAP_{name}_PORT": str(port) for name, port in ports.items()},
    }
