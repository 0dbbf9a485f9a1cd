"""From a request to an answer, and what to do when a part is away: every degraded answer says so and is counted."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.contracts import EventType
from endcap.data.canary_log import CANDIDATE_ARM
from endcap.data.events import EventLog
from endcap.data.privacy import pseudonymise
from endcap.errors import InputError, ServiceUnavailable
from endcap.ranking.items import Filters
from endcap.ranking.placing import promotion_of
from endcap.recommender import GREEDY, Recommendation, Recommender, Request
from endcap.sections import Serving
from endcap.serving import fallback
from endcap.serving.candidate_store import CandidateStore, Seat
from endcap.serving.exposure_log import ExposureLog, rows_of
from endcap.serving.fallback import Fallback
from endcap.serving.histories import what_is_known
from endcap.serving.log_watch import LogWatch
from endcap.serving.metrics import Metrics
from endcap.serving.model_store import ModelStore, Served
from endcap.serving.plausible_time import require_plausible
from endcap.serving.policy_store import Answering, PolicyStore
from endcap.serving.rules_store import RulesStore
from endcap.serving.schemas import RecommendationAnswer, RecommendationRequest, ShownItem, ShownReason
from endcap.serving.shadow import Asked, Shadow

log = logging.getLogger(__name__)
FAILED = ("model_failed", "candidate_failed")  # reasons that count as errors of the request's arm
NO_MODEL = "none"  # the model version in exposures of answers that no model gave


@dataclass(frozen=True, slots=True)
class _Slate:
    shown: Sequence[Recommendation]
    policy: str  # its name
    label: str  # its name and version, as the exposure log has it
    feature_set: str | None  # of what policies learn from
    model_version: str | None
    reason: str | None  # why it is a fallback; None: it is not
    seconds: float  # to choose it


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Request
    who: str  # a pseudonym, or the request's id: whom policies are shared out by
    request_id: str
    log_away: bool


class Answers:
    """Answers requests for slates. Every method blocks: call it from a thread."""

    def __init__(
        self,
        params: Serving,
        event_log: EventLog,
        watch: LogWatch,
        models: ModelStore,
        candidates: CandidateStore,
        shadow: Shadow,
        rules: RulesStore,
        policies: PolicyStore,
        popular: Fallback,
        exposures: ExposureLog,
        metrics: Metrics,
        key: bytes,
        clock_skew: timedelta,
    ) -> None:
        self._params, self._event_log, self._watch, self._models = params, event_log, watch, models
        self._candidates, self._shadow = candidates, shadow
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
        started = time.perf_counter()
        now = self._moment(body.context.time)
        user_id = pseudonymise(body.user_id, self._key) if body.user_id else None
        past, away = self._past(user_id, now)
        request = self._request(body, past, now)
        request_id = f"req-{uuid.uuid4().hex}"
        champion = self._models.current  # read once: the whole answer is of this model
        seat = self._candidates.seat(user_id, request_id, _version_of(champion))
        asked, slate = self._under_rules(_Asked(request, user_id or request_id, request_id, away), champion, seat)
        arms = self._arms(seat, slate, request_id, now, time.perf_counter() - started)
        reason = self._expose(slate, request_id, user_id, asked.request, arms) or slate.reason
        self._count(slate, body.surface, reason)
        self._cast_shadow(champion, slate, asked)
        return RecommendationAnswer(
            request_id=request_id,
            model_version=slate.model_version,
            arm=seat.arm if seat else None,
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

    def _under_rules(self, asked: _Asked, champion: Served | None, seat: Seat | None) -> tuple[_Asked, _Slate]:
        """The slate, and what was asked as it stood under the rules of the shelf."""
        rules, shows = self._rules.lend(asked.request.surface, asked.request.now)
        asked, used = replace(asked, request=replace(asked.request, rules=rules, shows=shows)), Counter[str]()
        try:
            slate = self._of_candidate(asked, champion, seat) or self._choose(asked, champion)
            used.update(name for place in slate.shown if (name := promotion_of(place.rule)))
        finally:
            self._rules.settle(shows, used)
        return asked, slate

    def _of_candidate(self, asked: _Asked, champion: Served | None, seat: Seat | None) -> _Slate | None:
        """What the candidate answers, where the request is its own; None: it is the champion's.

        A candidate must not hurt a shopper: where it fails or has nothing to show the champion answers in its place.
        """
        if seat is None or seat.arm != CANDIDATE_ARM:
            return None
        try:
            slate = self._of_model(asked, seat.candidate)
        except Exception:  # as with a champion; the log has the cause
            log.exception("candidate failed", extra={"model_version": seat.candidate.version.version})
            instead = self._choose(asked, champion)
            return replace(instead, reason=instead.reason if instead.reason in FAILED else "candidate_failed")
        if slate.shown:
            return slate
        instead = self._choose(asked, champion)
        if not instead.shown:
            return slate  # nothing may be shown at all
        return replace(instead, reason=instead.reason if instead.reason in FAILED else "candidate_empty")

    def _choose(self, asked: _Asked, champion: Served | None) -> _Slate:
        if champion is None:
            return self._popularity(asked.request, "no_model")
        try:
            return self._of_model(asked, champion)
        except Exception:  # a model may break on one shopper; they still see a shelf, and the log has the cause
            log.exception("model failed", extra={"model_version": champion.version.version})
            return self._popularity(asked.request, "model_failed")

    def _of_model(self, asked: _Asked, answering: Answering) -> _Slate:
        """What a model answers, its places filled by the policy that the shopper meets. Raises whatever the model does."""
        started, request = time.perf_counter(), asked.request
        exploring = self._policies.explore(answering, request.surface, asked.who, asked.request_id)
        shown = self._timed(answering.recommender, replace(request, exploration=exploring))
        policy = (GREEDY, GREEDY) if exploring is None else (exploring.policy.name, exploring.policy.label)
        feature_set = exploring.facts.feature_set if exploring and exploring.facts else None
        reason = "event_log_away" if asked.log_away else None
        seconds = time.perf_counter() - started
        return _Slate(shown, *policy, feature_set, answering.version.version, reason, seconds)

    def _popularity(self, request: Request, reason: str) -> _Slate:
        started = time.perf_counter()
        shown = self._timed(self._popular.recommender(request.now), request)
        return _Slate(shown, fallback.POLICY, fallback.POLICY, None, None, reason, time.perf_counter() - started)

    def _arms(
        self, seat: Seat | None, slate: _Slate, request_id: str, moment: datetime, seconds: float
    ) -> list[Mapping[str, Any]]:
        """What a canary keeps of this request, counted for the arm that it was meant for."""
        if seat is None:
            return []
        error, marked = slate.reason in FAILED, slate.reason is not None
        outcome = "error" if error else "fallback" if marked else "answered"
        self._metrics.canary_requests.labels(seat.arm, outcome).inc()
        self._metrics.canary_seconds.labels(seat.arm).observe(seconds)
        return [seat.row(request_id, moment, 1000 * seconds, error=error, fallback=marked)]

    def _cast_shadow(self, champion: Served | None, slate: _Slate, asked: _Asked) -> None:
        """Have a candidate in the shadow answer what the champion has answered, later and elsewhere."""
        candidate = self._candidates.shadowed(asked.request_id, _version_of(champion))
        if slate.reason is not None or candidate is None:
            return
        shown = [place.item_id for place in slate.shown]
        self._shadow.offer(Asked(candidate, asked.request_id, asked.who, asked.request, shown, 1000 * slate.seconds))

    def _timed(self, recommender: Recommender, request: Request) -> list[Recommendation]:
        with self._metrics.score_seconds.time():
            return recommender.recommend(request)

    def _expose(
        self, slate: _Slate, request_id: str, user_id: str | None, request: Request, arms: Sequence[Mapping[str, Any]]
    ) -> str | None:
        """Write what will be shown, and to which arm of a canary. Returns why that did not succeed, if so."""
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
            if (rows or arms) and not self._watch.ready():
                outcome, reason = "lost", "event_log_away"
            else:
                self._exposures.write(rows, arms)
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


def _version_of(champion: Served | None) -> str | None:
    return champion.version.version if champion else None


def _shown(place: Recommendation, explained: bool) -> ShownItem:
    reasons = [ShownReason(kind=r.kind, text=r.text, item_id=r.item_id) for r in place.reasons] if explained else None
    return ShownItem(item_id=place.item_id, rank=place.rank, score=place.score, propensity=place.propensity, reasons=reasons)
