"""`endcap monitor …`: check for drift by hand, and look at what the checks found."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from endcap.pipeline import monitor as monitoring

PANEL = "Monitoring"
VERSION = typer.Argument("latest", help="Dataset version whose newest interval is judged: `latest` or e.g. `dataset-3`.")
MODEL = typer.Option(None, "--model", help="Compare with what this model version learnt; default: the champion.")
JSON = typer.Option(False, "--json", help="Print the result as JSON.")


def register(app: typer.Typer) -> None:
    """Add `monitor check` and `monitor history`."""
    monitor = typer.Typer(no_args_is_help=True, help="Has the shop moved away from what the champion learnt?")
    app.add_typer(monitor, name="monitor", rich_help_panel=PANEL)

    @monitor.command()
    def check(dataset_version: str = VERSION, model: str | None = MODEL, as_json: bool = JSON) -> None:
        """Compare the newest interval with the model's training data and write the report. Starts no update."""
        found = monitoring.check_drift(dataset_version, model)
        if as_json:
            typer.echo(json.dumps(found, indent=2))
        else:
            _show(found)

    @monitor.command()
    def history(as_json: bool = JSON) -> None:
        """List all checks, oldest first."""
        found = monitoring.past_checks()
        if as_json:
            typer.echo(json.dumps(found, indent=2))
        elif not found:
            typer.echo("No check yet: run `endcap monitor check`, or the DAG monitor_models.")
        else:
            _list(found)


def _show(found: dict[str, Any]) -> None:
    console = Console()
    if "skipped" in found:
        console.print(f"{found['dataset_version']}: not checked, {found['skipped']}")
        return
    table = Table("check", "verdict", "now", "usual", "limit", "unit")
    for check in found["checks"]:
        verdict = f"[red]{check['verdict']}[/]" if check["drifted"] else check["verdict"]
        numbers = ("–" if check[key] is None else f"{check[key]:.3f}" for key in ("value", "usual", "threshold"))
        table.add_row(check["name"], verdict, *numbers, check["unit"])
    console.print(table)
    console.print(f"{found['dataset_version']} against model {found['model_version']}: {_verdict(found)}")
    for reason in found["reasons"]:
        console.print(f"  {reason}")
    for warning in found.get("warnings", []):
        console.print(f"  [yellow]warning[/] {warning}")
    console.print(f"Report: {found['report_url']}\nOver time: {found['ui_url']}", soft_wrap=True)


def _list(found: list[dict[str, Any]]) -> None:
    table = Table("until", "dataset", "model", "verdict", "share", "reasons")
    for one in found:
        table.add_row(
            one["date"],
            one["dataset_version"],
            one["model_version"],
            _verdict(one),
            f"{one['share']:.2f}",
            "; ".join(one["reasons"]),
        )
    Console().print(table)


def _verdict(found: dict[str, Any]) -> str:
    return "[red]drift[/]" if found["drifted"] else "no drift"
