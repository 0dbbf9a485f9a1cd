"""How long work tells what it is at: a function that takes a line."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """A progress that shows nothing."""


def spaced(progress: Progress, seconds: float = 5.0) -> Progress:
    """`progress`, at most once in so many seconds: its lines stay in a log."""
    last = -seconds

    def show(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            progress(line)

    return show
