"""The parts of one service process, made and ended together, and the way from the event loop to the threads that work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread

from endcap.config import Params, Settings
from endcap.data.events import EventLog
from endcap.data.privacy import pseudonym_key
from endcap.errors import ServiceUnavailable
from endcap.recommender import Model
from endcap.release.registry import Registry
from endcap.release.signing import Keys
from endcap.serving.answers import Answers
from endcap.serving.event_intake import Door
from endcap.serving.exposure_log import ExposureLog, Rows
from endcap.serving.fallback import Fallback
from endcap.serving.log_watch import LogWatch
from endcap.serving.metrics import Metrics
from endcap.serving.model_store import ChampionSource, ModelStore
from endcap.serving.online_figures import OnlineFigures
from endcap.serving.operator_page import OperatorPage
from endcap.serving.promotion_budgets import PromotionBudgets
from endcap.serving.rules_store import RulesStore
from endcap.serving.schemas import EventsAnswer, Readiness, RecommendationAnswer, RecommendationRequest
from endcap.serving.storefront import Storefront

Seen = TypeVar("Seen")
log = logging.getLogger(__name__)
_SLATES_AT_ONCE = 6  # threads; a model computes on one core, the others wait for the disk
_CALLS_AT_ONCE = 4  # threads that check and store events; below the connections an event log keeps open
_LOOKS_AT_ONCE = 2  # threads for the pages of people: shoppers do not wait behind them


class Service:
    """Everything that answers needs. `start` before the first request, `stop` after the last.

    Making one raises ConfigError when the rules of the shelf cannot be used: without them a shop might show what it must not.
    """

    def __init__(
        self,
        settings: Settings,
        params: Params,
        source: ChampionSource | None = None,
        load: Callable[[Path], Model] | None = None,
    ) -> None:
        self.settings, serving = settings, params.serving
        home = settings.paths
        key = pseudonym_key(settings.pseudonym_key, home.secrets)
        self.metrics = Metrics()
        self._event_log = EventLog(settings.event_log_url)
        self._watch = LogWatch(self._event_log, self.metrics)
        self._writing = threading.Lock()  # SQLite lets one write at a time, and its own queue is a poll
        self._exposures = ExposureLog(self._append_exposures)
        self.models = ModelStore(
            source or Registry(settings.mlflow_url),
            Keys.load(home.secrets),
            home.models,
            self.metrics,
            repeat_surfaces=serving.repeat_surfaces,
            reload_seconds=serving.reload_seconds,
            load=load,
        )
        budgets = PromotionBudgets(self._event_log, self._watch, self._writing, self.metrics)
        self._rules = RulesStore(settings.rules, self._event_log, budgets, self.metrics, serving.reload_seconds)
        self._popular = Fallback(self._event_log, params.recent_days, serving.repeat_surfaces)
        skew = timedelta(minutes=params.ingest.clock_skew_minutes)
        self._answers = Answers(
            serving,
            self._event_log,
            self._watch,
            self.models,
            self._rules,
            self._popular,
            self._exposures,
            self.metrics,
            key,
            skew,
        )
        self.storefront = Storefront(settings, self._event_log, self._watch, self.models, self._popular, key)
        figures = OnlineFigures(self._event_log, self._watch, timedelta(hours=params.monitoring.attribution_hours))
        self.operator = OperatorPage(settings, figures, self.metrics, self.models, self._rules)
        self._door = Door(key, params.ingest.max_price, skew)
        self._slates = anyio.CapacityLimiter(_SLATES_AT_ONCE)
        self._calls = anyio.CapacityLimiter(_CALLS_AT_ONCE)
        self._looks = anyio.CapacityLimiter(_LOOKS_AT_ONCE)

    def start(self) -> None:
        """Open the event log, take the last good model, follow registry and rules. The process answers even if none works."""
        if not self._watch.ready():
            log.error("event log away at start", extra={"address": self._event_log.address})
        self.models.start()
        self._rules.start()

    def stop(self) -> None:
        """Stop following, write the exposures that wait, give back the shows that were not needed."""
        self.models.stop()
        self._rules.stop()
        self._exposures.close()
        self._event_log.close()

    async def recommend(self, body: RecommendationRequest) -> RecommendationAnswer:
        """A slate. Raises InputError on a k that is too large or a moment that is not plausible."""
        return await to_thread.run_sync(self._answers.recommend, body, limiter=self._slates)

    async def take(self, body: bytes, media_type: str) -> EventsAnswer:
        """Check and store events.

        Raises:
            InputError: the body cannot be read as events.
            ServiceUnavailable: the event log is away; nothing was stored.
        """
        return await to_thread.run_sync(self._take, body, media_type, limiter=self._calls)

    async def look(self, see: Callable[[], Seen]) -> Seen:
        """What a page for people shows, read in a thread that no shopper waits for."""
        return await to_thread.run_sync(see, limiter=self._looks)

    def _take(self, body: bytes, media_type: str) -> EventsAnswer:
        intake = self._door.check(body, media_type, datetime.now(UTC))
        self._watch.require()
        try:
            with self._writing:
                appended = self._event_log.append(intake.events)
        except ServiceUnavailable as error:
            self._watch.failed(error)
            raise
        for outcome, count in (
            ("accepted", appended.accepted),
            ("duplicate", appended.duplicates),
            ("rejected", len(intake.rejected)),
        ):
            self.metrics.events.labels(outcome).inc(count)
        return EventsAnswer(accepted=appended.accepted, duplicates=appended.duplicates, rejected=intake.rejected)

    def _append_exposures(self, rows: Rows) -> None:
        with self._writing:
            self._event_log.append_exposures(rows)

    def knows(self, item_id: str) -> bool:
        """Whether the serving model (or, without one, the fallback) can show this item."""
        served = self.models.current
        recommender = served.recommender if served else self._popular.recommender(datetime.now(UTC))
        return item_id in recommender.items.index

    def readiness(self) -> Readiness:
        """What can be done now."""
        state, event_log = self.models.state(), self._watch.ready()
        degraded = [] if event_log else ["event log away: no events are stored, slates know no history"]
        if state.model_version is None:
            degraded.append("no model serves: slates are what sold most")
        if not state.registry_up:
            degraded.append("registry away: no new champion can be seen")
        if state.refused:
            degraded.append(f"champion {state.refused.model_version} refused: {state.refused.reason}")
        if self._rules.refused:
            degraded.append(f"rules refused, the last good ones stay: {self._rules.refused}")
        return Readiness(ready=event_log, model_version=state.model_version, event_log=event_log, degraded=degraded)
