"""`endcap docs`: the pages that are written from the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from endcap.config import project_root
from endcap.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def register(app: typer.Typer) -> None:
    """Add this area's command."""

    @app.command(rich_help_panel="The stack")
    def docs(check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a page differs.")] = False) -> None:
        """Write docs/dags.md from the DAG files and docs/cli.md from the commands."""
        from endcap.stack.dag_pages import load_dags, render

        folder = project_root() / "docs"
        pages = {"dags.md": render(load_dags(project_root() / "dags")), "cli.md": commands_page(app)}
        for name, text in pages.items():
            _write(folder / name, text, check)


def commands_page(app: typer.Typer) -> str:
    """Every command's help as Markdown."""
    from typer.cli import get_docs_for_click

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="endcap"), name="endcap")
    return "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"


def _write(page: Path, text: str, check: bool) -> None:
    known = page.read_text(encoding="utf-8") if page.exists() else ""
    if text == known:
        typer.echo(f"docs/{page.name} is as the code says.")
    elif check:
        raise ConfigError("differs from the code", field=f"docs/{page.name}", action="Run `make docs` and commit the page.")
    else:
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
        typer.echo(f"Wrote docs/{page.name}.")
