"""What is measured while a model trains: seconds, sequences, memory, and on validation which epoch was the best.

The same watch for every model that learns by epochs, so that none stops by other rules. Ranking for the validation is not
training: its seconds and its memory do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.exchange import Cases, Histories, Ints, Job, Material, judge_slates

CHOSEN_BY = "ndcg@10"
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Peak resident memory above what was resident at the start (Linux only; None elsewhere)."""

    def __init__(self) -> None:
        self.baseline = _resident("VmRSS")
        self.peak = self.baseline
        self.resume()

    def pause(self) -> None:
        """Take note of the peak since `resume`."""
        self.peak = max(self.peak, _resident("VmHWM"))

    def resume(self) -> None:
        """Forget what happened while paused."""
        try:
            CLEAR.write_text("5")
        except OSError:  # another system, or a container that forbids it: then there is no figure rather than a wrong one
            self.baseline = 0.0

    def facts(self) -> dict[str, float | None]:
        """MiB."""
        if not self.baseline:
            return {"baseline_mib": None, "peak_mib": None, "peak_above_baseline_mib": None}
        above = self.peak - self.baseline
        return {"baseline_mib": self.baseline, "peak_mib": self.peak, "peak_above_baseline_mib": round(above, 1)}


class Watch:
    """Told when an epoch begins and ends; says when to stop; keeps the best weights.

    `rank(histories)` gives slates by the weights of the moment, `keep()` a copy of the weights, `put(weights)` sets them.
    """

    def __init__(
        self,
        job: Job,
        material: Material,
        rank: Callable[[Histories], Ints],
        keep: Callable[[], Any],
        put: Callable[[Any], None],
    ) -> None:
        self.job, self.material, self.rank, self.keep, self.put = job, material, rank, keep, put
        self.asked = sample(material.validation, job.validation_users)
        self.epochs: list[dict[str, float]] = []
        self.best: Any = None
        self.best_epoch = 0
        self.marked: dict[str, Any] = {}
        self.memory = Memory()
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of training so far."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    def begin(self) -> None:
        """An epoch (or the first one's preparation) begins."""
        self.memory.resume()
        self._began = time.perf_counter()

    def end(self, sequences: int, targets: int) -> bool:
        """An epoch has learnt so many sequences, with so many targets in them; true: stop."""
        spent = time.perf_counter() - self._began
        self.memory.pause()
        self.epochs.append({"seconds": spent, "sequences": sequences, "targets": targets})
        print(f"epoch {len(self.epochs)} {spent:.1f} s {sequences / spent:.0f} sequences/s", end="", flush=True)
        stop = len(self.epochs) >= self.job.epochs
        if self.job.mode == "quality":
            stop = self._choose() or stop
        print(flush=True)
        self.begin()
        return stop

    def _choose(self) -> bool:
        value = self._judged()
        self.epochs[-1] |= {"validation": value, "trained_seconds": round(self.seconds, 2)}
        print(f" validation {CHOSEN_BY} {value:.4f}", end="", flush=True)
        if not self.marked and self.seconds > self.job.mark_seconds:
            self._mark(
                None
            )  # a model whose epochs are not watched batch by batch: what it had at its last epoch before the mark
        if not self.best_epoch or value > self.epochs[self.best_epoch - 1]["validation"]:
            self.best_epoch, self.best = len(self.epochs), self.keep()
        waited = len(self.epochs) - self.best_epoch
        return waited >= self.job.patience or self.seconds >= self.job.max_seconds

    def tick(self) -> bool:
        """After a batch: when the clock passes the mark, rank the test with the better of the present and the best weights.

        True if weights were looked at, so that the model must be put back into training.
        """
        now = time.perf_counter()
        if self.job.mode != "quality" or self.marked or self.seconds + now - self._began <= self.job.mark_seconds:
            return False
        self.memory.pause()
        self._mark(self._judged())
        self.memory.resume()
        self._began += time.perf_counter() - now
        return True

    def _mark(self, present: float | None) -> None:
        """`present`: NDCG of the present weights, or None if they are later than the mark."""
        best = self.epochs[self.best_epoch - 1]["validation"] if self.best_epoch else None
        self.marked = {"mark_seconds": self.job.mark_seconds, "mark_epoch": self.best_epoch}
        if present is None and best is None:
            return  # nothing was ready
        current = self.keep()
        if present is None or (best is not None and best > present):
            self.put(self.best)
        np.save(Path(self.job.out) / "slates_at_mark.npy", self.rank(self.material.test))
        self.put(current)

    def _judged(self) -> float:
        return float(judge_slates(self.rank(self.asked.histories), self.asked)[CHOSEN_BY].mean())

    def finish(self) -> dict[str, Any]:
        """Go back to the best weights, rank the test, and tell everything."""
        facts: dict[str, Any] = {"epochs": self.epochs, "train_seconds": round(self.seconds, 2), **self.memory.facts()}
        measured = self.epochs[1:] or self.epochs  # the first one is the warm-up
        for name in ("sequences", "targets"):
            facts[f"{name}_per_second"] = sum(e[name] for e in measured) / sum(e["seconds"] for e in measured)
        if self.job.mode == "quality":
            self.put(self.best)
            np.save(Path(self.job.out) / "slates.npy", self.rank(self.material.test))
            if not self.marked and self.seconds <= self.job.mark_seconds:
                self.marked = {"mark_seconds": self.job.mark_seconds, "mark_epoch": self.best_epoch}
            best = self.epochs[self.best_epoch - 1]
            patient = len(self.epochs) - self.best_epoch >= self.job.patience
            why = "patience" if patient else "epochs" if len(self.epochs) >= self.job.epochs else "time limit"
            facts |= {
                "best_epoch": self.best_epoch,
                "seconds_to_best": best["trained_seconds"],
                "validation": best["validation"],
            }
            facts |= {"stopped_by": why, **self.marked}
        return facts


def sample(cases: Cases, users: int) -> Cases:
    """The same users each time and for everybody."""
    count = len(cases.wanted)
    return cases.part(np.sort(np.random.default_rng(1).choice(count, min(users, count), replace=False)))


def _resident(name: str) -> float:
    """MiB; 0 where the system does not tell."""
    if not STATUS.exists():
        return 0.0
    lines: dict[str, str] = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return round(int(lines[name].split()[0]) / 1024, 1)
