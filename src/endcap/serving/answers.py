"""From a request to an answer, and what to do when a part is away: every degraded answer says so and is counted."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.contracts import EventType
from endcap.data.events import EventLog
from endcap.data.privacy import pseudonymise
from endcap.errors import InputError, ServiceUnavailable
from endcap.ranking.items import Filters
from endcap.ranking.placing import promotion_of
from endcap.recommender import GREEDY, Recommendation, Recommender, Request
from endcap.sections import Serving
from endcap.serving import fallback
from endcap.serving.exposure_log import ExposureLog, rows_of
from endcap.serving.fallback import Fallback
from endcap.serving.histories import what_is_known
from endcap.serving.log_watch import LogWatch
from endcap.serving.metrics import Metrics
from endcap.serving.model_store import ModelStore
from endcap.serving.plausible_time import require_plausible
from endcap.serving.policy_store import PolicyStore
from endcap.serving.rules_store import RulesStore
from endcap.serving.schemas import RecommendationAnswer, RecommendationRequest, ShownItem, ShownReason

log = logging.getLogger(__name__)
NO_MODEL = "none"  # the model version in exposures of answers that no model gave


@dataclass(frozen=True, slots=True)
class _Slate:
    shown: Sequence[Recommendation]
    policy: str  # its name
    label: str  # its name and version, as the exposure log has it
    feature_set: str | None  # of what policies learn from
    model_version: str | None
    reason: str | None  # why it is a fallback; None: it is not


class Answers:
    """Answers requests for slates. Every method blocks: call it from a thread."""

    def __init__(
        self,
        params: Serving,
        event_log: EventLog,
        watch: LogWatch,
        models: ModelStore,
        rules: RulesStore,
        policies: PolicyStore,
        popular: Fallback,
        exposures: ExposureLog,
        metrics: Metrics,
        key: bytes,
        clock_skew: timedelta,
    ) -> None:
        self._params, self._event_log, self._watch, self._models = params, event_log, watch, models
        self._rules, self._policies, self._popular, self._exposures = rules, policies, popular, exposures
        self._metrics = metrics
        self._key = key
        self._clock_skew = clock_skew  # how far ahead of this clock a request may speak

    def recommend(self, body: RecommendationRequest) -> RecommendationAnswer:
        """A slate, durable in the exposure log before it is returned, unless it is marked as a fallback.

        Raises:
            InputError: k is larger than allowed, or the moment is not plausible.
        """
        if body.k > self._params.max_k:
            action = f"Ask for at most {self._params.max_k} items (params.yaml: serving.max_k)."
            raise InputError("is too many", field="k", value=body.k, action=action)
        now = self._moment(body.context.time)
        user_id = pseudonymise(body.user_id, self._key) if body.user_id else None
        past, away = self._past(user_id, now)
        request = self._request(body, past, now)
        request_id = f"req-{uuid.uuid4().hex}"
        slate = self._under_rules(request, user_id, request_id, away)
        reason = self._expose(slate, request_id, user_id, request) or slate.reason
        self._count(slate, body.surface, reason)
        return RecommendationAnswer(
            request_id=request_id,
            model_version=slate.model_version,
            policy=slate.label,
            fallback=reason is not None,
            fallback_reason=reason,
            items=[_shown(place, body.explain) for place in slate.shown],
        )

    def _moment(self, asked: datetime | None) -> datetime:
        """The moment a request speaks of, in UTC."""
        now = datetime.now(UTC)
        if asked is None:
            return now
        require_plausible(asked, now, self._clock_skew, "context.time")
        return asked.astimezone(UTC)

    def _past(self, user_id: str | None, now: datetime) -> tuple[list[dict[str, Any]], bool]:
        """The shopper's events up to `now`, oldest first, and whether they could not be read."""
        if not self._watch.ready():
            return [], True
        if user_id is None:
            return [], False
        started = time.perf_counter()
        try:
            events = self._event_log.history(user_id, self._params.max_history, now)
        except ServiceUnavailable as error:
            self._watch.failed(error)
            return [], True
        self._metrics.history_seconds.observe(time.perf_counter() - started)
        return events, False

    def _request(self, body: RecommendationRequest, past: list[dict[str, Any]], now: datetime) -> Request:
        session = [{"item_id": e.item_id, "type": e.type.value, "time": e.time or now} for e in body.session]
        hidden = frozenset({body.context.item_id} if body.context.item_id else ())
        session += [{"item_id": item, "type": EventType.VIEW.value, "time": now} for item in hidden]
        asked = body.filters
        filters = Filters(frozenset(asked.categories), frozenset(asked.brands), asked.price_min, asked.price_max)
        history = what_is_known(past, session, now)
        return Request(history, now, body.surface.value, body.k, filters, hidden, body.diversity, body.explain)

    def _under_rules(self, request: Request, user_id: str | None, request_id: str, log_away: bool) -> _Slate:
        rules, shows = self._rules.lend(request.surface, request.now)
        used: Counter[str] = Counter()
        try:
            slate = self._choose(replace(request, rules=rules, shows=shows), user_id, request_id, log_away)
            used.update(name for place in slate.shown if (name := promotion_of(place.rule)))
        finally:
            self._rules.settle(shows, used)
        return slate

    def _choose(self, request: Request, user_id: str | None, request_id: str, log_away: bool) -> _Slate:
        served = self._models.current  # read once: the whole answer is of this model
        if served is None:
            return self._popularity(request, "no_model")
        try:
            exploring = self._policies.explore(served, request.surface, user_id or request_id, request_id)
            shown = self._timed(served.recommender, replace(request, exploration=exploring))
        except Exception:  # a model may break on one shopper; they still see a shelf, and the log has the cause
            log.exception("model failed", extra={"model_version": served.version.version})
            return self._popularity(request, "model_failed")
        policy = (GREEDY, GREEDY) if exploring is None else (exploring.policy.name, exploring.policy.label)
        feature_set = exploring.facts.feature_set if exploring and exploring.facts else None
        return _Slate(shown, *policy, feature_set, served.version.version, "event_log_away" if log_away else None)

    def _popularity(self, request: Request, reason: str) -> _Slate:
        shown = self._timed(self._popular.recommender(request.now), request)
        return _Slate(shown, fallback.POLICY, fallback.POLICY, None, None, reason)

    def _timed(self, recommender: Recommender, request: Request) -> list[Recommendation]:
        with self._metrics.score_seconds.time():
            return recommender.recommend(request)

    def _expose(self, slate: _Slate, request_id: str, user_id: str | None, request: Request) -> str | None:
        """Write what will be shown. Returns why that did not succeed, if so."""
        rows = rows_of(
            slate.shown,
            request_id=request_id,
            user_id=user_id,
            surface=request.surface,
            time=request.now,
            policy=slate.label,
            model_version=slate.model_version or NO_MODEL,
            fallback=slate.reason is not None,
            feature_set=slate.feature_set,
        )
        outcome, reason = "logged", None
        try:
            if rows and not self._watch.ready():
                outcome, reason = "lost", "event_log_away"
            else:
                self._exposures.write(rows)
        except ServiceUnavailable as error:
            self._watch.failed(error)
            outcome, reason = "lost", "event_log_away"
        except TimeoutError:
            outcome, reason = "late", "exposures_late"
        self._metrics.exposures.labels(outcome).inc(len(rows))
        return reason

    def _count(self, slate: _Slate, surface: str, reason: str | None) -> None:
        marked = "true" if reason else "false"
        self._metrics.recommendations.labels(slate.policy, slate.model_version or NO_MODEL, surface, marked).inc()
        if reason:
            self._metrics.fallbacks.labels(reason).inc()


def _shown(place: Recommendation, explained: bool) -> ShownItem:
    reasons = [ShownReason(kind=r.kind, text=r.text, item_id=r.item_id) for r in place.reasons] if explained else None
    return ShownItem(item_id=place.item_id, rank=place.rank, score=place.score, propensity=place.propensity, reasons=reasons)
