"""`endcap benchmark`: how good the recommender is on files that anybody can hold against other models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from endcap.cli.behaviour_benchmark import behaviour
from endcap.cli.benchmark_record import MlflowOption, keep_record, with_picture
from endcap.cli.figures import show_figures
from endcap.cli.updates_benchmark import updates

PANEL = "Benchmarks"
TEXT_CACHE = "text-vectors"


def register(app: typer.Typer) -> None:
    """Add the group benchmark."""
    benchmark = typer.Typer(help="Benchmarks on your own or public files, with all baselines beside.", no_args_is_help=True)
    benchmark.callback()(_group)
    benchmark.command("quality")(quality)
    benchmark.command("behaviour")(behaviour)
    benchmark.command("updates")(updates)
    app.add_typer(benchmark, name="benchmark", rich_help_panel=PANEL)


def _group() -> None:
    """Benchmarks on your own or public files, with all baselines beside."""


def quality(
    interactions: Annotated[
        Path, typer.Option(help="Parquet or CSV with the columns user, item, and timestamp or position.", show_default=False)
    ],
    items: Annotated[
        Path | None, typer.Option(help="Parquet or CSV with the column item, title and any other text.", show_default=False)
    ] = None,
    protocol: Annotated[
        Literal["leave-one-out", "time"],
        typer.Option(help="leave-one-out: each user's last event is the test. time: everything from --split-at on."),
    ] = "leave-one-out",
    split_at: Annotated[
        str | None,
        typer.Option(
            help="With time: where the test starts, as the file writes its times.  \\[default: 90 % of events before]"
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="How often Endcap is trained, each time with another seed; 0: baselines only.", min=0)
    ] = 3,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the figures go (JSON), with a PNG beside; a killed run resumes.", show_default=False),
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Whether the baselines are fitted too.")] = True,
    max_users: Annotated[
        int | None,
        typer.Option(help="Judge at most so many users, drawn at random.  \\[default: all]", min=1, show_default=False),
    ] = None,
    mask_seen: Annotated[bool, typer.Option(help="Whether items that a user already had are left out of the ranking.")] = True,
    ablation: Annotated[bool, typer.Option(help="Also Endcap without each of its parts (leave-one-out only).")] = False,
    cold_start: Annotated[bool, typer.Option(help="Also Endcap on the newest 0, 1, 2, 5, 10 events of each history.")] = False,
    mlflow: MlflowOption = True,
) -> None:
    """Rank all items for every test user with Endcap and the baselines, and say how good each is, with intervals.

    Hyper-parameters of Endcap come from params.yaml; those of baselines are chosen on the validation events. Nothing is
    chosen on the test.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from endcap.benchmark.quality.run import Request, run_quality
    from endcap.config import load_params, load_settings
    from endcap.training.options import fit_options

    params = load_params()
    request = Request(
        interactions, items, protocol, split_at, seeds, baselines, max_users, mask_seen, out, ablation, cold_start
    )
    cache = load_settings().home / TEXT_CACHE
    result = run_quality(request, params, fit_options(params), cache, lambda line: typer.echo(line, err=True))
    _show(result)
    keep_record(f"quality {protocol} {interactions.stem}", result, with_picture(out), mlflow)


def _show(result: dict[str, Any]) -> None:
    from endcap.benchmark.quality.summary import table_rows

    header, *rows = table_rows(result["models"])
    facts = result["protocol"]
    title = f"{facts['name']}: {facts['judged_users']:,} users, {facts['ranked_items']:,} items"
    show_figures(title, header, rows, result["ours"])
