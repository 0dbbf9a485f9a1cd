"""Whether the event log answers. While it is away requests do not queue up behind its time-outs; it is tried again soon."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from endcap.data.events import EventLog
from endcap.errors import ServiceUnavailable
from endcap.serving.metrics import Metrics

log = logging.getLogger(__name__)


class LogWatch:
    """Remembers a failure for `pause_seconds`; then one request tries again while the others go on without."""

    def __init__(
        self, event_log: EventLog, metrics: Metrics, pause_seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._event_log, self._metrics, self._pause_seconds, self._clock = event_log, metrics, pause_seconds, clock
        self._up, self._retry_at = False, 0.0
        self._trying = threading.Lock()

    def ready(self) -> bool:
        """Whether it may be asked now. After a failure this also makes missing tables, once it answers again."""
        if self._up:
            return True
        if self._clock() < self._retry_at or not self._trying.acquire(blocking=False):
            return False
        try:
            self._event_log.create()
        except ServiceUnavailable as error:
            self.failed(error)
            return False
        finally:
            self._trying.release()
        self._up = True
        self._metrics.event_log_up.set(1)
        log.info("event log answers", extra={"address": self._event_log.address})
        return True

    def require(self) -> None:
        """Raises ServiceUnavailable while it is away."""
        if not self.ready():
            raise ServiceUnavailable(
                "the event log does not answer; nothing was stored",
                field="event log",
                action="Send the same events again in a moment: known ones count once. See docs/runbooks/event-log-away.md.",
            )

    def failed(self, error: ServiceUnavailable) -> None:
        """It did not answer."""
        if self._up:
            log.error("event log away", extra={"reason": str(error)})
        self._up, self._retry_at = False, self._clock() + self._pause_seconds
        self._metrics.event_log_up.set(0)
