"""Where a benchmark's figures are kept when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

MlflowOption = Annotated[bool, typer.Option(help="Whether the figures go to MLflow too, if it answers.")]


def with_picture(out: Path | None) -> tuple[Path, ...]:
    """A result file and the picture beside it; nothing where nothing is written."""
    return (out, out.with_suffix(".png")) if out else ()


def keep_record(name: str, result: dict[str, Any], files: tuple[Path, ...], mlflow: bool) -> None:
    """Say what was written (`files`), and log it to MLflow; an MLflow that is away costs nothing but a line."""
    from endcap.benchmark.experiment_log import log_result
    from endcap.config import load_settings
    from endcap.errors import ServiceUnavailable

    if files:
        typer.echo(f"Wrote {' and '.join(map(str, files))}.")
    if not mlflow:
        return
    try:
        typer.echo(f"MLflow: {log_result(load_settings().mlflow_url, name, result, files)}")
    except ServiceUnavailable:
        typer.echo("Not logged to MLflow: it does not answer (see `endcap status`; `--no-mlflow` does not ask).", err=True)
