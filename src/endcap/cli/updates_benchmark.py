"""`endcap benchmark updates`: does an update a week keep up with a full retrain a week, and at what price?"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from endcap.cli.benchmark_record import MlflowOption, keep_record, with_picture
from endcap.cli.figures import show_figures


def updates(
    interactions: Annotated[
        Path | None,
        typer.Option(help="Parquet or CSV with the columns user, item and timestamp; or give --shop.", show_default=False),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Parquet or CSV with the column item, title and any other text.", show_default=False)
    ] = None,
    shop: Annotated[
        Literal["online-retail"] | None,
        typer.Option(help="A public shop instead of files: clean purchases of UCI Online Retail.", show_default=False),
    ] = None,
    start: Annotated[
        str, typer.Option(help="The first judged week begins on this day, UTC unless it has an offset.")
    ] = "2011-09-05",
    weeks: Annotated[int, typer.Option(help="How many weeks are judged.", min=1)] = 14,
    strategies: Annotated[
        str, typer.Option(help="Which of full, incremental, naive and frozen, divided by commas.")
    ] = "full,incremental,naive,frozen",
    seeds: Annotated[int, typer.Option(help="How often all of it is run, each time with another seed.", min=0)] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the figures go (JSON), with a PNG beside; a killed run resumes.", show_default=False),
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Whether the baselines are fitted too.")] = True,
    mlflow: MlflowOption = True,
) -> None:
    """Rank each week before it is learnt, with a model retrained, updated, tuned naively or left alone, and with baselines.

    Hyper-parameters of Endcap come from params.yaml; those of baselines are chosen on the weeks before --start.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from endcap.benchmark.updates.run import Request, run_updates
    from endcap.config import load_params, load_settings
    from endcap.errors import InputError
    from endcap.training.options import fit_options

    if (interactions is None) == (shop is None):
        action = "Give one of --interactions and --shop."
        raise InputError("which shop?", field="interactions, shop", value=(interactions, shop), action=action)
    named = tuple(dict.fromkeys(name.strip() for name in strategies.split(",") if name.strip()))
    params, settings = load_params(), load_settings()
    request = Request(interactions, items, _day(start), weeks, named, seeds, baselines, out)
    result = run_updates(
        request, params, fit_options(params), settings.data_dir, settings.home, lambda line: typer.echo(line, err=True)
    )
    _show(result)
    keep_record(f"updates {shop or result['data']['shop']}", result, with_picture(out), mlflow)


def _day(text: str) -> datetime:
    from endcap.errors import InputError

    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError("is no date", field="start", value=text, action="Give a day such as 2011-09-05.") from error


def _show(result: dict[str, Any]) -> None:
    from endcap.benchmark.updates.figures import table_rows

    header, *rows = table_rows(result)
    protocol = result["protocol"]
    title = f"{len(protocol['weeks'])} weeks from {protocol['weeks'][0]}, {sum(protocol['shoppers']):,} shopper-weeks"
    show_figures(title, header, rows, result["ours"])
    for line in summary_lines(result):
        typer.echo(line)


def summary_lines(result: dict[str, Any]) -> list[str]:
    """What an update reaches of a full retrain, what it costs of it, and what it forgot."""
    if "updates" not in result:
        return []
    quality, cost = result["updates"]["quality"]["recall@20"], result["updates"]["cost"]["cpu_seconds"]
    forgot = result["forgetting"]
    lines = []
    if quality["ratio"] is not None and cost["ratio"] is not None:
        lines.append(
            f"An update reaches {quality['ratio']:.1%} of a full retrain's Recall@20 at {cost['ratio']:.1%} of its CPU time."
        )
    if forgot["incremental_to_full"] is not None:
        reached = f"{forgot['incremental_to_full']:.1%}"
        lines.append(f"After {forgot['updates']} updates, items popular at the start: {reached} of a full retrain's Recall@20.")
    return lines
