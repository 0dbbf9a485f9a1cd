"""The part off-policy: Endcap's estimators against obp's on the Open Bandit files, both ways, and what differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.peers.contestants import PEERS_PYTHON, ROOT, ContestantFailed
from benchmarks.peers.exchange import write_json
from endcap.benchmark.input_files import describe_files
from endcap.benchmark.measuring import commit
from endcap.data.atomic_write import write_atomically
from endcap.errors import InputError, ServiceUnavailable

DEFAULT_FOLDER = "open_bandit/men"  # below ENDCAP_DATA_DIR
FILES = ("bts.csv.gz", "random.csv.gz", "item_context.csv")


def measure(folder: Path) -> dict[str, Any]:
    """Both sides on the same arrays, in the peers' environment.

    Raises:
        InputError: a file of the data set is missing.
        ServiceUnavailable: the peers' environment is.
        ContestantFailed: the comparison ended with an error.
    """
    paths = {name.split(".")[0]: folder / name for name in FILES}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        action = f"Set ENDCAP_DATA_DIR to a folder with {DEFAULT_FOLDER}, or give --open-bandit FOLDER."
        raise InputError("files are missing", field=str(folder), value=missing, action=action)
    if not PEERS_PYTHON.exists():
        action = "Run `make bench-peers`, or scripts/setup-peers."
        raise ServiceUnavailable("the peers' environment is missing", field="obp", value=".venv-peers", action=action)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "PYTHONWARNINGS": "ignore::FutureWarning"}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "found.json"
        words = [str(PEERS_PYTHON), "-m", "benchmarks.peers.obp_estimators", str(folder), str(out)]
        code = subprocess.run(words, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode
        if code:
            raise ContestantFailed(f"ended with code {code}", field="obp", value=code, action="Read what it said above.")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    about = {"files": describe_files(**paths), "commit": commit()}
    return found | about | {"measured_at": datetime.now(UTC).isoformat(timespec="seconds")}


def write(results: dict[str, Any], base: Path) -> list[Path]:
    """`base`.json and .md; returns what was written."""
    paths = [base.with_suffix(suffix) for suffix in (".json", ".md")]
    write_json(paths[0], results)
    write_atomically(paths[1], page(results))
    return paths


def page(results: dict[str, Any]) -> str:
    """Markdown: an estimator a row, the largest difference last."""
    directions, versions = results["directions"], results["versions"]
    sizes = "; ".join(f"{name}: {one['rows']:,} rows, {one['clicks']} clicks" for name, one in directions.items())
    head = ["estimator", *(f"{name}, {side}" for name in directions for side in ("Endcap", "obp")), "largest difference"]
    lines = [
        "# Endcap's off-policy estimators and obp's",
        "",
        f"Open Bandit, campaign men: what one policy logged judges how often the other shows an item ({sizes}). Both sides "
        "are given the same arrays, q̂ included. The files hold places, not slates: for the estimators of slates the n-th rows "
        "of the three places are taken for a slate, which shows equal arithmetic and nothing else. "
        f"obp {versions['obp']}, numpy {versions['numpy']}; {results['measured_at'][:10]}, commit {results['commit'][:12]}.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    differences = largest_differences(results)
    for name, difference in differences.items():
        cells = [f"{one['estimates'][name][side]:.9f}" for one in directions.values() for side in ("endcap", "obp")]
        lines.append(f"| {name} | {' | '.join(cells)} | {difference:.1e} |")
    lines += ["", f"The largest difference of all: {max(differences.values()):.1e}.", ""]
    lines.append("Bootstrap, 90 %, other draws; Endcap's are BCa, obp's percentiles:")
    for direction, one in directions.items():
        for name, sides in one["bootstrap"].items():
            told = ", ".join(f"{side} [{low:.5f}, {high:.5f}]" for side, (low, high) in sides.items())
            lines.append(f"- {direction}, {name}: {told}")
    return "\n".join(lines) + "\n"


def largest_differences(results: dict[str, Any]) -> dict[str, float]:
    """estimator → the largest of both directions."""
    directions = list(results["directions"].values())
    return {name: max(one["estimates"][name]["difference"] for one in directions) for name in directions[0]["estimates"]}
