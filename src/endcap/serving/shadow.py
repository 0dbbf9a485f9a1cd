"""The candidate in the shadow: it answers what the champion has answered, beside the request's path; compared, never shown.

What does not fit into a short queue is dropped and counted: a shopper never waits for a shadow. The thread that computes has
the lowest priority.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from endcap.errors import EndcapError
from endcap.recommender import Recommendation, Request
from endcap.serving.candidate_store import Candidate
from endcap.serving.metrics import Metrics

log = logging.getLogger(__name__)
QUEUE = 32  # requests that wait
_ROWS_A_COMMIT = 32
Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the champion has answered, and how."""

    candidate: Candidate
    request_id: str
    shopper: str
    request: Request
    shown: Sequence[str]  # item ids, best first
    champion_ms: float


class Shadow:
    """A thread that compares, and stores what it found through `write`."""

    def __init__(self, write: Callable[[Rows], None], metrics: Metrics, size: int = QUEUE) -> None:
        self._write, self._metrics = write, metrics
        self._waiting: queue.Queue[Asked | None] = queue.Queue(size)
        self._rows: list[dict[str, Any]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the comparison under way and store what was found; what waits is dropped."""
        self._stopped.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def offer(self, asked: Asked) -> None:
        """Compare it soon, or never; returns at once."""
        try:
            self._waiting.put_nowait(asked)
        except queue.Full:
            self._metrics.shadows.labels("dropped").inc()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a system that has no priorities for threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        while not self._stopped.is_set() and (asked := self._waiting.get()) is not None:
            self._rows.append(self.compare(asked))
            if self._waiting.empty() or len(self._rows) >= _ROWS_A_COMMIT:
                self._store()
        self._store()

    def compare(self, asked: Asked) -> dict[str, Any]:
        """One comparison as a row of the log: what the candidate would have shown, held against what was."""
        started = time.perf_counter()
        answer: list[Recommendation] | None
        try:
            answer = asked.candidate.recommender.recommend(asked.request)
        except Exception:  # what a candidate may do is what the shadow is there to find out
            log.exception("candidate failed in the shadow", extra={"model_version": asked.candidate.version.version})
            answer = None
        seconds = time.perf_counter() - started
        self._metrics.shadow_seconds.observe(seconds)
        found = None if answer is None else [one.item_id for one in answer]
        alike = None if found is None else overlap(asked.shown, found)
        order = None if found is None else rank_correlation(asked.shown, found)
        self._metrics.shadows.labels("failed" if found is None else "compared").inc()
        if alike is not None:
            self._metrics.shadow_overlap.observe(alike)
        if order is not None:
            self._metrics.shadow_correlation.observe(order)
        return {
            "request_id": asked.request_id,
            "canary_id": asked.candidate.state.canary_id,
            "shopper": asked.shopper,
            "answered_at": datetime.now(UTC),
            "overlap": alike,
            "rank_correlation": order,
            "candidate_ms": 1000 * seconds,
            "champion_ms": asked.champion_ms,
            "error": found is None,
        }

    def _store(self) -> None:
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        try:
            self._write(rows)
        except EndcapError as error:  # the comparisons are lost, nothing else is
            log.warning("comparisons could not be stored", extra={"rows": len(rows), "reason": str(error)})
            self._metrics.shadows.labels("lost").inc(len(rows))


def overlap(shown: Sequence[str], other: Sequence[str]) -> float | None:
    """|A ∩ B| / |A|, the share of what was shown that the other slate has, too; None of an empty slate.

    >>> overlap(["mug", "bowl", "fork", "cup"], ["cup", "mug", "tray", "fork"])
    0.75
    """
    return len(set(shown) & set(other)) / len(shown) if shown else None


def rank_correlation(shown: Sequence[str], other: Sequence[str]) -> float | None:
    """Kendall's τ over the items that both slates have: (concordant - discordant) / pairs; None of fewer than two.

    >>> round(rank_correlation(["mug", "bowl", "fork"], ["mug", "fork", "bowl"]), 4)  # (2 - 1) / 3
    0.3333
    """
    place = {item: rank for rank, item in enumerate(other)}
    ranks_C = np.array([place[item] for item in shown if item in place])
    if len(ranks_C) < 2:
        return None
    upper = np.triu_indices(len(ranks_C), 1)
    return float(np.sign(ranks_C[upper[1]] - ranks_C[upper[0]]).mean())
