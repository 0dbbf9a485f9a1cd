"""Stages of dvc.yaml in a run's workspace, by DVC: run, or restored from the cache when nothing they depend on changed.

`reproduce_model` rebuilds a registered version from its lineage alone and compares.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from endcap.config import Settings, load_settings
from endcap.data.disk import require_room
from endcap.data.locks import locked
from endcap.errors import ConfigError, RegistryError, TrainingError
from endcap.pipeline import workspace as workspaces
from endcap.pipeline.code import CodeVersion

if TYPE_CHECKING:
    from endcap.contracts import ModelVersion

log = logging.getLogger(__name__)

RAN, CACHED, UNCHANGED = "ran", "cached", "unchanged"
_ROOM_BYTES = 64 * 2**20  # DVC waits for ever when its own databases meet a full disk
_GROUP = ".dvc/tmp/endcap-group"  # process group of the stage that runs, or ran when its parent was killed
_DVC_LOCK = ".dvc/tmp/rwlock"  # DVC believes in the process ids that a kill leaves in it
_OURS = ("ENDCAP_PARAMS", "ENDCAP_PROJECT", "DVC_ROOT", "DVC_STAGE", "DVC_SITE_CACHE_DIR")


def stages(workspace: Path | str) -> list[str]:
    """Names of the stages in dvc.yaml, in its order."""
    text = (Path(workspace) / "dvc.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load(text)["stages"])


def run_stage(workspace: str | Path, stage: str, *, force: bool = False) -> dict[str, Any]:
    """Bring one stage up to date; its log streams to stdout. A stage left behind by a killed run is stopped first.

    Returns {"stage", "status", "seconds"}: status "ran", "cached" (restored from any workspace's run), "unchanged".
    `force` runs it whatever the cache holds, and leaves the cache of runs as it is.

    Raises:
        ConfigError: dvc.yaml has no such stage.
        DatasetError: no such workspace, or the disk is full.
        TrainingError: the stage failed; the message ends with the last lines of its log.
    """
    root = Path(workspace).resolve()
    workspaces.read(root)
    if stage not in (known := stages(root)):
        raise ConfigError("no such stage in dvc.yaml", field="stage", value=stage, action=f"One of {', '.join(known)}.")
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    if force:
        command += ["--force", "--no-run-cache"]
    started = time.monotonic()
    require_room(root, _ROOM_BYTES, f"stage {stage}")
    status = run_logged(root, command, stage)
    seconds = round(time.monotonic() - started, 2)
    log.info("stage done", extra={"stage": stage, "status": status, "seconds": seconds, "workspace": root.name})
    return {"stage": stage, "status": status, "seconds": seconds}


def run_logged(root: Path, command: list[str], name: str) -> str:
    """Run a command on a workspace's own code while nothing else runs there; its log streams to stdout. Returns what DVC did.

    Raises:
        TrainingError: it failed; the message ends with the last lines of its log.
    """
    with locked(root / workspaces.LOCK):
        _stop_leftover(root)
        return _stream(command, root, name)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of a version as it was registered, and as its rebuild has it."""

    metric: str
    original: float
    rebuilt: float

    @property
    def difference(self) -> float:
        return self.rebuilt - self.original


def reproduce_model(version: str) -> list[Comparison]:
    """Rebuild a version from its code tree, dataset version, parameters and parent in a fresh workspace; compare the metrics.

    Nothing is taken from the cache of runs. The rebuild is not registered; its workspace stays until it is pruned.

    Raises:
        RegistryError: no such version, or it carries no lineage.
        DatasetError: its dataset version or code snapshot is lost.
        TrainingError: a stage failed.
        ServiceUnavailable: MLflow or the DVC remote does not answer.
    """
    from endcap.release.candidate import read_metrics

    settings = load_settings()
    model, metrics = registered(settings, version)
    tree = model.tags.get("code_tree", "")
    if not tree:
        raise RegistryError(
            "has no tag code_tree", field=f"model {model.version}", action="Only what Endcap trained can be rebuilt."
        )
    root = workspaces.create(
        f"reproduce-model-{model.version}-{uuid.uuid4().hex[:8]}",
        dataset_version=model.dataset_version,
        kind=model.kind,
        parent_version=model.parent_version,
        code_version=CodeVersion(model.code_commit, tree),
    )
    for stage in stages(root):
        run_stage(root, stage, force=True)
    rebuilt = read_metrics(root / "work" / "evaluation" / "metrics.json")
    return [Comparison(name, metrics[name], rebuilt[name]) for name in sorted(rebuilt) if name in metrics]


def registered(settings: Settings, version: str) -> tuple[ModelVersion, dict[str, float]]:
    """A version in the registry and the metrics of its run."""
    from endcap.release.connection import Connection
    from endcap.release.registry import Registry

    model = Registry(settings.mlflow_url).get(version)
    with Connection(settings.mlflow_url).open(f"reading the metrics of model {model.version}") as client:
        return model, dict(client.get_run(model.run_id).data.metrics)


def _stream(command: list[str], root: Path, stage: str) -> str:
    """Run DVC in a process group of its own and pass its output on. Returns what it did."""
    status, tail = UNCHANGED, deque[str](maxlen=15)
    process = subprocess.Popen(
        command,
        cwd=root,
        env=_environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    (root / _GROUP).write_text(str(process.pid), encoding="utf-8")
    try:
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)  # noqa: T201  (a task's log is its stdout)
                tail.append(line)
                if line.startswith(f"Running stage '{stage}'"):
                    status = RAN
                elif line.startswith(f"Stage '{stage}' is cached"):
                    status = CACHED
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode:
        said = "".join(tail).strip()
        raise TrainingError(
            f"failed; the end of its log:\n{said}", field=f"stage {stage}", action="Mend the cause and clear the task."
        )
    (root / _GROUP).unlink(missing_ok=True)
    return status


def _environment(root: Path) -> dict[str, str]:
    """The stage's environment: this interpreter first, the workspace's own code, the home by its absolute path."""
    env = {key: value for key, value in os.environ.items() if key not in _OURS}
    env.update(
        ENDCAP_HOME=str(load_settings().home),
        PATH=os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)]),
        PYTHONPATH=str(root / "src"),
        PYTHONUNBUFFERED="1",
        PYTHONDONTWRITEBYTECODE="1",
        SHELL="/bin/sh",
        DVC_NO_ANALYTICS="1",
    )
    return env


def _stop_leftover(root: Path) -> None:
    """Kill the process group of a stage whose parent was killed: it would write into this workspace.

    The number may have been given to strangers since, so only a group with a process that works in this workspace is stopped.
    """
    (root / _DVC_LOCK).unlink(missing_ok=True)  # ours is held, so whoever stands in it is dead
    path = root / _GROUP
    if not path.exists():
        return
    group = int(path.read_text(encoding="utf-8") or 0)
    if group and any(_works_in(root, member) for member in _members(group)):
        log.warning("stopping the stage that a killed run left behind", extra={"group": group, "workspace": root.name})
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        while any(_works_in(root, member) for member in _members(group)):
            time.sleep(0.05)
    path.unlink(missing_ok=True)


def _members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(int(entry.name)) == group:
                found.append(int(entry.name))
    return found


def _works_in(root: Path, pid: int) -> bool:
    """Whether a live process has `root` as its current folder (a zombie has none)."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == root
    except OSError:
        return False
