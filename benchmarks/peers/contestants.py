"""Who takes part, and how one of them is run: a process of its own on the same cores, its result kept for the same job."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.peers.exchange import Job, write_json
from endcap.errors import EndcapError, ServiceUnavailable

ROOT = Path(__file__).resolve().parents[2]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
MODULES = {
    "popularity": "implicit_models",
    "implicit-als": "implicit_models",
    "implicit-cosine": "implicit_models",
    "implicit-bm25": "implicit_models",
    "rectools-sasrec": "rectools_models",
    "rectools-esasrec": "rectools_models",
    "endcap": "endcap_model",
}
OURS = ("endcap",)
# glibc gives freed memory back at once by default, so that every large tensor costs page faults; held, it is faster and larger
HELD_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_TOP_PAD_": str(2**29)}
Command = Sequence[str]


class ContestantFailed(EndcapError):
    """A contestant's process ended with an error or without a result."""


def command_of(model: str) -> Command:
    """The program that runs a model, less its job.

    Raises:
        ServiceUnavailable: the peers' environment is missing.
    """
    ours = model in OURS
    if not ours and not PEERS_PYTHON.exists():
        action = "Run `make bench-peers`, or scripts/setup-peers."
        raise ServiceUnavailable("the peers' environment is missing", field=model, value=".venv-peers", action=action)
    return [sys.executable if ours else str(PEERS_PYTHON), "-m", f"benchmarks.peers.{MODULES[model]}"]


def run(job: Job, folder: Path, split_digest: str, command: Command | None = None, label: str = "") -> dict[str, Any]:
    """The facts of a job; run unless a result for the same job, split and code lies below `folder`.

    Raises:
        ContestantFailed: it ended with an error.
    """
    name = "-".join(part for part in (job.model, job.mode, label, f"s{job.seed}") if part)
    out = folder / f"{name}-{job.digest(split_digest, label, _code(job.model))}"
    if (out / "facts.json").exists():
        print(f"{name}: kept from an earlier run", file=sys.stderr)
        return {**json.loads((out / "facts.json").read_text(encoding="utf-8")), "folder": str(out)}
    out.mkdir(parents=True, exist_ok=True)
    job = replace(job, out=str(out))
    write_json(out / "job.json", asdict(job))
    code = _follow([*(command or command_of(job.model)), str(out / "job.json")], job, out / "log.txt", name)
    if code or not (out / "facts.json").exists():
        tail = (out / "log.txt").read_text(encoding="utf-8").splitlines()[-1:]
        action = f"Read {out / 'log.txt'}."
        raise ContestantFailed(f"ended with code {code}", field=name, value=tail, action=action)
    return {**json.loads((out / "facts.json").read_text(encoding="utf-8")), "folder": str(out)}


def _follow(words: list[str], job: Job, log: Path, name: str) -> int:
    """Run it; what it says goes to its log, and to stderr. Returns its exit code."""
    print(f"{name}: log in {log}", file=sys.stderr)
    process = subprocess.Popen(
        words, cwd=ROOT, env=_environment(job), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    with process, log.open("w", encoding="utf-8") as kept:
        try:
            for line in process.stdout:
                kept.write(line)
                print(f"{name}: {line}", end="", file=sys.stderr)
        except BaseException:  # interrupted: leave no process behind
            process.kill()
            raise
    return process.returncode


def _environment(job: Job) -> dict[str, str]:
    """The same threads for everybody; Endcap's source for its metrics, which need numpy alone."""
    threads = str(job.threads)
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    heap = HELD_HEAP if job.settings.get("heap") == "held" else {}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return {**kept, **counts, **heap, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}


def _code(model: str) -> str:
    """A digest of what a result of this model depends on besides its job."""
    here = Path(__file__).parent
    files = [here / "exchange.py", here / "watching.py", here / "requirements.txt", here / f"{MODULES[model]}.py"]
    if model in OURS:
        files += sorted((ROOT / "src" / "endcap" / "training").glob("*.py"))
        files += sorted((ROOT / "src" / "endcap" / "models").glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
