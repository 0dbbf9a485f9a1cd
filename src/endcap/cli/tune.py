"""Hyper-parameters searched on the current folder's prepared data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from endcap.config import Params

Sampler = Literal["tpe", "grid", "random"]


def register(app: typer.Typer) -> None:
    """Add tune."""
    app.command("tune", rich_help_panel="Models")(tune)


def tune(
    trials: Annotated[
        int | None, typer.Option(min=1, help="How many in all, earlier runs included.", show_default="params.yaml")
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=1.0, help="Seconds for this run.", show_default="params.yaml")] = None,
    sampler: Annotated[Sampler | None, typer.Option(help="How values are chosen.", show_default="params.yaml")] = None,
    study: Annotated[str, typer.Option(help="Its name.", show_default="one for each data set, space and code")] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Write the best values into params.yaml; comments stay.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the search space and do nothing.")] = False,
) -> None:
    """Search hyper-parameters (section `tune` of params.yaml) on the validation days, with a full fit a trial.

    Works on the data that the stages prepare and encode wrote into the current folder. Every trial is kept when it ends:
    Ctrl-C or a kill loses only the one that runs, and the same command goes on to the number asked for. Trials are MLflow runs.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from endcap.config import load_params, params_path, with_values
    from endcap.pipeline import tune as studies
    from endcap.pipeline.params_file import write_values

    params = load_params()
    if sampler:
        params = with_values(params, {"tune.sampler": sampler})
    if dry_run:
        _print_space(params, trials or params.tune.trials)
        return
    try:
        outcome = studies.tune(Path.cwd(), params, study, trials, timeout, lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        typer.echo("Stopped. The trials that ended are kept; the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    _print_outcome(outcome, params.tune.metric)
    if apply:
        write_values(params_path(), outcome["values"])
        typer.echo(f"Written into {params_path()}.")


def _print_space(params: Params, trials: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from endcap.pipeline.study_objective import describe, points

    settings = params.tune
    table = Table("parameter", "now", "may be", title=f"{settings.sampler}, {trials} trials, judged by {settings.metric}")
    for row in describe(params):
        table.add_row(*row)
    console = Console()
    console.print(table)
    if (count := points(params)) is not None:
        console.print(f"The grid has {count} points.")


def _print_outcome(outcome: dict[str, Any], metric: str) -> None:
    present = outcome["present_value"]
    beside = "" if present is None else f" (the values of params.yaml: {present:.4f})"
    typer.echo(f"{metric} {outcome['best_value']:.4f}{beside}: trial {outcome['best_trial']} of {outcome['trials']}")
    for key, value in outcome["values"].items():
        typer.echo(f"  {key}: {value}")
    typer.echo(f"Study {outcome['study']}: {outcome['report_url']}")
    typer.echo(f"MLflow: {outcome['mlflow_url']}")
