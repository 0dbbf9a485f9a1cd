"""Versions of what policies have learnt, as files: state-NUMBER-HASH.json, the hash of what is in them.

A version appears whole or not at all. One that is broken or foreign is passed over by name, and the one before counts.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from endcap.data.atomic_write import write_atomically
from endcap.errors import InputError
from endcap.policy.state import State, read_state

_NAME = re.compile(r"state-(\d{8})-([0-9a-f]{16})\.json")


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The newest good version; `state` and `name` are None while there is none. `refused`: newer ones, and why."""

    state: State | None
    name: str | None
    refused: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The hash of its content; "" while there is none."""
        return self.name.split("-")[2].removesuffix(".json") if self.name else ""


def names(folder: Path) -> list[str]:
    """The versions by their numbers, the newest first."""
    found = [path.name for path in folder.glob("state-*")] if folder.is_dir() else []
    return sorted(found, key=lambda name: (_number(name), name), reverse=True)


def newest(folder: Path) -> Found:
    """Read from the newest version on, until one is good."""
    refused: list[str] = []
    for name in names(folder):
        try:
            return Found(_read(folder / name), name, tuple(refused))
        except InputError as error:
            refused.append(f"{name}: {error}")
    return Found(None, None, tuple(refused))


def save(folder: Path, state: State, keep: int) -> str:
    """Write the next version, on disk when it returns, and delete all but the newest `keep`. One writer at a time."""
    text = state.to_text()
    number = max((_number(name) for name in names(folder)), default=0) + 1
    name = f"state-{number:08d}-{_hash(text)}.json"
    write_atomically(folder / name, text)
    for old in names(folder)[keep:]:
        (folder / old).unlink(missing_ok=True)
    for draft in folder.glob(".*.tmp"):  # of a writer that was killed
        draft.unlink(missing_ok=True)
    return name


def _number(name: str) -> int:
    known = _NAME.fullmatch(name)
    return int(known[1]) if known else -1


def _read(path: Path) -> State:
    known = _NAME.fullmatch(path.name)
    action = "Delete the file: the last good one is used, and `endcap learn-policy` learns again what it lacks."
    if known is None:
        raise InputError("is not named state-NUMBER-HASH.json", field="name", value=path.name, action=action)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", field="file", value=path.name, action=action) from error
    if (found := _hash(text)) != known[2]:
        raise InputError("is not what its name says", field="hash", value=found, action=action)
    return read_state(text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
