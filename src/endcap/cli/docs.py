"""`endcap docs`: the pages that are written from the code."""

from __future__ import annotations

from typing import Annotated

import typer

from endcap.config import project_root
from endcap.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add this area's command."""
    app.command(rich_help_panel="The stack")(docs)


def docs(check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a page differs.")] = False) -> None:
    """Write docs/dags.md from the DAG files."""
    from endcap.stack.dag_pages import load_dags, render

    page = project_root() / "docs" / "dags.md"
    text = render(load_dags(project_root() / "dags"))
    known = page.read_text(encoding="utf-8") if page.exists() else ""
    if text == known:
        typer.echo(f"{page.name} is as the code says.")
    elif check:
        raise ConfigError("differs from the DAG files", field=str(page), action="Run `make docs` and commit the page.")
    else:
        page.write_text(text, encoding="utf-8")
        typer.echo(f"Wrote {page}.")
