"""A benchmark's result as MLflow runs: one of the whole with its files, below it one of each model, to be held beside others.

What is measured comes from the other modules; the JSON file stays the record, since it goes with the code.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from endcap.release.candidate import experiment_id, flatten
from endcap.release.connection import Connection

EXPERIMENT = "endcap-benchmarks"
PARENT = "mlflow.parentRunId"
LONGEST = 5000  # characters of a value that MLflow keeps


def log_result(url: str, name: str, result: Mapping[str, Any], files: tuple[Path, ...] = ()) -> str:
    """Log a result with its files; returns the page of the run. Without models to compare its numbers stand on the run itself.

    Raises:
        ServiceUnavailable: MLflow does not answer.
    """
    connection = Connection(url)
    with connection.open(f"logging the benchmark {name}") as client:
        from mlflow.entities import Metric, Param, RunTag

        experiment, now = experiment_id(client, EXPERIMENT), int(time.time() * 1000)
        parent = client.create_run(experiment, run_name=name).info.run_id
        about = {key: result[key] for key in ("protocol", "data", "text", "versions", "machine") if key in result}
        tags = {key: str(value)[:LONGEST] for key, value in flatten(about).items()} | {"commit": str(result.get("commit"))}
        models = list(models_of(result))
        plain = [] if models else finite(flatten({key: result[key] for key in result.keys() - about.keys()}))
        client.log_batch(
            parent,
            metrics=[Metric(metric_name(key), value, now, 0) for key, value in plain],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        for model, metrics, knobs in models:
            run = client.create_run(experiment, run_name=model, tags={PARENT: parent}).info.run_id
            params = [Param(key, str(value)[:LONGEST]) for key, value in flatten(dict(knobs)).items()]
            client.log_batch(run, metrics=[Metric(metric_name(key), value, now, 0) for key, value in metrics], params=params)
            client.set_terminated(run, "FINISHED")
        for path in files:
            client.log_artifact(parent, str(path))
        client.set_terminated(parent, "FINISHED")
    return f"{connection.url}/#/experiments/{experiment}/runs/{parent}"


def models_of(result: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, float]], Mapping[str, Any]]]:
    """Each model's name, its figures and its hyper-parameters, whatever the benchmark."""
    knobs = result.get("hyper_parameters", {})
    for name, model in result.get("models", {}).items():
        of_seeds = [seed.get("hyper_parameters") for seed in model.get("training", {}).values()]
        own: Mapping[str, Any] = model.get("hyper_parameters") or next(filter(None, of_seeds), {})
        figures = {**model["mean"], **{f"seconds.{key}": value for key, value in model.get("seconds", {}).items()}}
        yield name, finite(figures), own or (knobs if name == result.get("ours") else {})
    for case in result.get("cases", ()):
        for task, found in case["tasks"].items():
            for name, figures in found["models"].items():
                yield f"{case['name']}, seed {case['seed']}, {task}: {name}", finite(figures), {}


def finite(figures: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The numbers among them that a curve can show."""
    return [(key, float(value)) for key, value in figures.items() if isinstance(value, int | float) and math.isfinite(value)]


def metric_name(name: str) -> str:
    """A name that MLflow takes.

    >>> metric_name("cold.recall@20")
    'cold.recall_at_20'
    """
    return re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_"))
