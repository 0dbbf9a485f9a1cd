"""Room on the disk, asked for before work that would otherwise end half way (or, in DVC's own databases, never)."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

from endcap.errors import DatasetError

MARGIN_BYTES = 8 * 2**20  # for databases and git objects; more than either needs


def require_room(folder: Path, wanted_bytes: int, doing: str) -> None:
    """Check that the disk of `folder` (or of the nearest parent there is) can take `wanted_bytes` and a margin.

    Raises:
        DatasetError: it cannot; nothing was changed.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < wanted_bytes + MARGIN_BYTES:
        raise full(doing, f"{free / 2**20:.0f} MiB free at {place}, {(wanted_bytes + MARGIN_BYTES) / 2**20:.0f} MiB needed")


def full(doing: str, said: object) -> DatasetError:
    """The error to raise for a full disk."""
    action = "Nothing was changed. Free some space and run it again: docs/runbooks/disk-full.md."
    return DatasetError(f"the disk is full ({said})", field=doing, action=action)


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that the disk is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, sqlite3.Error) and "disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
