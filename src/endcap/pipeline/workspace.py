"""A run's own checkout below `home.workspaces`: pinned code, dataset version, parameters and parent model.

So runs do not wait for each other's DVC lock, a killed run leaves nothing half written, and the user's
checkout stays untouched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Settings, load_params, load_settings
from endcap.contracts import ModelKind
from endcap.data.atomic_write import write_atomically
from endcap.data.dvc_store import DvcStore
from endcap.data.locks import scratch, try_locked
from endcap.data.versions import DatasetRepository
from endcap.errors import ConfigError, DatasetError, ReleaseError
from endcap.pipeline import code
from endcap.pipeline.params_file import write_values

if TYPE_CHECKING:
    from endcap.contracts import DatasetVersion, ModelVersion

log = logging.getLogger(__name__)

CARD = "workspace.json"
LOCK = ".dvc/tmp/endcap.lock"  # held while a stage runs
KEEP = 10


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a workspace was made from; with the dataset version and the parent this is all that a rebuild needs."""

    run_id: str
    kind: str
    dataset_version: str
    parent_version: str | None
    code_commit: str
    code_tree: str  # includes params.yaml with its overrides
    params_hash: str
    created_at: str
    tuned: str = ""  # the study and trial that chose parameters, "study#7"


def create(
    run_id: str,
    dataset_version: str = "latest",
    kind: str = ModelKind.FULL,
    parent_version: str | None = None,
    params_overrides: Mapping[str, Any] | None = None,
    code_version: code.CodeVersion | None = None,
) -> Path:
    """Make the workspace of a run, or return it as it is when the run has one already (so a rerun keeps its pinned versions).

    `params_overrides` are dotted keys: {"train.max_epochs": 2}. `kind="incremental"` starts from `parent_version`,
    by default the champion whose records verify. `code_version`: default, the project as it is now.

    Raises:
        DatasetError: no such dataset version.
        ConfigError: an override is no known parameter.
        ReleaseError: an incremental run has no champion to start from.
        ServiceUnavailable: MLflow or the DVC remote does not answer.
    """
    settings = load_settings()
    home, target = settings.paths, settings.paths.workspaces / folder_name(run_id)
    if (target / CARD).exists():
        return target
    home.workspaces.mkdir(parents=True, exist_ok=True)
    with scratch(home.root / "scratch") as folder:
        fresh = folder / "workspace"
        version = _override(code_version or code.snapshot(home=home), params_overrides or {}, fresh, settings)
        datasets = DatasetRepository(home, settings.dvc_remote_url, version.commit)
        dataset = datasets.checkout(dataset_version, fresh / "data" / "dataset")
        parent = place_parent(settings, fresh / "data" / "parent", kind, parent_version)
        card = Workspace(
            run_id=run_id,
            kind=str(kind),
            dataset_version=dataset.version,
            parent_version=parent,
            code_commit=version.commit,
            code_tree=version.tree,
            params_hash=load_params(fresh / "params.yaml").digest(),
            created_at=datetime.now(UTC).isoformat(),
        )
        (fresh / CARD).write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")
        DvcStore(home, settings.dvc_remote_url).configure(fresh, "config.local", final=target)
        _move(fresh, target)
    prune(home.workspaces, KEEP)
    return target


def override(workspace: Path | str, values: Mapping[str, Any], tuned: str) -> Workspace:
    """Change parameters of a workspace (dotted keys) in its params.yaml, code tree and card, so that a rebuild has them.

    Raises:
        DatasetError: no such workspace.
        ConfigError: a value is no known parameter or out of range; nothing is changed then.
    """
    root, home = Path(workspace), load_settings().paths
    card, path = read(root), root / "params.yaml"
    params = write_values(path, values)
    tree = code.with_file(card.code_tree, "params.yaml", path.read_bytes(), home)
    changed = replace(card, code_tree=tree, params_hash=params.digest(), tuned=tuned)
    write_atomically(root / CARD, json.dumps(asdict(changed), indent=2) + "\n")
    return changed


