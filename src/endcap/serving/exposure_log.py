"""Writes what was shown before the answer goes out. Slates that wait at the same time share one commit.

Here is the row of an exposure and its way to the disk; its columns are in `contracts.py`, its table in `data/event_tables.py`.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from endcap.errors import EndcapError, ServiceUnavailable
from endcap.recommender import Recommendation

log = logging.getLogger(__name__)
Rows = Sequence[Mapping[str, Any]]
_SLATES_A_COMMIT = 256


class ExposureLog:
    """A thread that writes slates through `append`, all that wait in one call of it."""

    def __init__(self, append: Callable[[Rows, Rows], None], patience_seconds: float = 2.0) -> None:
        self._append, self.patience_seconds = append, patience_seconds
        self._waiting: queue.Queue[tuple[Rows, Rows, Future[None]] | None] = queue.Queue()
        self._writer = threading.Thread(target=self._run, name="exposure-log", daemon=True)
        self._writer.start()

    def write(self, rows: Rows, arms: Rows = ()) -> None:
        """Return when the rows are durable, and with them the request's arm of a canary.

        Raises:
            ServiceUnavailable: the event log is away, and the rows are lost.
            TimeoutError: it is busy for longer than `patience_seconds`; the rows are written when it is not.
        """
        if not rows and not arms:
            return
        done: Future[None] = Future()
        self._waiting.put((rows, arms, done))
        done.result(self.patience_seconds)

    def close(self) -> None:
        """Write what waits, then end."""
        self._waiting.put(None)
        self._writer.join(timeout=10)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            slates, end = [first], False
            while len(slates) < _SLATES_A_COMMIT and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    end = True
                    break
                slates.append(following)
            self._commit(slates)
            if end:
                return

    def _commit(self, slates: Sequence[tuple[Rows, Rows, Future[None]]]) -> None:
        try:
            self._append([row for rows, _, _ in slates for row in rows], [arm for _, arms, _ in slates for arm in arms])
        except EndcapError as error:
            for *_, done in slates:
                done.set_exception(error)
        except Exception as error:  # the thread must live on, and every waiting request must hear of it
            log.exception("exposures could not be written", extra={"slates": len(slates)})
            away = ServiceUnavailable(f"exposures could not be written ({error})", field="event log", action="See the log.")
            for *_, done in slates:
                done.set_exception(away)
        else:
            for *_, done in slates:
                done.set_result(None)


def rows_of(
    slate: Sequence[Recommendation],
    *,
    request_id: str,
    user_id: str | None,
    surface: str,
    time: datetime,
    policy: str,
    model_version: str,
    fallback: bool,
    feature_set: str | None = None,
) -> Rows:
    """One row (exposure_schema, and what policies learn from) for each shown item; `user_id` is a pseudonym.

    The policy of a place that a rule of the shelf gave is that rule: pinned or promoted:NAME.
    """
    about = {
        "request_id": request_id,
        "user_id": user_id,
        "surface": surface,
        "time": time,
        "model_version": model_version,
        "fallback": fallback,
    }
    return [
        {
            **about,
            "item_id": shown.item_id,
            "rank": shown.rank,
            "score": shown.score,
            "propensity": shown.propensity,
            "policy": shown.rule or policy,
            "feature_set": feature_set,
            "features": None if shown.features is None else shown.features.astype("<f4").tobytes(),
        }
        for shown in slate
    ]
