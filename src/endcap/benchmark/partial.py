"""What a benchmark has finished, kept beside its output, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class PartialResults:
    """Slates and facts by (model, seed). A result of other inputs, options or code is not found.

    `out` None keeps nothing.
    """

    def __init__(self, out: Path | None, identity: dict[str, Any]) -> None:
        self.folder = out.with_suffix(".partial") if out else None
        text = json.dumps(identity | {"code": code_digest()}, sort_keys=True, default=str)
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]

    def load(self, model: str, seed: int) -> tuple[Ints, dict[str, Any]] | None:
        """The slates (U, K) and facts of a finished fit; None: not finished, or torn by a kill."""
        path = self._path(model, seed)
        if path is None or not path.exists():
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return arrays["slates"], json.loads(str(arrays["facts"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, model: str, seed: int, slates: Ints, facts: dict[str, Any]) -> None:
        """Keep a finished fit; the file appears whole or not at all."""
        path = self._path(model, seed)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("wb") as stream:
            np.savez(stream, slates=slates, facts=np.array(json.dumps(facts)))
        partial.replace(path)

    def clear(self) -> None:
        """Forget everything: the output is written, and the next run measures anew."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, model: str, seed: int) -> Path | None:
        name = re.sub(r"\W+", "-", model.lower())
        return self.folder / f"{name}-{seed}-{self.digest}.npz" if self.folder else None


def code_digest() -> str:
    """The sha256 of Endcap's own sources: a result of other code is not this code's result."""
    import endcap

    root = Path(endcap.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
