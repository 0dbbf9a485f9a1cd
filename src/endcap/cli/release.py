"""Models in the registry: list them, judge one, prove the champion, return to the one before."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("models", rich_help_panel="Models")(models)
    app.command("gates", rich_help_panel="Models")(gates)
    app.command("rollback", rich_help_panel="Models")(rollback)
    app.command("verify", rich_help_panel="Models")(verify)


def models() -> None:
    """List the registered models: where each came from, whether its gates were passed, who approved it."""
    from rich.console import Console
    from rich.table import Table

    from endcap.config import load_settings
    from endcap.release.registry import Registry

    registry = Registry(load_settings().mlflow_url)
    found, champion = registry.versions(), registry.champion()
    console = Console()
    if not found:
        console.print("No model yet. Trigger the DAG [b]retrain_full[/b], or see `endcap --help`.")
        return
    table = Table(title="Models", caption=f"{registry.url}/#/models")
    for column in ("model", "kind", "dataset", "parent", "status", "approved by", "code", "params"):
        table.add_column(column)
    for version in found:
        serves = champion is not None and champion.version == version.version
        tags = version.tags
        table.add_row(
            f"[b green]{version.version} ★[/]" if serves else version.version,
            version.kind,
            version.dataset_version,
            version.parent_version or "",
            "champion" if serves else _status(tags),
            tags.get("promoted_by", ""),
            version.code_commit[:12],
            version.params_hash,
        )
    console.print(table)


def gates(
    model: Annotated[str, typer.Argument(help="A version: 3 or model-3. `endcap models` lists them.")],
) -> None:
    """Judge a model again on the newest days of the newest dataset, and sign the outcome. Exit code 1 when it is refused."""
    from rich.console import Console
    from rich.markdown import Markdown

    from endcap.pipeline.release import evaluate_gates

    console = Console()
    with console.status(f"Judging model {model}"):
        outcome = evaluate_gates(model)
    console.print(Markdown(outcome["summary_markdown"]))
    console.print(f"Scorecard: {outcome['report_url']}", soft_wrap=True)
    if not outcome["passed"]:
        raise typer.Exit(1)


def rollback(
    by: Annotated[str, typer.Option(help="Who decides; written down with the model.", show_default="your log-in")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Return to the previous champion whose records verify. Serving follows within seconds."""
    from endcap.pipeline.release import rollback as roll_back

    if not yes:
        typer.confirm("Return to the previous verified champion?", abort=True)
    outcome = roll_back(by or getpass.getuser())
    typer.secho(f"Champion is now model {outcome['model_version']} (was {outcome['from_version']}).", fg=typer.colors.GREEN)


def verify() -> None:
    """Prove the champion as serving does: gate record, approval, digest of its files."""
    from rich.console import Console

    from endcap.pipeline.release import verify_champion

    proof = verify_champion()
    console = Console()
    console.print(f"[b green]Model {proof['model_version']} has earned its place.[/]")
    console.print(f"  {len(proof['gates'])} gates on {proof['dataset_version']}")
    console.print(f"  approved by {proof['approved_by']} at {proof['approved_at']}")
    console.print(f"  digest {proof['digest']}", soft_wrap=True)


def _status(tags: dict[str, str]) -> str:
    status = tags.get("status", "")
    return "former champion" if status == "promoted" else status
