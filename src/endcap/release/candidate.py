"""One MLflow run and one registered version for a trained model: what it is, where it came from, how it learnt."""

from __future__ import annotations

import csv
import json
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from endcap.contracts import MODEL_NAME
from endcap.release.package import package

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXPERIMENT = "endcap"


def log(
    client: Any,
    model_dir: Path,
    lineage: Mapping[str, str],
    metrics: Mapping[str, float],
    curves: Mapping[str, Sequence[float]],
    plots: Path | None,
    params_file: Path | None,
) -> Any:
    """Log everything, then create the version in one call: it exists with all its tags or not at all."""
    experiment = experiment_id(client, EXPERIMENT)
    run = client.create_run(experiment, run_name=f"{lineage['kind']} on {lineage['dataset_version']}", tags=dict(lineage))
    run_id = run.info.run_id
    try:
        _log_numbers(client, run_id, metrics, curves)
        _log_files(client, run_id, plots, params_file)
        model_id = _log_model(client, experiment, run_id, model_dir, lineage)
        _ensure_registered_model(client)
        version = client.create_model_version(
            MODEL_NAME,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={**lineage, "run_id": run_id, "status": "candidate"},
            description="A candidate; its gates have not been evaluated yet.",
            await_creation_for=None,
        )
    except BaseException:  # also a kill from the keyboard: a run that registered nothing must not look finished
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return version


def experiment_id(client: Any, name: str) -> str:
    """The id of the experiment of this name, made when it is not there."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:  # another run made it first
        return str(client.get_experiment_by_name(name).experiment_id)


def _ensure_registered_model(client: Any) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            MODEL_NAME, description="The shop's recommender. `@champion` serves once its records verify."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _log_numbers(client: Any, run_id: str, metrics: Mapping[str, float], curves: Mapping[str, Sequence[float]]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    points = [Metric(name, float(value), now, 0) for name, value in metrics.items()]
    points += [Metric(name, float(value), now, step) for name, values in curves.items() for step, value in enumerate(values)]
    for start in range(0, len(points), 900):  # MLflow takes at most 1,000 a call
        client.log_batch(run_id, metrics=points[start : start + 900])


def _log_files(client: Any, run_id: str, plots: Path | None, params_file: Path | None) -> None:
    from mlflow.entities import Param

    if plots is not None and plots.is_dir():
        client.log_artifacts(run_id, str(plots), "plots")
    if params_file is not None:
        client.log_artifact(run_id, str(params_file))
        values = flatten(yaml.safe_load(params_file.read_text(encoding="utf-8")))
        client.log_batch(run_id, params=[Param(key, str(value)[:6000]) for key, value in sorted(values.items())][:100])


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys.

    >>> flatten({"train": {"dim": 64}, "recent_days": 28})
    {'train.dim': 64, 'recent_days': 28}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _log_model(client: Any, experiment: str, run_id: str, model_dir: Path, lineage: Mapping[str, str]) -> str:
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        experiment, name="recommender", source_run_id=run_id, tags=dict(lineage), model_type="recommender"
    )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    with tempfile.TemporaryDirectory(prefix="endcap-package-") as temporary:
        client.log_model_artifacts(model.model_id, str(package(model_dir, Path(temporary) / "pyfunc")))
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def read_metrics(path: Path) -> dict[str, float]:
    """The numbers of a metrics.json, dotted keys as MLflow allows them; none when there is no file."""
    if not path.exists():
        return {}
    values = flatten(json.loads(path.read_text(encoding="utf-8")))
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    return {key.replace("@", "_at_"): float(value) for key, value in numbers.items() if math.isfinite(value)}


def read_curves(path: Path) -> dict[str, list[float]]:
    """Each numeric column of a curves.csv (but `step` or `epoch`), one value a step; gaps are left out."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name not in ("step", "epoch")]
    curves = {name: [float(row[name]) for row in rows if _is_number(row[name])] for name in names}
    return {name: values for name, values in curves.items() if values}


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and math.isfinite(float(text))
    except ValueError:
        return False
