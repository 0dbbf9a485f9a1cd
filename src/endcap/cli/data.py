"""The shop's data: bring in files, look at what was rejected, export a public shop."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from endcap.contracts import FIRST_TIME

PANEL = "Data"
FileArgument = Annotated[Path, typer.Argument(help="A .csv (.gz) or .parquet file.")]
MappingOption = Annotated[Path, typer.Option("--mapping", "-m", help="Which column is what; `examples/` has some to copy.")]
quarantine = typer.Typer(help="Batches that were rejected whole, and why.", no_args_is_help=True)
shop = typer.Typer(help="Public and simulated shops.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.command("ingest", rich_help_panel=PANEL)(ingest)
    app.command("validate", rich_help_panel=PANEL)(validate)
    app.add_typer(quarantine, name="quarantine", rich_help_panel=PANEL)
    app.add_typer(shop, name="shop", rich_help_panel=PANEL)


def ingest(
    file: FileArgument,
    mapping: MappingOption,
    start: Annotated[
        datetime | None, typer.Option(help="First moment of the file's interval, UTC; default: its first day.")
    ] = None,
    end: Annotated[datetime | None, typer.Option(help="Moment after the interval, UTC; default: after its last day.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Run all steps here instead of leaving them to Airflow.")] = False,
    as_is: Annotated[bool, typer.Option("--as-is", help="Land it even without a mapped column; validation judges.")] = False,
) -> None:
    """Bring in a file of your own shop: events or a catalogue.

    The file is read, mapped to the contract, its user ids turned into pseudonyms, and landed. The DAG `ingest_events` (or
    `--now`) then validates, cleans and versions it. The same file twice is noticed and not taken twice.
    """
    from rich.console import Console

    from endcap.pipeline.landing import land_file

    console = Console()
    landed = land_file(file, mapping, start=_utc(start), end=_utc(end), strict=not as_is)
    batch_id = landed["batch_id"]
    console.print(f"{landed['state']}: [bold]{batch_id}[/] · {landed['events']:,} events · {landed['catalog_items']:,} items")
    for problem in landed["problems"]:
        console.print(f"[yellow]{problem}[/]")
    if landed["state"] in ("taken", "quarantined"):
        console.print(f"This very file was delivered before and was {landed['state']}; nothing was written.")
        if landed["state"] == "quarantined":
            console.print(f"`endcap quarantine show {batch_id}` says why.")
    if now:
        _run(console, batch_id, _utc(start), _utc(end))
    elif landed["state"] in ("landed", "waiting"):
        console.print(f"Next: trigger the DAG ingest_events with source = {batch_id}, or repeat with --now.")


def _run(console: Any, batch_id: str, start: datetime | None, end: datetime | None) -> None:
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from endcap.pipeline import ingest as steps
    from endcap.pipeline.quarantine import quarantine_batch

    first = start or FIRST_TIME
    last = end or datetime.now(UTC)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def step(name: str, call: Any, *arguments: str) -> Any:
            task = progress.add_task(name, total=1)
            result = call(*arguments)
            progress.update(task, completed=1)
            return result

        step("collect", steps.collect_batch, first.isoformat(), last.isoformat(), batch_id)
        checked = step("validate", steps.validate_batch, batch_id)
        if not checked["passed"]:
            step("quarantine", quarantine_batch, batch_id)
        cleaned = step("clean", steps.clean_batch, batch_id)
        made = step("version", steps.version_dataset, batch_id)
    for warning in checked["warnings"]:
        console.print(f"[yellow]warning[/] {warning}")
    _show_cleaning(console, cleaned)
    what = "nothing new beyond" if made["skipped"] else f"{made['events']:,} events in"
    console.print(f"{what} [bold]{made['dataset_version']}[/]")


def _show_cleaning(console: Any, counts: dict[str, Any]) -> None:
    from rich.table import Table

    from endcap.data.cleaning import RULES

    table = Table(title=f"Cleaning: {counts['events']:,} events kept")
    table.add_column("rule")
    table.add_column("rows", justify="right")
    table.add_column("what it does")
    for rule, meaning in RULES.items():
        table.add_row(rule, f"{counts[rule]:,}", meaning)
    console.print(table)


def validate(
    file: FileArgument,
    mapping: MappingOption,
    report: Annotated[Path, typer.Option(help="Folder for the result page.")] = Path("validation"),
) -> None:
    """Try a file against the data contracts without bringing it in. Exit code 1 when it would be rejected."""
    from rich.console import Console

    from endcap.pipeline.trial import try_file

    console = Console()
    result = try_file(file, mapping, report)
    for reason in result.reasons:
        console.print(f"[red]blocking[/] {reason}")
    for warning in result.warnings:
        console.print(f"[yellow]warning[/] {warning}")
    console.print(f"{'accepted' if result.passed else 'rejected'}: {len(result.checks)} checks · {result.report}")
    if not result.passed:
        raise typer.Exit(1)


@quarantine.command("list")
def list_quarantined() -> None:
    """List the rejected batches."""
    from rich.console import Console
    from rich.table import Table

    from endcap.config import load_settings
    from endcap.pipeline.batches import Batch

    table = Table(title="Quarantine")
    for column in ("batch", "source", "reasons", "first reason"):
        table.add_column(column)
    for path in sorted(load_settings().paths.quarantine.glob("*/reason.json")):
        reason = Batch(path.parent).read_json("reason.json")
        table.add_row(reason["batch_id"], reason["source"], str(len(reason["reasons"])), reason["reasons"][0])
    Console().print(table if table.row_count else "Nothing is in quarantine.")


@quarantine.command("show")
def show_quarantined(batch: Annotated[str, typer.Argument(help="A batch id; `endcap quarantine list` shows them.")]) -> None:
    """Say why a batch was rejected and where it lies."""
    from rich.console import Console

    from endcap.config import load_settings
    from endcap.pipeline.batches import Batch, quarantined

    home = load_settings().paths
    if not quarantined(home, batch):
        raise typer.BadParameter(f"{batch} is not in quarantine; `endcap quarantine list` shows what is.")
    reason = Batch(home.quarantine / batch).read_json("reason.json")
    console = Console()
    console.print(f"[bold]{batch}[/] from {reason['source']}, whole in {home.quarantine / batch}")
    for number, text in enumerate(reason["reasons"], start=1):
        console.print(f"  {number}. {text}", highlight=False)
    console.print(f"Report: {reason['report_url']}")


@quarantine.command("retry")
def retry_quarantined(batch: Annotated[str, typer.Argument(help="A batch id; `endcap quarantine list` shows them.")]) -> None:
    """Let a rejected batch be judged once more, after a suite or a threshold was mended."""
    from endcap.pipeline.quarantine import release_batch

    release_batch(batch)
    typer.echo(f"{batch} waits again: run ingest_events on it (source = {batch}, or the same interval for a log batch).")


@shop.command("export")
def export(
    name: Annotated[str, typer.Argument(help="online-retail or simulated.")],
    out: Annotated[Path, typer.Option(help="Folder for events.parquet and catalog.parquet.")],
) -> None:
    """Write a shop's events (with pseudonyms) and catalogue as files, to look at or to try `endcap ingest` with."""
    from endcap.pipeline.trial import export_shop

    for path, rows in export_shop(name, out).items():
        typer.echo(f"{path}: {rows:,} rows")


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
