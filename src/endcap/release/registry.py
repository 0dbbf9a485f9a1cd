"""Model versions in MLflow: register, read, download, move the champion alias.

Not here: whether a version may be served (promotion.py).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.contracts import CANARY, CHAMPION, MODEL_NAME, ModelVersion
from endcap.errors import RegistryError
from endcap.models.digest import digest
from endcap.release import candidate
from endcap.release.connection import Connection
from endcap.release.package import MODEL_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
NEWEST_CANARY = "newest_canary"  # the tag of the registered model
_TAGS = ("kind", "dataset_version", "code_commit", "params_hash", "digest")


class Registry:
    """The registered model `endcap-recommender` at one MLflow address. Nothing is contacted before the first call."""

    def __init__(self, mlflow_url: str) -> None:
        self._connection = Connection(mlflow_url)
        self.url = self._connection.url

    def register(
        self,
        model_dir: Path,
        *,
        kind: str,
        dataset_version: str,
        code_commit: str,
        code_tree: str,
        params_hash: str,
        parent_version: str | None,
        metrics: Mapping[str, float],
        curves: Mapping[str, Sequence[float]] | None = None,
        plots: Path | None = None,
        params_file: Path | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> ModelVersion:
        """Log the model directory as a self-contained pyfunc and register it; the same model twice is one version.

        `curves` are metrics by step; `plots` is a folder of pictures; `tags` are added to the lineage tags.

        Raises:
            ServiceUnavailable: MLflow does not answer.
        """
        lineage = {
            **(tags or {}),
            "kind": kind,
            "dataset_version": dataset_version,
            "code_commit": code_commit,
            "code_tree": code_tree,
            "params_hash": params_hash,
            "parent_version": parent_version or "",
            "digest": digest(model_dir),
        }
        with self._connection.open("registering a candidate") as client:
            if known := self._find(client, lineage):
                return known
            found = candidate.log(client, model_dir, lineage, metrics, curves or {}, plots, params_file)
        return _version(found)

    def _find(self, client: Any, lineage: Mapping[str, str]) -> ModelVersion | None:
        """The version of this very model: same content, data, code, params and parent."""
        same = ("digest", "dataset_version", "code_tree", "params_hash", "parent_version", "kind")
        for version in self._all(client):
            if all(version.tags.get(key, "") == lineage[key] for key in same):
                return version
        return None

    def get(self, version: str) -> ModelVersion:
        """Version "3" (or "model-3"). Raises RegistryError when there is none."""
        from mlflow.exceptions import MlflowException

        number = version.removeprefix("model-")
        with self._connection.open(f"reading model {number}") as client:
            try:
                return _version(client.get_model_version(MODEL_NAME, number))
            except MlflowException as error:
                if error.error_code not in _MISSING:
                    raise
        raise RegistryError("no such model version", field="model", value=version, action="`endcap models` lists them.")

    def versions(self) -> list[ModelVersion]:
        """Every version, oldest first."""
        with self._connection.open("listing the models") as client:
            return self._all(client)

    def _all(self, client: Any) -> list[ModelVersion]:
        found, token = [], None
        while True:
            page = client.search_model_versions(f"name='{MODEL_NAME}'", max_results=200, page_token=token)
            found += [_version(one) for one in page if "digest" in one.tags]
            token = page.token
            if not token:
                return sorted(found, key=lambda one: int(one.version))

    def champion(self) -> ModelVersion | None:
        """Whatever `@champion` points to, verified or not (see promotion.verified_champion); None when it points nowhere."""
        from mlflow.exceptions import MlflowException

        with self._connection.open("reading the champion") as client:
            try:
                return _version(client.get_model_version_by_alias(MODEL_NAME, CHAMPION))
            except MlflowException as error:
                if error.error_code not in _MISSING:
                    raise
        return None

    def set_champion(self, version: str) -> None:
        """Move `@champion`. Only promotion.py calls this: serving refuses a champion without records."""
        with self._connection.open(f"making model {version} champion") as client:
            client.set_registered_model_alias(MODEL_NAME, CHAMPION, version)

    def canaries(self) -> tuple[ModelVersion | None, ModelVersion | None]:
        """What `@canary` points to, verified or not, and the version whose canary began last, which may be over."""
        from mlflow.exceptions import MlflowException

        with self._connection.open("reading the canary") as client:
            try:
                model = client.get_registered_model(MODEL_NAME)
            except MlflowException as error:
                if error.error_code not in _MISSING:
                    raise
                return None, None
            numbers = model.aliases.get(CANARY), model.tags.get(NEWEST_CANARY)
            found = {number: _version(client.get_model_version(MODEL_NAME, number)) for number in set(numbers) if number}
        pointed, newest = (found.get(number) for number in numbers)
        return pointed, newest

    def set_canary(self, version: str) -> None:
        """Move `@canary`, and remember the version whose canary began last. Only canary_rollout.py calls this."""
        with self._connection.open(f"making model {version} the canary") as client:
            client.set_registered_model_tag(MODEL_NAME, NEWEST_CANARY, version)
            client.set_registered_model_alias(MODEL_NAME, CANARY, version)

    def remove_canary(self) -> None:
        """Take `@canary` away; nothing happens where there is none."""
        with self._connection.open("removing the canary") as client:
            client.delete_registered_model_alias(MODEL_NAME, CANARY)

    def previous_champions(self) -> list[ModelVersion]:
        """Versions that were promoted and not rolled back, the newest promotion first, without the present champion."""
        present = self.champion()
        promoted = [v for v in self.versions() if v.tags.get("promoted_at") and not v.tags.get("rolled_back_at")]
        promoted.sort(key=lambda v: v.tags["promoted_at"], reverse=True)
        return [v for v in promoted if present is None or v.version != present.version]

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags in the given order; an empty value clears one."""
        with self._connection.open(f"tagging model {version}") as client:
            for key, value in tags.items():
                client.set_model_version_tag(MODEL_NAME, version, key, value)

    def describe(self, version: str, text: str) -> None:
        """Set the Markdown shown on the version's page."""
        with self._connection.open(f"describing model {version}") as client:
            client.update_model_version(MODEL_NAME, version, text)

    def attach(self, version: ModelVersion, directory: Path, name: str, metrics: Mapping[str, float] | None = None) -> None:
        """Add the files of `directory` below the artifact folder `name` of the version's run, and metrics to the run."""
        with self._connection.open(f"attaching {name} to model {version.version}") as client:
            client.log_artifacts(version.run_id, str(directory), name)
            for key, value in (metrics or {}).items():
                client.log_metric(version.run_id, key, value)

    def page(self, version: str) -> str:
        """Address of the version's page in MLflow."""
        return f"{self.url}/#/models/{MODEL_NAME}/versions/{version}"

    def experiment_id(self, version: ModelVersion) -> str:
        """MLflow's experiment of the version's run."""
        with self._connection.open(f"reading the run of model {version.version}") as client:
            return str(client.get_run(version.run_id).info.experiment_id)

    def download(self, version: ModelVersion | str, models: Path) -> Path:
        """The model directory of a version at `models/<version>`; fetched once, whole, its digest checked every time.

        Raises:
            RegistryError: what MLflow holds is not what was registered.
        """
        version = self.get(version) if isinstance(version, str) else version
        target = models / version.version
        if target.is_dir() and digest(target) == version.digest:
            return target
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=models, prefix=".download-") as temporary:
            fetched = self._fetch(version, MODEL_PATH, Path(temporary))
            _prove(fetched, version)
            if target.exists():
                shutil.move(target, Path(temporary) / "stale")
            try:
                fetched.replace(target)
            except OSError:
                if not target.is_dir() or digest(target) != version.digest:  # else another process was first
                    raise
        return target

    def download_package(self, version: ModelVersion, into: Path) -> Path:
        """The whole registered pyfunc at `into/package`, its model's digest checked; the model lies below it at MODEL_PATH."""
        target = into / "package"
        target.mkdir(parents=True)
        package = self._fetch(version, "", target)
        _prove(package / MODEL_PATH, version)
        return package

    def _fetch(self, version: ModelVersion, path: str, into: Path) -> Path:
        with self._connection.open(f"downloading model {version.version}") as client:
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            model_id = client.get_model_version(MODEL_NAME, version.version).source.removeprefix("models:/")
            location = client.get_logged_model(model_id).artifact_location
            repository = get_artifact_repository(location, tracking_uri=self.url, registry_uri=self.url)
            return Path(str(repository.download_artifacts(path, str(into))))  # type: ignore[no-untyped-call]


def _prove(model_dir: Path, version: ModelVersion) -> None:
    found = digest(model_dir) if model_dir.is_dir() else "no model"
    if found != version.digest:
        raise RegistryError(
            "the downloaded model is not the one that was registered",
            field=f"digest of model {version.version}",
            value=found,
            action=f"Expected {version.digest}. Restore MLflow's artifacts or roll back.",
        )


def _version(found: Any) -> ModelVersion:
    tags = dict(found.tags)
    missing = [name for name in _TAGS if name not in tags]
    if missing:
        raise RegistryError(
            f"has no tag {', '.join(missing)}",
            field=f"model {found.version}",
            action="Endcap did not register it; delete that version in MLflow.",
        )
    return ModelVersion(
        version=str(found.version),
        run_id=found.run_id or "",
        parent_version=tags.get("parent_version") or None,
        tags=tags,
        **{name: tags[name] for name in _TAGS},
    )
