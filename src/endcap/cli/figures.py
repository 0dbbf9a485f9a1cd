"""Tables of figures in a terminal, or wide enough to read where there is none."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 150  # where there is no terminal


def show_figures(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], bold: str | None = None) -> None:
    """Print a table: names to the left, figures to the right; the row named `bold` stands out."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for place, column in enumerate(header):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == bold else "")
    console = Console(highlight=False)
    Console(highlight=False, width=None if console.is_terminal else WIDTH).print(table)
