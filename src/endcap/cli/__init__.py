"""One command per pipeline step, plus the stack, lineage and the demo. Each command is a few lines that call the layer below."""

from __future__ import annotations

import sys

import typer

from endcap.errors import EndcapError

app = typer.Typer(
    name="endcap",
    help="The recommender platform of an online shop: events in, a model that earned its place out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the CLI; an `EndcapError` becomes one clear line on stderr and exit code 2."""
    try:
        app()
    except EndcapError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)