def read(workspace: Path | str) -> Workspace:
    """What a workspace was made from.

    Raises:
        DatasetError: it is no workspace, or it was pruned.
    """
    path = Path(workspace) / CARD
    try:
        return Workspace(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        action = f"The newest {KEEP} are kept. Start the run again from its first task."
        raise DatasetError("no such workspace", field="workspace", value=str(workspace), action=action) from error


def pull(
    root: Path, dataset_version: str = "latest", kind: str = ModelKind.FULL, parent_version: str | None = None
) -> DatasetVersion:
    """Put `data/dataset` (copies) and `data/parent` into the user's own checkout, for `dvc repro` by hand.

    A checkout without `.dvc/config.local` gets one with the shared cache, so that what a DAG has run is restored here too.

    Raises:
        DatasetError, ConfigError, ReleaseError, ServiceUnavailable: as create().
    """
    settings = load_settings()
    if not (root / "dvc.yaml").exists():
        raise ConfigError("is not an Endcap project: it has no dvc.yaml", field="current folder", value=str(root))
    datasets = DatasetRepository(settings.paths, settings.dvc_remote_url)
    card = datasets.checkout(dataset_version, root / "data" / "dataset", links=False)
    place_parent(settings, root / "data" / "parent", kind, parent_version)
    if not (root / ".dvc" / "config.local").exists():
        store = DvcStore(settings.paths, settings.dvc_remote_url)
        store.configure(root, "config.local", git=(root / ".git").exists())
    return card


def place_parent(settings: Settings, target: Path, kind: str, parent_version: str | None) -> str | None:
    """Write `parent.json` ({"kind": …, "model_version": …}) and, for an incremental run, the parent's files in `model/`.

    Raises:
        ConfigError: an unknown kind, or a full run with a parent.
        ReleaseError: there is no champion to start from.
    """
    if kind not in list(ModelKind):
        raise ConfigError("unknown kind of training", field="kind", value=kind, action=f"One of {', '.join(ModelKind)}.")
    if kind == ModelKind.FULL and parent_version:
        raise ConfigError("a full training has no parent", field="parent_version", value=parent_version)
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    facts: dict[str, Any] = {"kind": str(kind)}
    if kind == ModelKind.INCREMENTAL:
        from endcap.release.registry import Registry

        registry = Registry(settings.mlflow_url)
        parent = registry.get(parent_version) if parent_version else _champion(settings)
        shutil.copytree(registry.download(parent, settings.paths.models), target / "model")
        facts["model_version"] = parent_version = parent.version
    (target / "parent.json").write_text(json.dumps(facts, sort_keys=True) + "\n", encoding="utf-8")
    return parent_version


def prune(workspaces: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` workspaces; one in which a stage runs stays. Returns what was removed."""
    found = [path.parent for path in workspaces.glob(f"*/{CARD}")]
    found.sort(key=lambda path: (path / CARD).stat().st_mtime, reverse=True)
    removed = []
    for path in found[keep:]:
        with try_locked(path / LOCK) as free:
            if free:
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
    return removed


def folder_name(run_id: str) -> str:
    """A folder's name for a run's id: safe in paths such as PYTHONPATH, and different for different ids.

    >>> folder_name("retrain-1")
    'retrain-1'
    >>> folder_name("manual__2011-12-09T00:00:00+00:00")
    'manual__2011-12-09T00-00-00-00-00-e5a3fa04'
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", run_id)[:100].lstrip(".-") or "run"
    return safe if safe == run_id else f"{safe}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def _champion(settings: Settings) -> ModelVersion:
    from endcap.release.promotion import incumbent
    from endcap.release.registry import Registry
    from endcap.release.signing import Keys

    champion = incumbent(Registry(settings.mlflow_url), Keys.load(settings.paths.secrets))
    if champion is None:
        raise ReleaseError("there is no champion to update", field="parent_version", action="Run retrain_full first.")
    return champion


def _override(version: code.CodeVersion, overrides: Mapping[str, Any], target: Path, settings: Settings) -> code.CodeVersion:
    """Extract the code to `target`, with the overrides in its params.yaml; they become part of the tree."""
    code.extract(version.tree, target, settings.paths)
    if not overrides:
        return version
    path = target / "params.yaml"
    write_values(path, overrides)
    return code.CodeVersion(version.commit, code.with_file(version.tree, "params.yaml", path.read_bytes(), settings.paths))


def _move(fresh: Path, target: Path) -> None:
    """Let the workspace appear whole; one that a rerun made meanwhile wins."""
    if target.exists() and not (target / CARD).exists():
        shutil.rmtree(target)
    try:
        fresh.rename(target)
    except OSError:
        if not (target / CARD).exists():
            raise
