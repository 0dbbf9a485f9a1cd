"""Tells the user what the demo does: a live line while a step runs, a lasting line with its seconds when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {
    "success": "[green]●[/]",
    "running": "[yellow]◐[/]",
    "failed": "[red]●[/]",
    "skipped": "[dim]○[/]",
    "awaiting_input": "[blue]?[/]",
}


class Narrator:
    """Prints steps and keeps their seconds, by name, for the summary."""

    def __init__(self, console: Console, seconds: dict[str, float]) -> None:
        self.console = console
        self.seconds = seconds

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[Callable[[str], None]]:
        """Run a step; the yielded function updates the live line."""
        began = time.monotonic()
        with self.console.status(f"{title} …") as status:

            def update(text: str) -> None:
                status.update(f"{title} … [dim]{time.monotonic() - began:.0f} s[/] {text}")

            try:
                yield update
            except BaseException:
                self.console.print(f"  [red]✗[/] {title} [dim]{time.monotonic() - began:.1f} s[/]")
                raise
        self.seconds[name] = round(time.monotonic() - began, 1)
        self.console.print(f"  [green]✓[/] {title} [dim]{self.seconds[name]:.1f} s[/]")

    def say(self, text: str) -> None:
        self.console.print(f"    {text}")

    def heading(self, text: str) -> None:
        self.console.rule(f"[bold]{text}", align="left")


def task_line(tasks: dict[str, str]) -> str:
    """The states of a run's tasks on one line.

    >>> task_line({"prepare": "success", "train": "running", "evaluate": "none"})
    '[green]●[/] prepare [yellow]◐[/] train'
    """
    return " ".join(f"{MARKS[state]} {task}" for task, state in tasks.items() if state in MARKS)
