"""The parts of one service process, made and ended together, and the way from the event loop to the threads that work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from endcap.config import Params, Settings
from endcap.data.canary_log import CanaryLog
from endcap.data.events import EventLog
from endcap.data.privacy import pseudonym_key
from endcap.errors import ServiceUnavailable
from endcap.release.audit import AuditLog
from endcap.release.registry import Registry
from endcap.release.signing import Keys
from endcap.serving.answers import Answers
from endcap.serving.api_keys import ApiKeys
from endcap.serving.canary_shown import CanaryShown, canary_shown
from endcap.serving.candidate_store import CanarySource, CandidateStore
from endcap.serving.event_intake import Door
from endcap.serving.exposure_log import ExposureLog, Rows
from endcap.serving.fallback import Fallback
from endcap.serving.key_ring import SNAPSHOT, KeyRing
from endcap.serving.loading import Load
from endcap.serving.log_watch import LogWatch
from endcap.serving.metrics import Metrics
from endcap.serving.model_store import ChampionSource, ModelStore
from endcap.serving.online_figures import OnlineFigures
from endcap.serving.operator_page import OperatorPage
from endcap.serving.policy_store import PolicyStore
from endcap.serving.promotion_budgets import PromotionBudgets
from endcap.serving.rates import Counter
from endcap.serving.rules_store import RulesStore
from endcap.serving.schemas import EventsAnswer, Readiness, RecommendationAnswer, RecommendationRequest
from endcap.serving.shadow import Shadow
from endcap.serving.storefront import Storefront
from endcap.serving.workers import Workers

Seen = TypeVar("Seen")
log = logging.getLogger(__name__)
_SLATES_AT_ONCE = 6  # threads; a model computes on one core, the others wait for the disk
_CALLS_AT_ONCE = 4  # threads that check and store events; below the connections an event log keeps open
_LOOKS_AT_ONCE = 2  # threads for the pages of people: shoppers do not wait behind them
_LOOKS = 32  # that wait, and calls of metrics and health, which need no such thread


class Source(ChampionSource, CanarySource, Protocol):
    """Where models come from: `release.registry.Registry`."""


class Service:
    """Everything that answers needs. `start` before the first request, `stop` after the last.

    Making one raises ConfigError when the rules of the shelf cannot be used: without them a shop might show what it must not.
    """

    def __init__(
        self,
        settings: Settings,
        params: Params,
        source: Source | None = None,
        load: Load | None = None,
    ) -> None:
        self.settings, serving = settings, params.serving
        self.deadline_seconds = serving.deadline_seconds
        self.most_calls = 2 * serving.max_waiting + _SLATES_AT_ONCE + _CALLS_AT_ONCE + _LOOKS_AT_ONCE + _LOOKS
        home = settings.paths
        key = pseudonym_key(settings.pseudonym_key, home.secrets)
        keys = Keys.load(home.secrets)
        self.metrics = Metrics()
        self._event_log = EventLog(settings.event_log_url)
        self._watch = LogWatch(self._event_log, self.metrics)
        self._writing = threading.Lock()  # SQLite lets one write at a time, and its own queue is a poll
        self._exposures = ExposureLog(self._append_exposures)
        self._source: Source = source or Registry(settings.mlflow_url)
        self.models = ModelStore(
            self._source,
            keys,
            home.models,
            self.metrics,
            repeat_surfaces=serving.repeat_surfaces,
            reload_seconds=serving.reload_seconds,
            load=load,
        )
        self._canary_log = CanaryLog(settings.event_log_url)
        self.candidates = CandidateStore(
            self._source,
            keys,
            home.models,
            self.metrics,
            repeat_surfaces=serving.repeat_surfaces,
            reload_seconds=serving.reload_seconds,
            load=load,
        )
        self.shadow = Shadow(self._append_shadows, self.metrics)
        budgets = PromotionBudgets(self._event_log, self._watch, self._writing, self.metrics)
        self.policies = PolicyStore(params.policies, home.policies, self.metrics, serving.reload_seconds)
        audit = AuditLog(settings.event_log_url, keys)
        self._rules = RulesStore(settings.rules, self._event_log, budgets, self.metrics, serving.reload_seconds, audit)
        self._popular = Fallback(self._event_log, params.recent_days, serving.repeat_surfaces)
        skew = timedelta(minutes=params.ingest.clock_skew_minutes)
        self._answers = Answers(
            serving,
            self._event_log,
            self._watch,
            self.models,
            self.candidates,
            self.shadow,
            self._rules,
            self.policies,
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
        table, snapshot = ApiKeys(settings.event_log_url, key, audit), home.secrets / SNAPSHOT
        self.keys = KeyRing(settings.api_keys, table, key, snapshot, self.metrics, serving.reload_seconds)
        self.rates = Counter(serving.rates, settings.redis_url, self.metrics)
        self._slates = Workers("slates", _SLATES_AT_ONCE, serving.max_waiting, self.metrics)
        self._calls = Workers("events", _CALLS_AT_ONCE, serving.max_waiting, self.metrics)
        self._looks = Workers("pages", _LOOKS_AT_ONCE, _LOOKS, self.metrics)

    def start(self) -> None:
        """Open the event log, take the last good model, follow registry, rules and states. It answers even if none works."""
        if not self._watch.ready():
            log.error("event log away at start", extra={"address": self._event_log.address})
        self.keys.start()
        self.models.start()
        self.candidates.start()
        self.shadow.start()
        self._rules.start()
        self.policies.start()

    def stop(self) -> None:
        """Stop following, write the exposures that wait, give back the shows that were not needed."""
        self._slates.close()
        self._calls.close()
        self._looks.close()
        self.models.stop()
        self.candidates.stop()
        self.shadow.stop()
        self._rules.stop()
        self.policies.stop()
        self.keys.stop()
        self._exposures.close()
        self._event_log.close()
        self._canary_log.close()

    async def recommend(self, body: RecommendationRequest) -> RecommendationAnswer:
        """A slate.

        Raises:
            InputError: k is too large, or the moment is not plausible.
            Overloaded: too many calls wait.
        """
        return await self._slates.run(self._answers.recommend, body)

    async def related(self, item_id: str, body: RecommendationRequest) -> RecommendationAnswer | None:
        """A slate beside an item; None when nobody knows the item. Raises as `recommend`."""
        return await self._slates.run(lambda: self._answers.recommend(body) if self._knows(item_id) else None)

    async def take(self, body: bytes, media_type: str) -> EventsAnswer:
        """Check and store events.

        Raises:
            InputError: the body cannot be read as events.
            ServiceUnavailable: the event log is away, or (Overloaded) too many calls wait; nothing was stored.
        """
        return await self._calls.run(self._take, body, media_type)

    async def look(self, see: Callable[[], Seen]) -> Seen:
        """What a page for people shows, read in a thread that no shopper waits for."""
        return await self._looks.run(see)

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

    def _append_exposures(self, rows: Rows, arms: Rows) -> None:
        with self._writing:
            self._event_log.append_exposures(rows, arms)

    def _append_shadows(self, rows: Rows) -> None:
        self._watch.require()
        with self._writing:
            self._canary_log.append_shadows(rows)

    def _knows(self, item_id: str) -> bool:
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
        degraded += [f"state of policies refused, the last good one stays: {reason}" for reason in self.policies.refused]
        if self.rates.away:
            degraded.append("Redis away: each process counts callers' rates alone")
        if not self.keys.current:
            degraded.append("API keys cannot be read: those known before stay in force")
        if self.settings.api_keys == "off":
            degraded.append("API keys are off: whoever reaches this service may use all of it")
        canary = self.canary()
        degraded += canary.degraded
        return Readiness(
            ready=event_log,
            model_version=state.model_version,
            event_log=event_log,
            canary=canary.summary if canary.open else None,
            degraded=degraded,
        )

    def canary(self) -> CanaryShown:
        """The canary that is open or was last, as the page and /v1/canary show it."""
        candidates = self.candidates
        served = self.models.current
        return canary_shown(candidates, served.version.version if served else None, datetime.now(UTC))
