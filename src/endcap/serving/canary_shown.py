"""What is told of the canary, by /v1/canary, the page and readiness: from its record and from this process."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from endcap.release.canary_state import ArmSeen, CanaryState, Entry, Look, Status
from endcap.serving.schemas import Refusal

if TYPE_CHECKING:
    from endcap.serving.candidate_store import CandidateStore

LOOKED = timedelta(hours=1)  # without a look for longer nobody decides
NOTHING = "No canary runs, and none has since this registry was made."


class CanaryShown(BaseModel):
    """The canary that is open, or the one that was last."""

    open: bool = Field(description="Whether a candidate may answer shoppers, or runs in the shadow.")
    summary: str = Field(description="Where it stands, in a few words.")
    canary_id: str | None = Field(None, description="Names the canary in metrics and in the evidence.")
    status: Status | None = Field(None, description="running, passed (a person is asked), rolled_back or promoted")
    model_version: str | None = Field(None, description="The candidate.")
    champion_version: str | None = Field(None, description="What it is compared with.")
    approved_by: str | None = None
    step: int | None = Field(None, description="From 0; -1: in the shadow.")
    shares: list[float] = Field([], description="Of shoppers, by step; after the last everybody.")
    share: float = Field(0.0, description="Of shoppers that it answers now.")
    started_at: datetime | None = None
    since: datetime | None = Field(None, description="Of the present step.")
    held: bool = Field(False, description="Whether this process holds the candidate and lets it answer.")
    reasons: list[str] = Field([], description="Why it stands there.")
    look: Look | None = Field(None, description="The last look at the evidence.")
    history: list[Entry] = Field([], description="What changed it, oldest first, each with the look it rests on.")
    refused: Refusal | None = Field(None, description="Why this process does not take the candidate.")
    degraded: list[str] = Field([], description="What a person should look at.")


def canary_shown(store: CandidateStore, champion: str | None, now: datetime) -> CanaryShown:
    """The canary as one process sees it, which serves `champion`."""
    state, current = store.newest, store.current
    if state is None:
        summary = NOTHING if store.refused is None else "The canary cannot be read."
        return CanaryShown(open=False, summary=summary, refused=store.refused, degraded=_refused(store.refused))
    held = current is not None and current.state.canary_id == state.canary_id and state.champion_version == champion
    return CanaryShown(
        open=state.open,
        summary=state.told(),
        canary_id=state.canary_id,
        status=state.status,
        model_version=state.model_version,
        champion_version=state.champion_version,
        approved_by=state.approved_by,
        step=state.step,
        shares=[step.share for step in state.settings.steps],
        share=state.share,
        started_at=state.started_at,
        since=state.since,
        held=held,
        reasons=list(state.reasons),
        look=state.look or next((entry.look for entry in reversed(state.history) if entry.look), None),
        history=list(state.history),
        refused=store.refused,
        degraded=[*_refused(store.refused), *_waits(state, champion, now)],
    )


def _refused(refused: Refusal | None) -> list[str]:
    return [f"canary of model {refused.model_version} refused: {refused.reason}"] if refused else []


def _waits(state: CanaryState, champion: str | None, now: datetime) -> list[str]:
    """What stands still without a person."""
    if not state.open:
        return []
    found = []
    if champion not in (state.champion_version, state.model_version):
        found.append(f"canary pauses: it is compared with model {state.champion_version}, here serves {champion or 'none'}")
    if state.status == "passed":
        found.append("canary waits for a person: confirm it in promote_model, or run endcap canary promote")
        return found
    looked = state.look.at if state.look else state.since
    if now - looked > LOOKED:
        found.append(f"canary: nobody has looked since {looked:%Y-%m-%d %H:%M} UTC: is promote_model running?")
    if state.look is not None and state.look.overdue:
        found.append("canary: its patience is over, a person has to decide")
    if state.look is not None and _rate(state.look.candidate) > _rate(state.look.champion):
        found.append(f"canary: {state.look.candidate.errors} requests of the candidate failed; the champion answered them")
    return found


def _rate(arm: ArmSeen) -> float:
    return arm.errors / arm.requests if arm.requests else 0.0
