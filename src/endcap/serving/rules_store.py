"""The rules in force: follows the file and its stock file, and keeps the last good rules whatever the file turns into."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from endcap.data.events import EventLog
from endcap.errors import ConfigError, ServiceUnavailable
from endcap.ranking.business_rules import NO_RULES, Rules
from endcap.release.audit import AuditLog
from endcap.serving.metrics import Metrics
from endcap.serving.promotion_budgets import PromotionBudgets
from endcap.serving.rules_file import read_rules, require_listed, stock_file

log = logging.getLogger(__name__)
RETRY_SECONDS = 10.0  # before a refused file that has not changed is read again: its stock file or the catalogue may have
Stamp = tuple[tuple[str, int, int, int] | None, ...]  # of each file: path, inode, size, time of change


class RulesStore:
    """Looks at the file every `reload_seconds` in a thread of its own. `current` is in force; without a file: no rules.

    Making one raises ConfigError when the file cannot be used; later such a file is refused, and the rules stay.
    """

    def __init__(
        self,
        path: Path | None,
        event_log: EventLog,
        budgets: PromotionBudgets,
        metrics: Metrics,
        reload_seconds: float,
        audit: AuditLog | None = None,
    ) -> None:
        self._audit, self._untold = audit, path is not None  # untold: the audit log does not know of these rules yet
        self._path, self._event_log, self._budgets, self._metrics = path, event_log, budgets, metrics
        self._reload_seconds = reload_seconds
        self.refused: str | None = None  # why the file as it is now is not in force
        self._retry_at = 0.0  # monotonic seconds
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="rules-store", daemon=True)
        self._stamp: Stamp = self._files(NO_RULES)
        self.current = self._read() if path else NO_RULES
        self._metrics.rules_current.set(1)

    def start(self) -> None:
        """Fetch the first shows of promotions, then follow the file, if there is one."""
        if self._path:
            self._tell()
            self._budgets.fetch(self.current.promoted)
            self._thread.start()

    def stop(self) -> None:
        """End following and give back the shows that were not needed."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        self._budgets.close()

    def lend(self, surface: str, now: datetime) -> tuple[Rules, dict[str, int]]:
        """The rules, and how many shows of each promotion a slate may use; `settle` what became of them."""
        rules = self.current  # read once: the whole slate is under these
        promotions = rules.promotions(surface, now)
        return rules, self._budgets.lend(promotions) if promotions else {}

    def settle(self, lent: Mapping[str, int], used: Mapping[str, int]) -> None:
        """Take back what a slate did not use."""
        if lent:
            self._budgets.settle(lent, used)
            if self._budgets.low(self.current.promoted):
                self._wake.set()

    def check(self) -> None:
        """Look at the files once, take or refuse what changed, and fetch shows."""
        stamp = self._files(self.current)
        if stamp != self._stamp or (self.refused and time.monotonic() >= self._retry_at):
            try:
                rules = self._read()
            except ConfigError as error:
                self._refuse(str(error))
            else:
                self._take(rules)
            self._stamp = stamp  # of before the reading: what changed meanwhile is read again
        self._tell()
        self._budgets.fetch(self.current.promoted)

    def _tell(self) -> None:
        """Write new rules to the audit log, once for all processes. Rules do not wait for it: it is tried until it is done."""
        if not self._untold or self._audit is None or self._path is None:
            return
        try:
            told = hashlib.sha256(self._path.read_bytes()).hexdigest()
            self._audit.append("rules.changed", "rules", _owner(self._path), once=True, file=str(self._path), sha256=told)
        except (ServiceUnavailable, OSError) as error:
            log.warning("rules not written to the audit log yet", extra={"reason": str(error)})
            return
        self._untold = False

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.check()
            except Exception as error:  # following never ends: the next file may be good; page and metrics show it
                log.exception("rules check failed")
                self._refuse(f"{type(error).__name__}: {error}")
            self._wake.wait(self._reload_seconds)
            self._wake.clear()

    def _read(self) -> Rules:
        assert self._path is not None
        rules = read_rules(self._path)
        require_listed(self._path, rules, self._unlisted)
        return rules

    def _unlisted(self, item_ids: Sequence[str]) -> Sequence[str]:
        try:
            return self._event_log.unlisted(item_ids) if item_ids else []
        except ServiceUnavailable as error:  # or a new shop's, whose tables are not made: rules must not wait for it
            log.warning("items of rules not looked up in the catalogue", extra={"reason": str(error)})
            return []

    def _take(self, rules: Rules) -> None:
        if rules != self.current:
            self.current, self._untold = rules, True
            log.info("rules in force", extra={"file": str(self._path)})
        self.refused = None
        self._metrics.rules_current.set(1)

    def _refuse(self, reason: str) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if reason == self.refused:
            return
        self.refused = reason
        self._metrics.rules_current.set(0)
        self._metrics.rules_refused.inc()
        log.error("rules refused", extra={"file": str(self._path), "reason": reason})

    def _files(self, rules: Rules) -> Stamp:
        """What the files looked like just now; None for one that is not there."""
        return tuple(_stamp(path) for path in (self._path, self._path and stock_file(self._path, rules)) if path)


def _owner(path: Path) -> str:
    """Who saved the file, as far as a file can tell."""
    try:
        return path.owner()
    except KeyError:  # an account that this machine does not know: a container's
        return f"uid {path.stat().st_uid}"


def _stamp(path: Path) -> tuple[str, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns
