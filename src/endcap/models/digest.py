"""The identity of a model directory: a hash over its files' names and contents."""

from __future__ import annotations

import hashlib
from pathlib import Path

CHUNK_BYTES = 1 << 20


def digest(directory: Path) -> str:
    """sha256 (64 hex digits) over the sorted relative paths and the contents of all files below `directory`.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"no model directory at {directory}")
    total = hashlib.sha256()
    files = sorted((path.relative_to(directory).as_posix(), path) for path in directory.rglob("*") if path.is_file())
    for name, path in files:
        content = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                content.update(chunk)
        total.update(f"{name}\0{content.hexdigest()}\n".encode())
    return total.hexdigest()
