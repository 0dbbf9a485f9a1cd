"""Where things come from: lineage of a request, a model or a dataset; rebuilding a model; dataset versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

PANEL = "Lineage and dataset versions"
_TOLERANCE = 0.005  # absolute, of metrics between 0 and 1: other processors round otherwise
Version = Annotated[str, typer.Argument(help="dataset-2, 2 or latest.")]


def register(app: typer.Typer) -> None:
    """Add lineage, reproduce and the group dataset."""
    app.command("lineage", rich_help_panel=PANEL)(lineage)
    app.command("reproduce", rich_help_panel=PANEL)(reproduce)
    dataset = typer.Typer(
        help="Dataset versions: list, show, pull into this checkout, push to the remote.", no_args_is_help=True
    )
    dataset.command("list")(dataset_list)
    dataset.command("show")(dataset_show)
    dataset.command("pull")(dataset_pull)
    dataset.command("push")(dataset_push)
    app.add_typer(dataset, name="dataset", rich_help_panel=PANEL)


def lineage(
    name: Annotated[str, typer.Argument(help="A request id (req-…), a model (3 or model-3) or a dataset version (dataset-2).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a tree.")] = False,
) -> None:
    """Print the whole chain: request, model, dataset, validation, code, parameters, gate record, approver."""
    from rich.console import Console
    from rich.tree import Tree

    from endcap.pipeline.lineage import trace

    chain = trace(name)
    if as_json:
        _print_json(chain)
        return
    tree = Tree(f"[b]{name}[/]")
    _grow(tree, chain)
    Console(highlight=False).print(tree)


def reproduce(
    model: Annotated[str, typer.Argument(help="A version: 3 or model-3.")],
    tolerance: Annotated[float, typer.Option(help="Largest allowed difference of a metric.", min=0.0)] = _TOLERANCE,
) -> None:
    """Rebuild a model from its code, dataset version, parameters and parent, and compare. Exit code 1 beyond the tolerance."""
    from rich.console import Console
    from rich.table import Table

    from endcap.pipeline.reproduce import reproduce_model

    found = reproduce_model(model)
    table = Table("metric", "original", "rebuilt", "difference", title=f"Model {model.removeprefix('model-')}, rebuilt")
    beyond = [one for one in found if not abs(one.difference) <= tolerance]
    for one in found:
        style = "red" if one in beyond else ""
        table.add_row(one.metric, f"{one.original:.6f}", f"{one.rebuilt:.6f}", f"{one.difference:+.6f}", style=style)
    console = Console()
    console.print(table)
    if beyond or not found:
        console.print(f"[red]{len(beyond)} of {len(found)} metrics differ by more than {tolerance}.[/]")
        raise typer.Exit(1)
    console.print(f"[green]All {len(found)} metrics are within {tolerance}.[/]")


def dataset_list() -> None:
    """List the dataset versions, oldest first."""
    from rich.console import Console
    from rich.table import Table

    found = _repository().versions()
    if not found:
        Console().print("No dataset version yet: run `endcap ingest` or trigger the DAG ingest_events.")
        return
    table = Table("version", "until", "events", "added", "users", "items", "batch", "validation", title="Dataset versions")
    for card in found:
        until, passed = (
            f"{card.interval_end:%Y-%m-%d %H:%M}",
            {True: "passed", False: "failed"}.get(card.validation.get("passed"), ""),
        )
        counts = [f"{number:,}" for number in (card.events, card.added_events, card.users, card.items)]
        table.add_row(card.version, until, *counts, card.batch_id, passed)
    Console().print(table)


def dataset_show(version: Version = "latest") -> None:
    """Print the card of a version as JSON."""
    import json

    from endcap.data.versions import dump_card

    _print_json(json.loads(dump_card(_repository().get(version))))


def dataset_pull(
    version: Version = "latest",
    update: Annotated[
        bool, typer.Option("--update", help="For an incremental update: place the champion in data/parent.")
    ] = False,
    parent: Annotated[str | None, typer.Option(help="With --update: another parent model than the champion.")] = None,
) -> None:
    """Put a version into data/dataset of the current checkout, so that `dvc repro` runs here by hand."""
    from endcap.errors import ConfigError
    from endcap.pipeline.workspace import pull

    if parent and not update:
        raise ConfigError("only an update has a parent", field="--parent", value=parent, action="Add --update.")
    card = pull(Path.cwd(), version, "incremental" if update else "full", parent)
    typer.echo(f"data/dataset is {card.version}: {card.events:,} events until {card.interval_end.isoformat()}. Now: dvc repro")


def dataset_push(version: Version = "latest") -> None:
    """Copy a version's files to the DVC remote again, after the remote was replaced."""
    card = _repository().push(version)
    typer.echo(f"{card.version} is in the remote.")


def _repository() -> Any:
    from endcap.config import load_settings
    from endcap.data.versions import DatasetRepository

    settings = load_settings()
    return DatasetRepository(settings.paths, settings.dvc_remote_url)


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, default=str))


def _grow(tree: Any, value: Any) -> None:
    """Add a value to a rich tree: a dictionary as branches, a list as numbered ones, the rest as leaves."""
    from rich.markup import escape

    pairs = value.items() if isinstance(value, dict) else enumerate(value, start=1)
    for key, inner in pairs:
        if key == "missing":
            tree.add(f"[red]missing[/]: {escape(str(inner))}")
        elif isinstance(inner, dict | list) and inner:
            _grow(tree.add(f"[b cyan]{escape(str(key))}[/]"), inner)
        elif inner not in (None, "", [], {}):
            tree.add(f"{escape(str(key))}: {escape(str(inner))}")
