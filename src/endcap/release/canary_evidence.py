"""What a canary's requests say, as the sums that its decision takes: the log's rows in, a look out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from endcap.data.canary_log import CANDIDATE_ARM, CHAMPION_ARM
from endcap.evaluation.sequential import Tally
from endcap.release.canary import Arms, Decision, decide, decide_shadow
from endcap.release.canary_state import SHADOW, ArmSeen, CanaryState, GuardSeen, Look, ShadowSeen
from endcap.training.outcomes import settle

if TYPE_CHECKING:
    from endcap.data.canary_log import CanaryLog

_ACTED = {"clicks": "clicked", "purchases": "purchased"}


@dataclass(frozen=True, slots=True)
class _Step:
    """A step's requests: arm, shopper, latency_ms, error, fallback, settled, clicked, purchased."""

    requests: pd.DataFrame

    def tally(self, metric: str, arm: str, ceiling: float) -> Tally:
        rows = self.requests[self.requests["arm"] == arm]
        if metric in _ACTED:
            rows = rows[rows["settled"]]
        column = {"errors": "error", "fallbacks": "fallback", **_ACTED}.get(metric, metric)
        return Tally.of(rows[column].to_numpy(np.float64), rows["shopper"].to_numpy(str), ceiling)

    def seen(self, arm: str) -> ArmSeen:
        rows = self.requests[self.requests["arm"] == arm]
        return ArmSeen(
            requests=len(rows),
            shoppers=int(rows["shopper"].nunique()),
            settled=int(rows["settled"].sum()),
            clicks=int(rows["clicked"].sum()),
            purchases=int(rows["purchased"].sum()),
            latency_ms=round(float(rows["latency_ms"].mean()), 3) if len(rows) else None,
            errors=int(rows["error"].sum()),
            fallbacks=int(rows["fallback"].sum()),
        )


def look(state: CanaryState, log: CanaryLog, attribution: timedelta, now: datetime) -> Look:
    """Look once at a running canary. Changes nothing.

    Hours of a step count what is settled: a whole day means a day of shoppers whose time to act is over.
    """
    hours = max((now - state.since) / timedelta(hours=1), 0.0)
    if state.step == SHADOW:
        return _look_at_shadow(state, log, hours, now)
    step = _Step(read_step(state, log, attribution, now))
    guards = state.settings.guards
    metrics = {
        metric: Arms(step.tally(metric, CANDIDATE_ARM, guard.ceiling), step.tally(metric, CHAMPION_ARM, guard.ceiling))
        for metric, guard in guards.items()
    }
    if _ACTED.keys() & guards.keys():
        hours = max(hours - attribution / timedelta(hours=1), 0.0)
    decision = decide(state.settings, state.step, hours, {str(metric): arms for metric, arms in metrics.items()})
    return _told(state, decision, now, candidate=step.seen(CANDIDATE_ARM), champion=step.seen(CHAMPION_ARM))


def read_step(state: CanaryState, log: CanaryLog, attribution: timedelta, now: datetime) -> pd.DataFrame:
    """The requests of the present step with settled, clicked and purchased; unsettled ones have led to nothing yet."""
    requests = log.requests(state.canary_id, state.step)
    acted = log.acted(state.canary_id, state.step, attribution, now)
    outcome = settle(acted.exposures, acted.events, attribution, now).groupby("request_id")[list(_ACTED.values())].any()
    latest = requests[["time", "answered_at"]].max(axis=1)
    settled = latest + attribution <= pd.Timestamp(now)
    found = outcome.reindex(requests["request_id"])
    acts = {name: settled.to_numpy(bool) & (found[name].to_numpy() == True) for name in _ACTED.values()}  # noqa: E712 - NaN
    return requests.assign(settled=settled.to_numpy(bool), **acts)


def _look_at_shadow(state: CanaryState, log: CanaryLog, hours: float, now: datetime) -> Look:
    rows = log.shadows(state.canary_id)
    shoppers = rows["shopper"].to_numpy(str)
    errors = Arms(Tally.of(rows["error"].to_numpy(np.float64), shoppers, 1.0), Tally.of(np.zeros(len(rows)), shoppers, 1.0))
    decision = decide_shadow(state.settings, hours, len(rows), errors)
    if decision.action == "advance" and state.shadow_only:
        why = ("it stays in the shadow until somebody stops it", *decision.reasons)
        decision = Decision("wait", 0.0, why, decision.readings)
    means = {
        name: round(float(rows[name].astype(float).mean()), 4) if rows[name].notna().any() else None
        for name in ("overlap", "rank_correlation", "candidate_ms", "champion_ms")
    }
    return _told(state, decision, now, shadow=ShadowSeen(compared=len(rows), errors=int(rows["error"].sum()), **means))


def _told(
    state: CanaryState,
    decision: Decision,
    now: datetime,
    candidate: ArmSeen = ArmSeen(),  # noqa: B008 - frozen
    champion: ArmSeen = ArmSeen(),  # noqa: B008
    shadow: ShadowSeen | None = None,
) -> Look:
    return Look(
        at=now,
        step=state.step,
        action=decision.action,
        share=decision.share,
        reasons=decision.reasons,
        overdue=decision.overdue,
        guards=tuple(GuardSeen.of(reading) for reading in decision.readings),
        candidate=candidate,
        champion=champion,
        shadow=shadow,
    )
