"""What happens to a canary: it is started, moved on, rolled back, promoted. One record on the candidate's version says it all.

The record is written first and the alias follows it, so that a kill between the two leaves nothing served that the record does
not allow, and doing the same again mends the alias. Callers hold the lock of releases. Not here: what is decided (canary.py),
and by what evidence (canary_evidence.py).
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from pydantic import ValidationError

from endcap.errors import RecordInvalid, ReleaseError
from endcap.release import promotion
from endcap.release.canary_state import SHADOW, CanaryState, Entry, Look
from endcap.release.records import CANARY, canary_record, now, to_tag, verified_canary, verified_gate

if TYPE_CHECKING:
    from datetime import datetime

    from endcap.contracts import ModelVersion
    from endcap.release.audit import AuditLog
    from endcap.release.registry import Registry
    from endcap.release.signing import Keys
    from endcap.sections import Canary

log = logging.getLogger(__name__)
BY_GUARDS = "the guards"


def read_state(version: ModelVersion, keys: Keys) -> CanaryState:
    """The canary that a version's record tells of, once the record is proved.

    Raises:
        RecordInvalid: it does not verify, or tells of no canary.
    """
    record = verified_canary(version, keys)
    try:
        state = CanaryState.model_validate(record.get("state"))
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordInvalid(
            f"{first['msg']} at {'.'.join(map(str, first['loc']))}",
            field=f"canary record of model {version.version}",
            value=first["input"],
            action="Stop it with `endcap canary stop` and start it again.",
        ) from error
    if (state.model_version, state.approved_by) != (version.version, record["approved_by"]):
        raise RecordInvalid(
            "its parts do not agree", field=f"canary record of model {version.version}", action="Start it again."
        )
    return state


def newest(registry: Registry, keys: Keys) -> CanaryState | None:
    """The canary that began last, running or over; None: there never was one."""
    _, version = registry.canaries()
    return read_state(version, keys) if version else None


def start(
    registry: Registry,
    keys: Keys,
    settings: Canary,
    version: str,
    approved_by: str,
    at: datetime,
    *,
    shadow_only: bool = False,
    audit: AuditLog | None = None,
) -> CanaryState:
    """Let a candidate that passed its gates answer part of the shoppers, on a person's word. A rerun finds it running.

    `audit` is told first, as by all that follow.

    Raises:
        RecordInvalid: its gate record is missing, failed, altered or of another model.
        ReleaseError: nobody is named, another canary is open, there is no champion to compare with or it has changed.
    """
    candidate = registry.get(version)
    if not approved_by.strip():
        action = "A person approves through promote_model, or `endcap canary start`."
        raise ReleaseError("nobody is named", field="approved_by", value=approved_by, action=action)
    if shadow_only and settings.shadow is None:
        raise ReleaseError("is not set", field="canary.shadow", action="Set it in params.yaml: share, min_requests, min_hours.")
    gate = verified_gate(candidate, keys)
    _, last = registry.canaries()
    if last is not None and (running := read_state(last, keys)).open:
        if running.model_version == candidate.version:
            registry.set_canary(candidate.version)
            return running
        action = (
            f"Wait for it, or stop it: `endcap canary stop`. Then clear this task, or start model {candidate.version} by hand."
        )
        raise ReleaseError("another canary is open", field="canary", value=running.told(), action=action)
    champion = promotion.verified_champion(registry, keys)
    if champion is None or champion.version == candidate.version:
        action = "Promote it: there is no other champion to compare it with."
        raise ReleaseError("cannot be a canary", field="model", value=candidate.version, action=action)
    promotion.refuse_stale(registry, keys, candidate, gate.get("champion_version"))
    step = SHADOW if settings.shadow else 0
    share = settings.steps[0].share if step == 0 else 0.0
    state = CanaryState(
        canary_id=f"canary-{candidate.version}-{uuid.uuid4().hex[:8]}",
        model_version=candidate.version,
        champion_version=champion.version,
        approved_by=approved_by,
        settings=settings,
        shadow_only=shadow_only,
        step=step,
        share=share,
        started_at=at,
        since=at,
        history=(Entry(at=at, what="started", step=step, share=share, by=approved_by),),
    )
    _tell(audit, state)
    if before := candidate.tags.get(CANARY):  # it was rolled back once and is tried again: that stays on record
        registry.set_tags(candidate.version, {f"{CANARY}_before_{state.canary_id}": before})
    record = canary_record(candidate, gate, approved_by, state.model_dump(mode="json"))
    registry.set_tags(candidate.version, {CANARY: to_tag(keys.sign(record)), "status": "canary"})
    registry.set_canary(candidate.version)  # last: from here on serving may take it
    log.info("canary started", extra={"canary": state.canary_id, "model_version": candidate.version, "by": approved_by})
    return state


def take(registry: Registry, keys: Keys, seen: CanaryState, look: Look, audit: AuditLog | None = None) -> CanaryState:
    """Do what a look at `seen` decided. When somebody else has moved the canary meanwhile the look is void, and that stands."""
    current = newest(registry, keys)
    if current is None or not same_step(current, seen):
        log.info("look is void: the canary has moved", extra={"canary": seen.canary_id})
        return current or seen
    if look.action == "roll_back":
        return roll_back(registry, keys, current, BY_GUARDS, look.reasons, look, audit)
    if look.action == "advance":
        return advance(registry, keys, current, BY_GUARDS, look.reasons, look, audit)
    state = current.model_copy(update={"look": look})
    _write(registry, keys, state)
    return state


def same_step(current: CanaryState, seen: CanaryState) -> bool:
    """Whether what was seen still holds: the same canary runs, in the same step."""
    return current.status == "running" and (current.canary_id, current.step) == (seen.canary_id, seen.step)


def advance(
    registry: Registry,
    keys: Keys,
    state: CanaryState,
    by: str,
    reasons: tuple[str, ...],
    look: Look,
    audit: AuditLog | None = None,
) -> CanaryState:
    """To the next step; after the last the candidate answers everybody and a person is asked."""
    steps, step = state.settings.steps, state.step + 1
    last = step == len(steps)
    share = 1.0 if last else steps[step].share
    what = "passed" if last else "advanced"
    entry = Entry(at=look.at, what=what, step=step, share=share, by=by, reasons=reasons, look=look)
    status = "passed" if last else "running"
    state = _with(state, entry, {"status": status, "step": step, "share": share, "since": look.at, "look": None})
    _tell(audit, state)
    _write(registry, keys, state)
    log.info("canary advanced", extra={"canary": state.canary_id, "share": share, "by": by})
    return state


def roll_back(
    registry: Registry,
    keys: Keys,
    state: CanaryState,
    by: str,
    reasons: tuple[str, ...],
    look: Look,
    audit: AuditLog | None = None,
) -> CanaryState:
    """All shoppers return to the champion. What is over stays as it is; the alias goes in any case."""
    if state.open:
        entry = Entry(at=look.at, what="rolled_back", step=state.step, share=0.0, by=by, reasons=reasons, look=look)
        state = _with(state, entry, {"status": "rolled_back", "share": 0.0, "look": look})
        _tell(audit, state)
        _write(registry, keys, state, {"status": "rolled back as a canary"})
        log.warning("canary rolled back", extra={"canary": state.canary_id, "by": by, "reason": "; ".join(reasons)})
    mend(registry, state)
    return state


def crown(
    registry: Registry, keys: Keys, state: CanaryState, by: str, at: datetime, audit: AuditLog | None = None
) -> CanaryState:
    """Make a candidate that came through all steps champion. A rerun changes nothing.

    Raises:
        ReleaseError: it has not come through, or the champion has changed.
    """
    if state.status not in ("passed", "promoted"):
        action = "Only a canary that came through all steps is promoted: `endcap canary status`."
        raise ReleaseError("has not come through its canary", field="model", value=state.told(), action=action)
    if state.status == "passed":
        promotion.promote(registry, keys, state.model_version, by, audit)
        state = promoted(registry, keys, state, by, at)
    mend(registry, state)
    return state


def promoted(registry: Registry, keys: Keys, state: CanaryState, by: str, at: datetime) -> CanaryState:
    """Write down that its model is champion now, whoever made it that."""
    entry = Entry(at=at, what="promoted", step=state.step, share=1.0, by=by)
    state = _with(state, entry, {"status": "promoted", "share": 1.0})
    _write(registry, keys, state)
    return state


def mend(registry: Registry, state: CanaryState) -> None:
    """Let the alias follow the record, in case somebody was killed between the two."""
    pointed, _ = registry.canaries()
    if state.open and (pointed is None or pointed.version != state.model_version):
        registry.set_canary(state.model_version)
    if not state.open and pointed is not None:
        registry.remove_canary()


def _tell(audit: AuditLog | None, state: CanaryState) -> None:
    """The newest entry of the canary's history."""
    if audit is not None:
        entry = state.history[-1]
        about = {"canary": state.canary_id, "share": entry.share, "reasons": list(entry.reasons)}
        audit.append(f"canary.{entry.what}", f"model {state.model_version}", entry.by, once=True, **about)


def _with(state: CanaryState, entry: Entry, changed: dict[str, object]) -> CanaryState:
    return state.model_copy(update={**changed, "history": (*state.history, entry)})


def _write(registry: Registry, keys: Keys, state: CanaryState, tags: dict[str, str] | None = None) -> None:
    version = registry.get(state.model_version)
    gate = verified_canary(version, keys)["gate"]
    record = keys.sign(canary_record(version, gate, state.approved_by, state.model_dump(mode="json")))
    registry.set_tags(version.version, {CANARY: to_tag(record), **(tags or {}), "canary_written_at": now()})
