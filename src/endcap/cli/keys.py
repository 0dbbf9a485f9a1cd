"""`endcap keys`: who may call the service. A key is shown once, when it is made."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from endcap.contracts import Role

if TYPE_CHECKING:
    from endcap.serving.api_keys import ApiKey, ApiKeys

keys = typer.Typer(help="API keys of the service: who may ask it for what.", no_args_is_help=True)
_Id = Annotated[str, typer.Argument(help="Its id, as `endcap keys list` shows it.", show_default=False)]
_By = Annotated[str, typer.Option(help="Who decides; written to the audit log.", show_default="your log-in")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(keys, name="keys", rich_help_panel="The stack")


@keys.command()
def create(
    role: Annotated[Role, typer.Option(help="shop: slates and events. reader: model, metrics, pages. operator: all of it.")],
    label: Annotated[str, typer.Option(help="Who uses it: web-shop, grafana.")],
    days: Annotated[float | None, typer.Option(help="Until it expires.", show_default="never")] = None,
    by: _By = "",
) -> None:
    """Make a key and show it, this once. Running services know it within seconds.

    Once a key exists, the service asks everybody for one (`ENDCAP_API_KEYS` in `endcap env`).
    """
    with _table() as table:
        key, text = table.create(role, label, by or getpass.getuser(), days)
    _show(key, text)


@keys.command("list")
def list_keys() -> None:
    """List all keys: id, role, who uses it, since when, until when. Never the keys themselves."""
    from rich.console import Console
    from rich.table import Table

    with _table() as table:
        table.make_table()
        found = table.read()
    if not found:
        typer.echo("No key yet: `endcap keys create --role shop --label web-shop` makes one.")
        return
    page, now = Table(title="API keys"), datetime.now(UTC)
    for column in ("id", "role", "label", "state", "created", "expires", "revoked"):
        page.add_column(column, min_width=12 if column == "id" else None)
    for key in found:
        page.add_row(key.id, key.role.value, key.label, key.state(now), *map(_day, (key.created, key.expires, key.revoked)))
    Console().print(page)


@keys.command()
def revoke(key: _Id, by: _By = "") -> None:
    """End a key now. Running services refuse it within seconds, on every machine that reaches the event log."""
    with _table() as table:
        ended = table.revoke(key, by or getpass.getuser())
    typer.echo(f"Key {ended.id} ({ended.label}) is revoked since {_day(ended.revoked)}.")


@keys.command()
def rotate(
    key: _Id,
    overlap_hours: Annotated[
        float, typer.Option(help="How long the old key goes on, so that callers can change.", min=0)
    ] = 24.0,
    by: _By = "",
) -> None:
    """Make a new key of the same role and label; the old one goes on for a while, then expires. Nothing restarts."""
    with _table() as table:
        made, text = table.rotate(key, by or getpass.getuser(), timedelta(hours=overlap_hours))
    _show(made, text)
    typer.echo(f"The old key {key} counts for {overlap_hours:g} more hours.")


@contextlib.contextmanager
def _table() -> Iterator[ApiKeys]:
    from endcap.config import load_settings
    from endcap.data.privacy import pseudonym_key
    from endcap.release.audit import AuditLog
    from endcap.release.signing import Keys
    from endcap.serving.api_keys import ApiKeys

    settings = load_settings()
    secrets = settings.paths.secrets
    audit = AuditLog(settings.event_log_url, Keys.load(secrets))
    table = ApiKeys(settings.event_log_url, pseudonym_key(settings.pseudonym_key, secrets), audit)
    try:
        yield table
    finally:
        table.close()


def _show(key: ApiKey, text: str) -> None:
    until = f" until {_day(key.expires)}" if key.expires else ""
    typer.echo(f"Key {key.id}, role {key.role.value}, for {key.label}{until}. It is shown this once:", err=True)
    typer.echo(text)


def _day(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""
