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
from endcap.serving.rules_store import RulesStore
from endcap.serving.schemas import RecommendationAnswer, RecommendationRequest, ShownItem, ShownReason
from endcap.serving.shadow import Asked, Shadow

log = logging.getLogger(__name__)
FAILED = ("model_failed", "candidate_failed")  # reasons that count as errors of the request's arm
NO_MODEL = "none"  # the model version in exposures of answers that no model gave


@dataclass(frozen=True, slots=True)
class _Slate:
    shown: Sequence[Recommendation]
    policy: str
    model_version: str | None
    reason: str | None  # why it is a fallback; None: it is not
    seconds: float  # to choose it


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
        popular: Fallback,
        exposures: ExposureLog,
        metrics: Metrics,
        key: bytes,
        clock_skew: timedelta,
    ) -> None:
        self._params, self._event_log, self._watch, self._models = params, event_log, watch, models
        self._candidates, self._shadow = candidates, shadow
        self._rules, self._popular, self._exposures, self._metrics = rules, popular, exposures, metrics
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
        request, slate = self._under_rules(request, away, champion, seat)
        arms = self._arms(seat, slate, request_id, now, time.perf_counter() - started)
        reason = self._expose(slate, request_id, user_id, request, arms) or slate.reason
        self._count(slate, body.surface, reason)
        self._cast_shadow(champion, slate, request_id, user_id, request)
        return RecommendationAnswer(
            request_id=request_id,
            model_version=slate.model_version,
            arm=seat.arm if seat else None,
            policy=slate.policy,
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

    def _under_rules(
        self, request: Request, log_away: bool, champion: Served | None, seat: Seat | None
    ) -> tuple[Request, _Slate]:
        """The slate, and the request as it stood under the rules of the shelf."""
        rules, shows = self._rules.lend(request.surface, request.now)
        request, used = replace(request, rules=rules, shows=shows), Counter[str]()
        try:
            slate = self._of_candidate(request, log_away, champion, seat) or self._choose(request, log_away, champion)
            used.update(name for place in slate.shown if (name := promotion_of(place.rule)))
        finally:
            self._rules.settle(shows, used)
        return request, slate

    def _of_candidate(self, request: Request, log_away: bool, champion: Served | None, seat: Seat | None) -> _Slate | None:
        """What the candidate answers, where the request is its own; None: it is the champion's.

        A candidate must not hurt a shopper: where it fails or has nothing to show the champion answers in its place.
        """
        if seat is None or seat.arm != CANDIDATE_ARM:
            return None
        started = time.perf_counter()
        version, reason = seat.candidate.version.version, "candidate_empty"
        try:
            shown = self._timed(seat.candidate.recommender, request)
        except Exception:  # as with a champion; the log has the cause
            log.exception("candidate failed", extra={"model_version": version})
            shown, reason = [], "candidate_failed"
        seconds = time.perf_counter() - started
        if shown:
            return _Slate(shown, GREEDY, version, "event_log_away" if log_away else None, seconds)
        instead = self._choose(request, log_away, champion)
        if reason == "candidate_empty" and not instead.shown:
            return _Slate([], GREEDY, version, "event_log_away" if log_away else None, seconds)  # nothing may be shown at all
        return replace(instead, reason=instead.reason if instead.reason in FAILED else reason)

    def _choose(self, request: Request, log_away: bool, champion: Served | None) -> _Slate:
        started = time.perf_counter()
        if champion is not None:
            try:
                shown = self._timed(champion.recommender, request)
            except Exception:  # a model may break on one shopper; they still see a shelf, and the log has the cause
                log.exception("model failed", extra={"model_version": champion.version.version})
                return self._popularity(request, "model_failed")
            seconds = time.perf_counter() - started
            return _Slate(shown, GREEDY, champion.version.version, "event_log_away" if log_away else None, seconds)
        return self._popularity(request, "no_model")

    def _popularity(self, request: Request, reason: str) -> _Slate:
        started = time.perf_counter()
        shown = self._timed(self._popular.recommender(request.now), request)
        return _Slate(shown, fallback.POLICY, None, reason, time.perf_counter() - started)

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

    def _cast_shadow(
        self, champion: Served | None, slate: _Slate, request_id: str, user_id: str | None, request: Request
    ) -> None:
        """Have a candidate in the shadow answer what the champion has answered, later and elsewhere."""
        if slate.reason is not None or (candidate := self._candidates.shadowed(request_id, _version_of(champion))) is None:
            return
        shown = [place.item_id for place in slate.shown]
        self._shadow.offer(Asked(candidate, request_id, user_id or request_id, request, shown, 1000 * slate.seconds))

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
            policy=slate.policy,
            model_version=slate.model_version or NO_MODEL,
            fallback=slate.reason is not None,
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
