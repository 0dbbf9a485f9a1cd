"""`endcap benchmark behaviour`: are the probabilities of click and purchase right, and better than simple ones?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from endcap.cli.benchmark_record import MlflowOption, keep_record, with_picture
from endcap.cli.figures import show_figures


def behaviour(
    exposures: Annotated[
        list[Path] | None,
        typer.Option(
            help="Parquet or CSV, one row a shown item: item, time, click; if any purchase, user, rank, context. Repeatable:"
            " the rows of all files together.  \\[default: the simulated shop of params.yaml]",
            show_default=False,
        ),
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Parquet or CSV with further columns of items.", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many simulated shops, or fits on the files.", min=1)] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Where the figures go (JSON), with a reliability plot beside.", show_default=False)
    ] = None,
    add: Annotated[bool, typer.Option(help="Keep the cases of other names that --out already holds.")] = False,
    mlflow: MlflowOption = True,
) -> None:
    """Learn the behaviour head on older exposures and judge it on the newest, beside a popularity prior and LightGBM.

    Everything is chosen and calibrated on the exposures in between. In the simulated shop the true probabilities are known.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from endcap.benchmark.behaviour.run import run
    from endcap.config import load_params

    result = run(load_params(), exposures or [], items, seeds, lambda line: typer.echo(line, err=True), out=out, add=add)
    _show(result)
    keep_record("behaviour", result, with_picture(out), mlflow)


def _show(result: dict[str, Any]) -> None:
    header = ("model", "log loss", "95 %", "Brier", "ECE", "95 %", "head less this, 95 %")
    for case in result["cases"]:
        for name, task in case["tasks"].items():
            title = f"{case['name']}, seed {case['seed']}: {name}, {case['positives'][name]:,} of {case['rows']['test']:,}"
            rows = []
            for model, row in task["models"].items():
                gap = task["head_minus"].get(model)
                rows.append(
                    [
                        model,
                        f"{row['log_loss']:.5f}",
                        f"{row['log_loss_low']:.4f}-{row['log_loss_high']:.4f}",
                        f"{row['brier']:.5f}",
                        f"{row['ece']:.4f}",
                        f"{row['ece_low']:.4f}-{row['ece_high']:.4f}",
                        f"{gap['difference']:+.5f} [{gap['low']:+.5f}, {gap['high']:+.5f}]" if gap else "",
                    ]
                )
            show_figures(title, header, rows)
