"""`endcap evaluate-policy`: what would a policy earn, judged by what another one logged, before any shopper sees it?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from endcap.cli.benchmark_record import with_picture
from endcap.cli.figures import show_figures


def register(app: typer.Typer) -> None:
    """Add the command evaluate-policy."""
    app.command("evaluate-policy", rich_help_panel="Models")(evaluate_policy)


def evaluate_policy(
    log: Annotated[
        Path,
        typer.Option(
            help="Parquet or CSV, one row a shown item: item_id, propensity (the chance that it was shown at its place),"
            " and reward, click or purchase; if any rank (or position, from 0 or 1), request_id, user_id, time, and columns"
            " that begin with context or user_feature. Files of the Open Bandit data set are read as they are.",
            show_default=False,
        ),
    ],
    policy: Annotated[
        Path,
        typer.Option(
            help="Parquet or CSV, one row an item: item_id, probability; if any rank (or position), and one of request_id,"
            " user_id or context, by which the policy differs. Probabilities of a place sum to one.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Where the figures go (JSON), with a forest plot (PNG) beside.", show_default=False)
    ],
    items: Annotated[
        Path | None,
        typer.Option(help="Parquet or CSV with item_id and category: then MIPS weighs kinds of items.", show_default=False),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            help="The log's column to judge by.  \\[default: the first of reward, click, purchase]", show_default=False
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of all intervals.", min=0.5, max=0.999)] = 0.95,
) -> None:
    """Estimate what a policy would earn from what another one logged, before any shopper sees it.

    Ten estimators of single choices and, where request_id tells slates, seven of slates, each with a bootstrap interval over
    shoppers (else requests, else rows) and its difference to what was logged; unbiased means also with an empirical Bernstein
    bound, for the largest weight of the log. Values are per shown item. Places of a slate count as drawn independently of each
    other. Intervals of clipped_ipw, dm, switch_dr and dr_os tell how they spread, not how biased they are.

    An estimator is refused by name where the log cannot tell: the policy plays what was never shown, or too few rows bear it.
    Exit code 1: all of them were. 2: a file cannot be used, and nothing is written.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from endcap.benchmark.off_policy.run import run

    tell = lambda line: typer.echo(line, err=True)  # noqa: E731
    result = run(log, policy, out, items=items, reward=reward, confidence=confidence, progress=tell)
    _show(result)
    typer.echo(f"Wrote {' and '.join(map(str, with_picture(out)))}.")
    if not result["estimates"]:
        raise typer.Exit(1)


def _show(result: dict[str, Any]) -> None:
    column, percent, logged = result["log"]["columns"]["reward"], f"{result['confidence']:.1%}", result["logging"]
    title = f"{column} per shown item, {result['log']['rows']:,} rows; effective: {result['overlap']['effective_rows']:,.0f}"
    rows = [["what was logged", f"{logged['value']:.5f}", _span(logged), "", ""]]
    for name, one in result["estimates"].items():
        gap = one["minus_logging"]
        sure = _span(one["bernstein"]) if "bernstein" in one else ""
        rows.append([name, f"{one['value']:.5f}", _span(one), sure, f"{gap['value']:+.5f} {_span(gap)}"])
    show_figures(title, ("estimator", "value", percent, "Bernstein", f"less what was logged, {percent}"), rows)
    reasons: dict[str, list[str]] = {}
    for name, one in result["refused"].items():
        told = f"{one['field']}: {one['problem']}" + ("" if one["value"] is None else f"; got {one['value']}")
        reasons.setdefault(f"{told}. {one['action']}", []).append(name)
    for reason, names in reasons.items():
        typer.echo(f"Refused: {', '.join(names)}. {reason}", err=True)


def _span(interval: dict[str, float]) -> str:
    return f"[{interval['low']:.5f}, {interval['high']:.5f}]"
