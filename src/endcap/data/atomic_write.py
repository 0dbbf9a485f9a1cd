"""A text file that appears whole or not at all, whenever the process is killed and however full the disk is."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, text: str, mode: int = 0o666) -> None:
    """Write `text` (UTF-8) in place of what was there, on disk when it returns. Missing folders are made.

    `mode`: permissions, less the umask; 0o600 for what only its owner may read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        draft.touch(mode=mode)
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
