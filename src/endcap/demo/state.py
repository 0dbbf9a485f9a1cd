"""What the demo has done so far, in one JSON file written whole after each step: an interrupted demo goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from endcap.data.atomic_write import write_atomically
from endcap.errors import InputError


class DemoState:
    """Results of finished steps by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        if path.exists():
            try:
                saved = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                action = "Move the file away to start the demo from the beginning, or `make clean` to delete all state."
                raise InputError(f"is not JSON ({error})", field=str(path), action=action) from error
            self.done, self.seconds = saved["done"], saved["seconds"]

    def once(self, name: str, act: Callable[[], Any]) -> Any:
        """The result of step `name`: from the file if it was done before, else of `act()`, saved."""
        if name not in self.done:
            self.done[name] = act()
            self.save()
        return self.done[name]

    def save(self) -> None:
        write_atomically(self.path, json.dumps({"done": self.done, "seconds": self.seconds}, indent=1))
