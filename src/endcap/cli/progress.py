"""How the CLI shows that several parts come up: live rows on a terminal, one line a change elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


class PartsProgress:
    """A row a part: spinner, name, elapsed time, what is known of it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<22}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._rows = {name: self._progress.add_task(name, total=1, state="starting") for name in names}
        self._last: dict[str, str] = {}
        self._began = time.monotonic()

    def show(self, name: str, state: str) -> None:
        """The newest state of a part; `well` finishes its row."""
        if self._last.get(name) == state:
            return
        self._last[name] = state
        self._progress.update(self._rows[name], state=state.replace("[", r"\["), completed=int(state == "well"))
        if not self._console.is_terminal and state == "well":
            self._console.print(f"{time.monotonic() - self._began:5.1f} s  {name} is well")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
