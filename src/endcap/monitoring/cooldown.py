"""Remembers the updates that drift started, so that a shop that keeps moving is not retrained without end.

Time is the data's: a replay of last year behaves as last year did.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

from endcap.data.atomic_write import write_atomically
from endcap.data.locks import locked
from endcap.errors import ConfigError


class Cooldown:
    """A file of `{run: [dataset version, date]}` of the updates that were wanted. Safe for several processes, and to kill."""

    def __init__(self, file: Path, days: int) -> None:
        self.file, self.days = file, days

    def ask(self, run: str, dataset_version: str, day: date) -> bool:
        """Whether drift in this version may start an update. A yes is remembered; the same run is told it again, no other is.

        No: another run wanted an update for this version, or less than `days` before (for an older version that is judged
        again: or after) `day`.
        """
        with locked(self.file.with_suffix(".lock")):
            wanted = self._read()
            if run in wanted:
                return True
            for version, other in wanted.values():
                if version == dataset_version or abs(day - other) < timedelta(days=self.days):
                    return False
            self._write(wanted | {run: (dataset_version, day)})
            return True

    def _read(self) -> dict[str, tuple[str, date]]:
        if not self.file.exists():
            return {}
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            return {run: (str(version), date.fromisoformat(day)) for run, (version, day) in found.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"cannot be read ({error})", field=str(self.file), action="Delete it: the next drift then starts an update."
            ) from error

    def _write(self, wanted: dict[str, tuple[str, date]]) -> None:
        content = {run: [version, day.isoformat()] for run, (version, day) in wanted.items()}
        write_atomically(self.file, json.dumps(content, indent=2))
