"""What the canary tasks of promote_model and `endcap canary` call: start, look, stop, crown. Ids in, small dictionaries out."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from endcap.config import Settings, load_params, load_settings
from endcap.errors import ConfigError, ReleaseError, ServiceUnavailable
from endcap.pipeline.release import audit_of, keys_of, one_at_a_time, registry_of

if TYPE_CHECKING:
    from endcap.release.canary_state import CanaryState, Look
    from endcap.sections import Canary

log = logging.getLogger(__name__)
RUNBOOK = "docs/runbooks/canary-rolled-back.md"


def wanted(model_version: str) -> bool:
    """Whether an approved candidate goes by way of a canary: `canary.enabled`, and another champion to compare it with."""
    canary = load_params().canary
    if canary is None or not canary.enabled:
        return False
    champion = registry_of(load_settings()).champion()
    return champion is not None and champion.version != model_version.removeprefix("model-")


def start(model_version: str, approved_by: str, *, shadow_only: bool = False) -> dict[str, Any]:
    """Start a canary on a person's word; see release.canary_rollout.start. A rerun finds it running."""
    from endcap.release import canary_rollout

    settings = load_settings()
    registry, keys = registry_of(settings), keys_of(settings)
    with one_at_a_time(settings), audit_of(settings, keys) as audit:
        state = canary_rollout.start(
            registry, keys, _canary(), model_version, approved_by, datetime.now(UTC), shadow_only=shadow_only, audit=audit
        )
    return told(state, settings)


def look(model_version: str | None = None) -> dict[str, Any]:
    """Look once at the canary (of this model, where one is named) and do what the evidence says; looking again does no harm.

    With `canary.confirm: false` a candidate that came through is promoted, by whom its canary was approved.

    Raises:
        ReleaseError: there is no canary, or it is of another model.
        ServiceUnavailable: MLflow or the event log does not answer; nothing was changed.
    """
    settings = load_settings()
    state = _newest(settings, model_version)
    if state.status == "running":
        state = _looked_at(settings, state)
    state = _followed(settings, state)
    log.info("canary looked at", extra={"canary": state.canary_id, "status": state.status, "share": state.share})
    return told(state, settings)


def follow(model_version: str) -> dict[str, Any]:
    """As `look`, for a task that looks again and again: adds "over" (nothing more is decided by evidence).

    A part that is away for a while is said in "reason" and tried again at the next look.

    Raises:
        ReleaseError: the canary was rolled back; the run ends red with the reason.
    """
    try:
        told = look(model_version)
    except ServiceUnavailable as error:
        log.warning("canary could not be looked at", extra={"reason": str(error)})
        return {"model_version": model_version, "state": "unknown", "reason": str(error), "over": False}
    if told["state"] == "rolled_back":
        why = f"was rolled back in its canary: {told['reason']}"
        raise ReleaseError(why, field=f"model {model_version}", action=f"The champion stays. See {RUNBOOK}.")
    return {**told, "over": told["state"] != "running"}


def advance(by: str, reason: str) -> dict[str, Any]:
    """Go on to the next step on a person's word, where evidence is not enough and no guard is surely broken.

    Raises:
        ReleaseError: there is no running canary, or a guard is surely beyond its bar.
    """
    from endcap.release import canary_rollout

    settings = load_settings()
    registry, keys = registry_of(settings), keys_of(settings)
    state = _newest(settings)
    seen = _evidence(settings, state) if state.status == "running" else None
    if seen is None or seen.action == "roll_back":
        action = "See `endcap canary status`: a broken guard is not argued with."
        raise ReleaseError("cannot go on", field="canary", value=state.told(), action=action)
    with one_at_a_time(settings), audit_of(settings, keys) as audit:
        current = canary_rollout.newest(registry, keys)
        if current is None or not canary_rollout.same_step(current, state):
            raise ReleaseError("has moved meanwhile", field="canary", value=state.canary_id, action="Look at it again.")
        state = canary_rollout.advance(registry, keys, current, by, (reason, *seen.reasons), seen, audit)
    return told(state, settings)


def stop(by: str, reason: str, model_version: str | None = None) -> dict[str, Any]:
    """Return all shoppers to the champion on a person's word. What is over stays as it is."""
    from endcap.release import canary_rollout
    from endcap.release.canary_state import Look

    settings = load_settings()
    registry, keys = registry_of(settings), keys_of(settings)
    with one_at_a_time(settings), audit_of(settings, keys) as audit:
        state = _newest(settings, model_version)
        said = (reason or f"stopped by {by}",)
        seen = Look(at=datetime.now(UTC), step=state.step, action="roll_back", share=0.0, reasons=said)
        state = canary_rollout.roll_back(registry, keys, state, by, said, seen, audit)
    return told(state, settings)


