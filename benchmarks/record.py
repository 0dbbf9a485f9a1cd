"""Where the figures of the scripts beside are kept: a JSON file with the machine, the code and the versions, and MLflow."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from endcap.benchmark.measuring import surroundings
from endcap.benchmark.result_file import write_json
from endcap.cli.benchmark_record import keep_record


def record(name: str, figures: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write `figures` with where they were measured, and log them; returns what was written."""
    result = figures | surroundings() | {"measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    result["machine"]["load_1m_after"] = round(os.getloadavg()[0], 1)
    write_json(out, result)
    keep_record(name, result, (out,), mlflow=True)
    return result
