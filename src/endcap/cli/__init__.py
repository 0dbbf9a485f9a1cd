"""One command per pipeline step, plus the stack, lineage and the demo. Each is a few lines that call the layer below."""

from __future__ import annotations

import logging
import sys

import typer

from endcap.errors import EndcapError

app = typer.Typer(
    name="endcap",
    help=(
        "The recommender platform of an online shop: events in, a model that earned its place out.\n\n"
        "**Start here:** `endcap demo` plays the main job; `endcap up` starts the stack; `endcap ingest` brings your own shop."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def configure(verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens inside.")) -> None:
    """Set up logging once for the process."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )


def _register() -> None:
    from endcap.cli import (
        audit,
        benchmark,
        canary,
        data,
        demo,
        docs,
        evaluate_policy,
        keys,
        learn_policy,
        lineage,
        monitor,
        release,
        rules,
        serve,
        stack,
        stages,
        tune,
    )

    models = (stages, tune, release, canary, evaluate_policy, learn_policy, monitor)
    service = (serve, rules, keys, audit)
    for module in (demo, stack, data, *models, *service, lineage, benchmark, docs):
        module.register(app)


_register()


def main() -> None:
    """Run the CLI; an `EndcapError` becomes one clear line on stderr and exit code 2."""
    try:
        app()
    except EndcapError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)