def refuse(model_version: str, by: str, reason: str = "") -> None:
    """A person's no after the last step: roll back, then fail, so that the run is red.

    Raises:
        ReleaseError: always.
    """
    stop(by, reason or f"rejected by {by} after its canary", model_version)
    raise ReleaseError(
        f"was rejected by {by} after its canary",
        field=f"model {model_version}",
        value=reason or None,
        action=f"The champion stays. See {RUNBOOK}.",
    )


def crown(model_version: str, by: str) -> dict[str, Any]:
    """Make the candidate that came through its canary champion, on a person's word. A rerun changes nothing.

    Raises:
        ReleaseError: it has not come through, or the champion has changed.
    """
    from endcap.release import canary_rollout

    settings = load_settings()
    registry, keys = registry_of(settings), keys_of(settings)
    with one_at_a_time(settings), audit_of(settings, keys) as audit:
        state = canary_rollout.crown(registry, keys, _newest(settings, model_version), by, datetime.now(UTC), audit)
    return told(state, settings)


def status() -> dict[str, Any] | None:
    """The canary that began last, running or over; None: there never was one."""
    from endcap.release import canary_rollout

    settings = load_settings()
    state = canary_rollout.newest(registry_of(settings), keys_of(settings))
    return told(state, settings) if state else None


def told(state: CanaryState, settings: Settings) -> dict[str, Any]:
    """A canary in a few words and figures."""
    return {
        "model_version": state.model_version,
        "canary": state.canary_id,
        "state": state.status,
        "step": state.step,
        "share": state.share,
        "summary": state.told(),
        "reason": "; ".join(state.reasons),
        "overdue": bool(state.look and state.look.overdue),
        "report_url": f"{settings.serving_url}/canary",
    }


def _looked_at(settings: Settings, state: CanaryState) -> CanaryState:
    from endcap.release import canary_rollout

    registry, keys = registry_of(settings), keys_of(settings)
    champion = registry.champion()
    present = champion.version if champion else None
    if present not in (state.champion_version, state.model_version):
        seen = _of_another_champion(state, present)
    elif present == state.model_version:
        return state
    else:
        seen = _evidence(settings, state)
    with one_at_a_time(settings), audit_of(settings, keys) as audit:
        return canary_rollout.take(registry, keys, state, seen, audit)


def _followed(settings: Settings, state: CanaryState) -> CanaryState:
    """Bring alias and record in line with the champion: after a kill, after a promotion, and without a last word."""
    from endcap.release import canary_rollout

    registry, keys = registry_of(settings), keys_of(settings)
    with one_at_a_time(settings), audit_of(settings, keys) as audit:
        state, at = canary_rollout.newest(registry, keys) or state, datetime.now(UTC)
        champion = registry.champion()
        present = champion.version if champion else None
        if state.open and present == state.model_version:
            state = canary_rollout.promoted(
                registry, keys, state, champion.tags.get("promoted_by", "?") if champion else "?", at
            )
        elif state.status == "passed" and present != state.champion_version:
            seen = _of_another_champion(state, present)
            state = canary_rollout.roll_back(registry, keys, state, canary_rollout.BY_GUARDS, seen.reasons, seen, audit)
        elif state.status == "passed" and not state.settings.confirm:
            state = canary_rollout.crown(registry, keys, state, state.approved_by, at, audit)
        canary_rollout.mend(registry, state)
    return state


def _evidence(settings: Settings, state: CanaryState) -> Look:
    from endcap.data.canary_log import CanaryLog
    from endcap.release import canary_evidence

    event_log = CanaryLog(settings.event_log_url)
    try:
        event_log.create()  # the service may not have answered anybody yet
        attribution = timedelta(hours=load_params().monitoring.attribution_hours)
        return canary_evidence.look(state, event_log, attribution, datetime.now(UTC))
    finally:
        event_log.close()


def _of_another_champion(state: CanaryState, present: str | None) -> Look:
    from endcap.release.canary_state import Look

    why = f"the champion is now {f'model {present}' if present else 'nobody'}, compared was with model {state.champion_version}"
    return Look(at=datetime.now(UTC), step=state.step, action="roll_back", share=0.0, reasons=(why,))


def _newest(settings: Settings, model_version: str | None = None) -> CanaryState:
    from endcap.release import canary_rollout

    state = canary_rollout.newest(registry_of(settings), keys_of(settings))
    if state is None or (model_version and state.model_version != model_version.removeprefix("model-")):
        problem = "is not of this model" if model_version else "there never was one"
        action = "`endcap canary status` tells of the last one."
        raise ReleaseError(problem, field="canary", value=model_version, action=action)
    return state


def _canary() -> Canary:
    canary = load_params().canary
    if canary is None:
        raise ConfigError("is not there", field="canary", action="Add the section to params.yaml (docs/canary.md).")
    return canary
