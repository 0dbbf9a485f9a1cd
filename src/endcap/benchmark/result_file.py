"""The file of a benchmark's result, and the picture beside it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from endcap.benchmark.measuring import surroundings
from endcap.benchmark.partial import PartialResults
from endcap.data.atomic_write import write_atomically
from endcap.errors import InputError


def check_out(out: Path | None, *inputs: Path | None) -> None:
    """See, before any work, that the result can be written beside a picture and the finished parts.

    Raises:
        InputError: no .json, a folder, an input, or a place where nothing can be written.
    """
    if out is None:
        return
    if out.suffix != ".json":
        raise InputError("is no .json file", field="out", value=str(out), action="Name it so; the picture lies beside as .png.")
    try:
        if any(path and out.resolve() == path.resolve() for path in inputs):
            raise InputError("is one of the inputs", field="out", value=str(out), action="Name another file.")
        if out.is_dir() or out.with_suffix(".png").is_dir() or out.with_suffix(".partial").is_file():
            action = "It must be a file, with room for a .png and a folder .partial beside."
            raise InputError("is taken", field="out", value=str(out), action=action)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=out.with_suffix(".partial").name):
            pass
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror})", field="out", value=str(out), action="Name another place."
        ) from error


def publish(
    figures: dict[str, Any],
    begun: float,
    out: Path | None,
    draw: Callable[[Mapping[str, Any], Path], None],
    finished: PartialResults,
) -> dict[str, Any]:
    """The figures with where, when and in how many seconds since `begun` they were measured; written and drawn, if there is
    a place for them. What was finished on the way is forgotten: the next run measures anew.
    """
    seconds, date = round(time.monotonic() - begun, 1), datetime.now(UTC).isoformat(timespec="seconds")
    result = {**figures, **surroundings(), "seconds": seconds, "date": date}
    if out:
        write_json(out, result)
        draw(result, out.with_suffix(".png"))
    finished.clear()
    return result


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"not a JSON value: {value!r}")
