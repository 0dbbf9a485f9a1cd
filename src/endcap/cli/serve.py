"""`endcap serve`: the recommendation service in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default: ENDCAP_SERVING_PORT (8088).", min=1, max=65535)] = None,
) -> None:
    """Answer shoppers over HTTP: slates, events, health, metrics. The API is explained at /docs.

    Serves the champion of the registry once its records verify, and what sold most until then. Stop it with Ctrl-C.
    """
    from endcap.config import load_params, load_settings
    from endcap.serving.server import run

    settings = load_settings()
    run(settings, load_params(), host=host, port=port or settings.serving_port)
