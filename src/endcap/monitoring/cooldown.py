"""Remembers the updates that drift started, so that a shop that keeps moving is not retrained without end.

Time is the data's: a replay of last year behaves as last year did.
"""

from __future__ import annotations

import json
import os
from datetime import date, timedelta
from pathlib import Path

from endcap.data.locks import locked
from endcap.errors import ConfigError


class Cooldown:
    """A file of `{dataset version: date}` of the updates that were wanted. Safe for several processes, and to kill."""

    def __init__(self, file: Path, days: int) -> None:
        self.file, self.days = file, days

    def ask(self, dataset_version: str, day: date) -> bool:
        """Whether drift in this version may start an update; a yes is remembered and is a yes again when asked again.

        No: an update was wanted less than `days` before (for an older version that is judged again: or after) `day`.
        """
        with locked(self.file.with_suffix(".lock")):
            wanted = self._read()
            if dataset_version in wanted:
                return True
            if any(abs(day - other) < timedelta(days=self.days) for other in wanted.values()):
                return False
            self._write(wanted | {dataset_version: day})
            return True

    def _read(self) -> dict[str, date]:
        if not self.file.exists():
            return {}
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            return {version: date.fromisoformat(day) for version, day in found.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"cannot be read ({error})", field=str(self.file), action="Delete it: the next drift then starts an update."
            ) from error

    def _write(self, wanted: dict[str, date]) -> None:
        ready = self.file.with_suffix(".part")
        with ready.open("w", encoding="utf-8") as file:
            json.dump({version: day.isoformat() for version, day in wanted.items()}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        ready.replace(self.file)
