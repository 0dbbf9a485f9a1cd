"""`endcap audit`: who changed what, and the proof that nothing was changed afterwards."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from endcap.release.audit import AuditLog

audit = typer.Typer(help="The audit log: promotions, roll-backs, rules, API keys.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(audit, name="audit", rich_help_panel="The stack")


@audit.command()
def show(
    last: Annotated[int, typer.Option(help="How many entries, from the newest.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, whole.")] = False,
) -> None:
    """Show the newest entries, oldest first: when, who, what, and on which machine."""
    with _log() as log:
        entries = log.entries(last)
    if as_json:
        for entry in entries:
            typer.echo(json.dumps({**entry.body, "digest": entry.digest}, sort_keys=True))
        return
    for entry in entries:
        body = entry.body
        told = ", ".join(f"{name} {value}" for name, value in body["details"].items() if value is not None)
        who = f"by {body['by']} on {body['host']}"
        typer.echo(
            f"{entry.seq:>5}  {body['time'][:19]}Z  {body['action']}  {body['subject']}  {who}"
            + (f"  ({told})" if told else "")
        )


@audit.command()
def verify(
    head: Annotated[str | None, typer.Option(help="A digest noted earlier: proves that nothing up to it was lost.")] = None,
) -> None:
    """Prove that no entry was changed, left out or put in. Prints the digest to note elsewhere, for the next time."""
    with _log() as log:
        proof = log.verify(head)
    typer.secho(f"{proof.entries} entries, {proof.signed} signed: the chain holds.", fg=typer.colors.GREEN)
    typer.echo(f"head {proof.head}")


@contextlib.contextmanager
def _log() -> Iterator[AuditLog]:
    from endcap.config import load_settings
    from endcap.release.audit import AuditLog
    from endcap.release.signing import Keys

    settings = load_settings()
    log = AuditLog(settings.event_log_url, Keys.load(settings.paths.secrets))
    try:
        yield log
    finally:
        log.close()
