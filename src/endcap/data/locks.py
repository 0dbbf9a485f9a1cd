"""Locks and scratch folders that a killed process cannot leave behind: both hang on `flock`, which ends with its owner."""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file exclusively; waits for as long as its present owner lives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """As `locked`, without waiting: yields whether the lock was free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        yield _try(handle)


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A fresh folder below `root`, removed afterwards. Folders whose process was killed are removed on the way."""
    root.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    owner = root / f"{name}.lock"
    with owner.open("a") as handle:
        with locked(root / ".lock"):
            fcntl.flock(handle, fcntl.LOCK_EX)
            dead = _dead(root)
        _remove(root, dead)
        folder = root / name
        folder.mkdir()
        try:
            yield folder
        finally:
            _remove(root, [name])


def _dead(root: Path) -> list[str]:
    """Names of scratch folders that nobody owns any more."""
    found = []
    for path in root.glob("*.lock"):
        if path.stem.startswith("."):
            continue
        with suppress(FileNotFoundError), path.open("r+") as handle:
            if _try(handle):
                found.append(path.stem)
    return found


def _remove(root: Path, names: list[str]) -> None:
    for name in names:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / f"{name}.lock").unlink(missing_ok=True)


def _try(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
