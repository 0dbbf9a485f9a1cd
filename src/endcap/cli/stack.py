"""`endcap up | down | status | logs | env`: the stack on this machine."""

from __future__ import annotations

import json
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from endcap.config import Settings, load_settings
from endcap.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from endcap.stack.control import PartStatus

SECRET_SETTINGS = {"airflow_password", "pseudonym_key"}
PANEL = "The stack"


def register(app: typer.Typer) -> None:
    """Add this area's commands."""
    for command in (up, down, status, logs, env):
        app.command(rich_help_panel=PANEL)(command)


def up(
    timeout: Annotated[float, typer.Option(help="Seconds to wait until every part is well.", min=1)] = 180.0,
) -> None:
    """Start Airflow, MLflow, Evidently and the service, and wait until every part is well. Safe to run again."""
    from endcap.cli.progress import PartsProgress
    from endcap.stack import control
    from endcap.stack.parts import stack_parts

    settings = load_settings()
    with PartsProgress([part.name for part in stack_parts(settings)]) as progress:
        seconds = control.up(settings, progress.show, seconds=timeout)
    typer.secho(f"The stack is up ({seconds:.0f} s).", fg=typer.colors.GREEN)
    _print_log_ins(settings)


def down() -> None:
    """Stop every part of the stack. State stays in ENDCAP_HOME."""
    from endcap.stack import control

    began = time.monotonic()
    count = control.down(load_settings())
    typer.echo(f"Stopped {count} processes in {time.monotonic() - began:.0f} s." if count else "The stack was down.")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show every part: state, address, since when, memory. Exit code 0: all well, 1: some part is not, 3: the stack is down."""
    from rich.console import Console

    from endcap.stack import control

    parts = control.status(load_settings())
    if as_json:
        rows = [
            {
                **{name: getattr(part, name) for name in ("name", "state", "address", "problem", "memory_bytes")},
                "well": part.well,
            }
            for part in parts
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        Console().print(_status_table(parts))
    if not all(part.well for part in parts):
        raise typer.Exit(3 if all(part.state == "down" for part in parts) else 1)


def logs(
    service: Annotated[str, typer.Argument(help="A part of the stack, as `endcap status` names it.")],
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=1)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing what is added.")] = False,
) -> None:
    """Print the log of one part."""
    from endcap.stack.control import log_tail

    folder = load_settings().paths.logs
    path = folder / f"{service}.log"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.log"))) or "none yet; run `endcap up`"
        raise InputError("has no log", field="SERVICE", value=service, action=f"Logs: {known}.")
    for line in log_tail(path, lines):
        typer.echo(line)
    if follow:
        _follow(path)


def env(
    export: Annotated[bool, typer.Option(help="Print lines for a shell: `eval $(endcap env --export)`.")] = False,
    secrets: Annotated[bool, typer.Option(help="Show secrets, too.")] = False,
) -> None:
    """Print every setting, its value here and what it means. The stack's log-ins are shown with --secrets."""
    from rich.console import Console
    from rich.table import Table

    settings = load_settings()
    if export:
        for name, value in settings:
            if value not in (None, "") and (secrets or name not in SECRET_SETTINGS):
                typer.echo(f"export ENDCAP_{name.upper()}={shlex.quote(str(value))}")
        return
    table = Table("variable", "value", "meaning", box=None)
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        hidden = name in SECRET_SETTINGS and value and not secrets
        table.add_row(f"ENDCAP_{name.upper()}", "•••" if hidden else str(value or ""), field.description or "")
    Console().print(table)
    if secrets:
        _print_log_ins(settings)


def _print_log_ins(settings: Settings) -> None:
    from endcap.stack.secrets import airflow_passwords

    log_ins = ", ".join(f"{user} / {password}" for user, password in airflow_passwords(settings).items())
    typer.echo(f"Airflow    {settings.airflow_url}   log in as {log_ins}")
    typer.echo(f"MLflow     {settings.mlflow_url}")
    typer.echo(f"Evidently  {settings.evidently_url}")
    typer.echo(f"Service    {settings.serving_url}/docs")


def _status_table(parts: list[PartStatus]) -> Table:
    from rich.table import Table

    table = Table("part", "state", "address", "since", "memory", "problem", box=None)
    for part in parts:
        colour = "green" if part.well else "red"
        memory = f"{part.memory_bytes / 2**20:.0f} MiB" if part.memory_bytes else ""
        table.add_row(part.name, f"[{colour}]{part.state}[/]", part.address, _since(part.since), memory, part.problem)
    table.add_row("all", "", "", "", f"{sum(part.memory_bytes for part in parts) / 2**20:.0f} MiB", "")
    return table


def _since(moment: datetime | None) -> str:
    if moment is None:
        return ""
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _follow(path: Path) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        try:
            while True:
                if line := file.readline():
                    typer.echo(line, nl=False)
                else:
                    time.sleep(0.3)
        except KeyboardInterrupt:
            return
