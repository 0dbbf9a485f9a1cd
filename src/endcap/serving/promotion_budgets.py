"""How many shows each promotion has left: counted in the event log, handed out from memory.

A process takes shows in small lots, and they count as shown once it has them: so no budget is ever exceeded, however many
processes serve. What a process has not needed it gives back when it stops; one that is killed forfeits its lot.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from endcap.data.events import EventLog
from endcap.errors import ServiceUnavailable
from endcap.ranking.business_rules import Promotion
from endcap.serving.log_watch import LogWatch
from endcap.serving.metrics import Metrics

log = logging.getLogger(__name__)
MAX_LOT = 200  # shows
_PART = 8  # of what is left: lots get smaller, so that several processes come to the end together


class PromotionBudgets:
    """Lots of shows by promotion. `fetch` asks the event log, from one thread; `lend` and `settle` never wait for it."""

    def __init__(self, event_log: EventLog, watch: LogWatch, writing: threading.Lock, metrics: Metrics) -> None:
        self._event_log, self._watch, self._writing, self._metrics = event_log, watch, writing, metrics
        self._left: Counter[str] = Counter()
        self._low: dict[str, int] = {}  # fetch more from here on; absent: there is no more
        self._lock = threading.Lock()

    def lend(self, promotions: Sequence[Promotion]) -> dict[str, int]:
        """Shows that one slate may use, at most `at_most` of each promotion; `settle` what became of them."""
        with self._lock:
            lent = {rule.name: min(rule.at_most, self._left[rule.name]) for rule in promotions}
            self._left.subtract(lent)
        return lent

    def settle(self, lent: Mapping[str, int], used: Mapping[str, int]) -> None:
        """Take back what a slate did not use."""
        with self._lock:
            for name, shows in lent.items():
                self._left[name] += shows - used.get(name, 0)
        for name, shows in used.items():
            self._metrics.promotion_shows.labels(name).inc(shows)

    def low(self, promotions: Sequence[Promotion]) -> bool:
        """Whether it is time to fetch."""
        return any(self._left[rule.name] <= self._low.get(rule.name, -1) for rule in promotions)

    def fetch(self, promotions: Sequence[Promotion]) -> None:
        """Fill up the lots of these promotions, and give back those of others. While the event log is away nothing changes."""
        if not (promotions or self._left) or not self._watch.ready():
            return
        try:
            shown = self._event_log.promotion_shows() if promotions else {}
            left = {rule.name: rule.budget - shown.get(rule.name, 0) for rule in promotions}
            self._give_back([name for name in self._left if left.get(name, -1) < 0])  # gone, or the budget was lowered
            for rule in promotions:
                if self._left[rule.name] <= self._low.get(rule.name, 0):
                    self._take(rule, left[rule.name])
        except ServiceUnavailable as error:
            self._watch.failed(error)

    def close(self) -> None:
        """Give back what was not needed."""
        try:
            self._give_back(list(self._left))
        except ServiceUnavailable as error:
            log.warning("shows of promotions not given back", extra={"reason": str(error)})

    def _take(self, rule: Promotion, left: int) -> None:
        if left <= 0:
            if self._low.pop(rule.name, None) is not None:
                log.info("promotion has spent its budget", extra={"promotion": rule.name, "budget": rule.budget})
            return
        lot = min(MAX_LOT, left // _PART + 1)
        with self._writing:
            taken = self._event_log.count_shows(rule.name, lot, rule.budget)  # or another process was faster
        self._low[rule.name] = lot // 2
        if taken:
            with self._lock:
                self._left[rule.name] += lot

    def _give_back(self, names: Sequence[str]) -> None:
        for name in names:
            with self._lock:
                shows = self._left.pop(name, 0)
            self._low.pop(name, None)
            if shows:
                with self._writing:
                    self._event_log.count_shows(name, -shows)
