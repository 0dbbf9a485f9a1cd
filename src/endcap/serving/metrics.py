"""Every metric the service emits. docs/metrics.md has a row for each: meaning, unit, what to do when it is bad."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_CORRELATIONS = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Metrics:
    """One set for each service, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("endcap_requests", "HTTP requests.", "route", "method", "status")
        self.request_seconds = self._histogram("endcap_request_seconds", "Seconds from request to answer.", "route")
        self.recommendations = self._counter(
            "endcap_recommendations", "Slates answered.", "policy", "model_version", "surface", "fallback"
        )
        self.fallbacks = self._counter("endcap_fallbacks", "Slates that were worse than they should be.", "reason")
        self.score_seconds = self._histogram("endcap_score_seconds", "Seconds to choose one slate, without the event log.")
        self.history_seconds = self._histogram("endcap_history_seconds", "Seconds to read one history from the event log.")
        self.exposures = self._counter("endcap_exposures", "Shown items by what became of their log row.", "outcome")
        self.events = self._counter("endcap_events", "Events received.", "outcome")
        self.model = self._gauge(
            "endcap_model_info", "1 for the version that serves.", "model_version", "dataset_version", "kind"
        )
        self.model_reloads = self._counter("endcap_model_reloads", "Champions taken.")
        self.model_refused = self._counter("endcap_model_refused", "Champions refused, once a version and cause.", "cause")
        self.registry_up = self._gauge("endcap_registry_up", "1 when the model registry answered last time.")
        self.rules_current = self._gauge("endcap_rules_current", "1 when the rules in force are those of the file.")
        self.rules_refused = self._counter("endcap_rules_refused", "Rules refused at a reload, once a reason.")
        self.promotion_shows = self._counter("endcap_promotion_shows", "Places that a promotion took.", "promotion")
        self.policy_state_current = self._gauge(
            "endcap_policy_state_current", "1 when the newest state of what policies learnt is in force."
        )
        self.policy_state_refused = self._counter("endcap_policy_state_refused", "States of policies refused, once a reason.")
        self.key_refusals = self._counter("endcap_key_refusals", "Calls without a key that may do this.", "reason")
        self.keys_current = self._gauge("endcap_keys_current", "1 when the API keys in force are those of the table.")
        self.rate_refusals = self._counter("endcap_rate_refusals", "Calls that came too often.", "role")
        self.rate_store_up = self._gauge("endcap_rate_store_up", "1 when Redis counted the last call, or none is set.")
        self.rate_fallbacks = self._counter("endcap_rate_fallbacks", "Calls counted here because Redis was away.")
        self.shed = self._counter("endcap_shed", "Calls given up to keep others in time.", "work", "reason")
        self.waiting = self._gauge("endcap_waiting", "Calls that wait for a thread.", "work")
        self.canary = self._gauge("endcap_canary_info", "1 for the candidate held.", "model_version", "canary", "step")
        self.canary_share = self._gauge("endcap_canary_share", "Share of shoppers that the candidate answers.")
        self.canary_looked = self._gauge("endcap_canary_looked_timestamp_seconds", "When its evidence was last looked at.")
        self.canary_requests = self._counter(
            "endcap_canary_requests", "Slates during a canary, by the arm they were meant for.", "arm", "outcome"
        )
        self.canary_seconds = self._histogram("endcap_canary_seconds", "Seconds to a slate during a canary.", "arm")
        self.canary_refused = self._counter("endcap_canary_refused", "Candidates refused, once a version and cause.", "cause")
        self.shadows = self._counter("endcap_shadow_requests", "Requests offered to a candidate in the shadow.", "outcome")
        self.shadow_seconds = self._histogram("endcap_shadow_seconds", "Seconds of a candidate in the shadow to a slate.")
        self.shadow_overlap = self._histogram(
            "endcap_shadow_overlap", "Share of what was shown that the shadow would show.", buckets=_SHARES
        )
        self.shadow_correlation = self._histogram(
            "endcap_shadow_rank_correlation", "Kendall's tau of the two slates' common items.", buckets=_CORRELATIONS
        )
        self.event_log_up = self._gauge("endcap_event_log_up", "1 when the event log answered last time.")

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def names(self) -> set[str]:
        """The names as Prometheus shows them, e.g. endcap_events_total."""
        suffix = {"counter": "_total"}
        return {family.name + suffix.get(family.type, "") for family in self.registry.collect()}

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of every sample whose name begins so, since the process started."""
        families = self.registry.collect()
        return [(s.labels, s.value) for family in families for s in family.samples if s.name.startswith(name)]

    def latency(self, route: str, shares: Sequence[float]) -> list[float]:
        """Seconds within which these shares of a route's requests were answered, as its buckets tell; NaN: no request."""
        found = self.samples("endcap_request_seconds_bucket")
        buckets = sorted((float(labels["le"]), count) for labels, count in found if labels["route"] == route)
        return [quantile(buckets, share) for share in shares]

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = _LATENCY_SECONDS) -> Histogram:
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """As Prometheus' histogram_quantile: linear inside a bucket of (upper end, cumulative count); the last end is infinite.

    NaN without observations; beyond the last finite end that end, as nothing more is known.

    >>> quantile([(0.1, 2), (0.2, 4), (float("inf"), 4)], 0.75)
    0.15
    """
    if not buckets or not (total := buckets[-1][1]):
        return math.nan
    begin, before = 0.0, 0.0
    for end, count in buckets:
        if count >= share * total and count > before:
            return begin if math.isinf(end) else round(begin + (end - begin) * (share * total - before) / (count - before), 6)
        begin, before = end, count
    return begin
