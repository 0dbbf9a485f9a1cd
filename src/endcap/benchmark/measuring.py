"""What a run cost and where it ran: seconds, memory, versions, code, processor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

from endcap.config import project_root
from endcap.data.git import GitError, run_git

PACKAGES = ("endcap", "torch", "numpy", "scipy", "pandas", "pyarrow", "transformers", "implicit")
SAMPLE_SECONDS = 0.05


class Cost:
    """Wall seconds and the highest resident memory of this process inside a `with` block, sampled 20 times a second."""

    def __enter__(self) -> Self:
        self._process, self._stop = psutil.Process(), threading.Event()
        self.peak_bytes = self.start_bytes = int(self._process.memory_info().rss)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, int(self._process.memory_info().rss))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.seconds = time.monotonic() - self._begun
        self._stop.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, int(self._process.memory_info().rss))

    def facts(self, name: str) -> dict[str, float]:
        """`<name>_seconds`, `<name>_peak_mib` of the process, `<name>_rise_mib` above what it had at the start."""
        rise = self.peak_bytes - self.start_bytes
        return {
            f"{name}_seconds": round(self.seconds, 2), f"{name}_peak_mib": round(self.peak_bytes / 2**20, 1),
            f"{name}_rise_mib": round(rise / 2**20, 1),
        }  # fmt: skip


def surroundings() -> dict[str, Any]:
    """Versions of the main packages, the code's commit, the processor and the threads that torch takes."""
    import torch

    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    machine = {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {"versions": versions | {"python": platform.python_version()}, "commit": commit(), "machine": machine}


def commit() -> str:
    """The commit of the checkout, with "+changes" where files differ from it; "unknown" outside a checkout."""
    at = ("-C", str(project_root()))
    try:
        head = run_git(*at, "rev-parse", "HEAD").decode().strip()
        return head + ("+changes" if run_git(*at, "status", "--porcelain", "--untracked-files=no").strip() else "")
    except (GitError, OSError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
