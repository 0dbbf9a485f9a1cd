"""`endcap canary`: a candidate on a growing part of the shoppers, by hand; promote_model does it with `canary.enabled`."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

canary = typer.Typer(
    help="A candidate on a growing part of the shoppers: start it, see where it stands, stop it (docs/canary.md).",
    no_args_is_help=True,
)
By = Annotated[str, typer.Option(help="Who decides; written down with the model.", show_default="your log-in")]
Reason = Annotated[str, typer.Option(help="Why; kept in the canary's history.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(canary, name="canary", rich_help_panel="Models")


@canary.command()
def status() -> None:
    """Show the canary that began last, running or over: step, share, and why it stands there."""
    from endcap.pipeline.canary import status as look_up

    found = look_up()
    if found is None:
        typer.echo("There never was a canary. `endcap canary start MODEL` starts one; see docs/canary.md.")
        return
    _tell(found)


@canary.command()
def start(
    model: Annotated[str, typer.Argument(help="A version that passed its gates: 3 or model-3. `endcap models` lists them.")],
    by: By = "",
    shadow_only: Annotated[
        bool, typer.Option("--shadow-only", help="Answer nobody: only compare, until it is stopped.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Let a model answer part of the shoppers, or only run beside the champion. Its gate record must verify.

    It goes on only when somebody looks: promote_model does when it started the canary, else `endcap canary decide --every`.
    """
    from endcap.pipeline.canary import start as begin

    if not yes:
        typer.confirm(f"Start a canary of model {model} on real shoppers?", abort=True)
    _tell(begin(model, by or getpass.getuser(), shadow_only=shadow_only))


@canary.command()
def decide(
    advance: Annotated[
        bool, typer.Option("--advance", help="Go on though evidence is not enough; not past a broken guard.")
    ] = False,
    every: Annotated[float, typer.Option(min=0, help="Look again after so many seconds until it is over; 0: once.")] = 0,
    by: By = "",
    reason: Reason = "",
) -> None:
    """Look at the evidence now, and advance, wait or roll back as it says. Harmless beside a running promote_model.

    Exit code 1 when it was rolled back.
    """
    import time

    from endcap.pipeline.canary import advance as go_on
    from endcap.pipeline.canary import look

    found = go_on(by or getpass.getuser(), reason or "on a person's word") if advance else look()
    _tell(found)
    while every and found["state"] == "running":
        time.sleep(every)
        found = look()
        _tell(found)
    if found["state"] == "rolled_back":
        raise typer.Exit(1)


@canary.command()
def stop(by: By = "", reason: Reason = "", yes: Yes = False) -> None:
    """Return all shoppers to the champion. The service follows within `serving.reload_seconds`."""
    from endcap.pipeline.canary import stop as end

    if not yes:
        typer.confirm("Return all shoppers to the champion?", abort=True)
    _tell(end(by or getpass.getuser(), reason))


@canary.command()
def promote(
    model: Annotated[str, typer.Argument(help="The model whose canary came through all steps.")], by: By = "", yes: Yes = False
) -> None:
    """The last word of a person: make the model that came through its canary champion."""
    from endcap.pipeline.canary import crown

    if not yes:
        typer.confirm(f"Make model {model} champion?", abort=True)
    _tell(crown(model, by or getpass.getuser()))


def _tell(found: dict[str, Any]) -> None:
    colours = {"rolled_back": typer.colors.RED, "promoted": typer.colors.GREEN, "passed": typer.colors.GREEN}
    summary = found["summary"][0].upper() + found["summary"][1:]
    typer.secho(f"{summary}.", fg=colours.get(found["state"]), bold=True)
    for line in filter(None, found["reason"].split("; ")):
        typer.echo(f"  {line}")
    typer.echo(f"  {found['report_url']}")
