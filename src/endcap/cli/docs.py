"""`endcap docs`: the pages that are written from the code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
import typer.main
from typer.cli import get_docs_for_click

from endcap.config import project_root
from endcap.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add this area's command."""
    app.command(rich_help_panel="The stack")(docs)


def docs(check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a page differs.")] = False) -> None:
    """Write docs/dags.md from the DAG files and docs/cli.md from the commands."""
    for name, make in PAGES.items():
        page = project_root() / "docs" / name
        text = make()
        known = page.read_text(encoding="utf-8") if page.exists() else ""
        if text == known:
            typer.echo(f"{name} is as the code says.")
        elif check:
            raise ConfigError("differs from the code", field=str(page), action="Run `make docs` and commit the page.")
        else:
            page.write_text(text, encoding="utf-8")
            typer.echo(f"Wrote {page}.")


def dags_page() -> str:
    """Each DAG: diagram, form, documentation."""
    from endcap.stack.dag_pages import load_dags, render

    return render(load_dags(project_root() / "dags"))


def cli_page() -> str:
    """Each command: help, arguments, options."""
    from endcap.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(
        obj=command, ctx=typer.Context(command, info_name="endcap"), name="endcap", title="The command line"
    )
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


PAGES: dict[str, Callable[[], str]] = {"dags.md": dags_page, "cli.md": cli_page}
