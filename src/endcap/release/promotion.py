"""Who takes the place: promote, reject, roll back, and the only champion that may be served. Nothing unearned is served."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from endcap.errors import RecordInvalid, ReleaseError
from endcap.release.records import GATE, PROMOTION, now, promotion_record, to_tag, verified_gate, verified_promotion

if TYPE_CHECKING:
    from endcap.contracts import ModelVersion
    from endcap.release.audit import AuditLog
    from endcap.release.registry import Registry
    from endcap.release.signing import Keys

log = logging.getLogger(__name__)

__all__ = ["GATE", "PROMOTION", "incumbent", "promote", "reject", "rollback", "supersede", "verified_champion"]


def verified_champion(registry: Registry, keys: Keys) -> ModelVersion | None:
    """The version that `@champion` points to, once its gate and promotion records are proved; None when it points nowhere.

    Raises:
        RecordInvalid: it has no right to serve; keep the last good model.
        ServiceUnavailable: MLflow does not answer; keep the last good model.
    """
    champion = registry.champion()
    if champion is not None:
        verified_promotion(champion, keys)
    return champion


def incumbent(registry: Registry, keys: Keys) -> ModelVersion | None:
    """The model to beat: the verified champion, else (an alias moved by hand) the newest earlier champion that verifies."""
    champion = registry.champion()
    if champion is not None and _verifies(champion, keys):
        return champion
    return next((version for version in registry.previous_champions() if _verifies(version, keys)), None)


def promote(registry: Registry, keys: Keys, version: str, approved_by: str, audit: AuditLog | None = None) -> ModelVersion:
    """Make a version champion on a person's word. A rerun changes nothing. `audit` is told first, as by all that follow.

    Raises:
        RecordInvalid: its gate record is missing, failed, altered or of another model.
        ReleaseError: nobody is named, or the champion has changed since the gates compared with it.
        ServiceUnavailable: it cannot be written down, so it was not done.
    """
    candidate = registry.get(version)
    if not approved_by.strip():
        raise ReleaseError(
            "nobody is named", field="approved_by", value=approved_by, action="A person approves through promote_model."
        )
    gate = verified_gate(candidate, keys)
    champion = registry.champion()
    if champion is not None and champion.version == candidate.version and _verifies(candidate, keys):
        return candidate
    refuse_stale(registry, keys, candidate, gate.get("champion_version"))
    record = keys.sign(promotion_record(candidate, gate, approved_by))
    _tell(audit, "model.promoted", candidate, approved_by, instead_of=champion.version if champion else None)
    tags = {
        "promoted_by": approved_by,
        "promoted_at": record["approved_at"],
        "status": "promoted",
        "rolled_back_at": "",
        "rejected_at": "",
    }
    registry.set_tags(candidate.version, {PROMOTION: to_tag(record), **tags})
    registry.set_champion(candidate.version)  # last: from here on serving may take it
    log.info("model promoted", extra={"model_version": candidate.version, "approved_by": approved_by})
    return registry.get(candidate.version)


def reject(registry: Registry, version: str, rejected_by: str, reason: str = "", audit: AuditLog | None = None) -> ModelVersion:
    """Write down that a person (or a time-out) said no. The champion stays. A rerun changes nothing.

    Raises:
        ReleaseError: the version is the champion; roll back instead.
    """
    candidate = registry.get(version)
    champion = registry.champion()
    if champion is not None and champion.version == candidate.version:
        raise ReleaseError(
            "is the champion and serves", field="model", value=candidate.version, action="Use `endcap rollback` instead."
        )
    if not candidate.tags.get("rejected_at"):
        _tell(audit, "model.rejected", candidate, rejected_by, reason=reason or None)
        registry.set_tags(
            candidate.version,
            {"rejected_by": rejected_by, "rejected_at": now(), "rejected_because": reason, "status": "rejected"},
        )
    return registry.get(candidate.version)


def supersede(registry: Registry, version: str, newer: str) -> bool:
    """Write down that a candidate was never judged, because a newer one came before its turn. Returns whether it was.

    It stays in the registry and can be judged by hand.
    """
    candidate = registry.get(version)
    if candidate.tags.get("status") != "candidate":
        return False
    registry.describe(
        version, f"Superseded by model {newer} before it was judged. Trigger promote_model for this version to judge it."
    )
    registry.set_tags(version, {"superseded_by": newer, "superseded_at": now(), "status": "superseded"})
    log.info("candidate superseded", extra={"model_version": version, "newer": newer})
    return True


def rollback(registry: Registry, keys: Keys, by: str, audit: AuditLog | None = None) -> ModelVersion:
    """Return to the newest earlier champion whose records still verify; the one left is never chosen by a rollback again.

    Raises:
        ReleaseError: there is no earlier champion, or none that verifies.
    """
    champion = registry.champion()
    if champion is None:
        raise ReleaseError("there is no champion to roll back from", field="@champion", action="Promote a model first.")
    since = champion.tags.get("promoted_at", "")
    earlier = [version for version in registry.previous_champions() if not since or version.tags["promoted_at"] < since]
    target = next((version for version in earlier if _verifies(version, keys)), None)
    if target is None:
        tried = [version.version for version in earlier]
        raise ReleaseError(
            "no earlier champion verifies" if tried else "there is no earlier champion",
            field="@champion",
            value=tried or champion.version,
            action="Model stays as it is. Promote another candidate through promote_model (docs/runbooks/rollback.md).",
        )
    _tell(audit, "model.rolled_back", champion, by, back_to=target.version)
    registry.set_tags(champion.version, {"rolled_back_by": by, "rolled_back_at": now(), "status": "rolled back"})
    registry.set_champion(target.version)
    registry.set_tags(target.version, {"restored_by": by, "restored_at": now(), "status": "promoted"})
    log.warning("champion rolled back", extra={"model_version": target.version, "from_version": champion.version, "by": by})
    return registry.get(target.version)


def _tell(audit: AuditLog | None, action: str, version: ModelVersion, by: str, **details: Any) -> None:
    if audit is not None:
        audit.append(action, f"model {version.version}", by.strip() or "nobody named", digest=version.digest, **details)


def _verifies(version: ModelVersion, keys: Keys) -> bool:
    try:
        verified_promotion(version, keys)
    except RecordInvalid as error:
        log.warning("record does not verify", extra={"model_version": version.version, "reason": str(error)})
        return False
    return True


def refuse_stale(registry: Registry, keys: Keys, candidate: ModelVersion, judged_against: object) -> None:
    """Raises ReleaseError when the champion is no longer the one that the gates compared with."""
    standing = incumbent(registry, keys)
    present = standing.version if standing else None
    if present not in (judged_against, candidate.version):
        raise ReleaseError(
            f"was compared with champion {judged_against}, but the champion is now {present}",
            field=f"model {candidate.version}",
            action="Judge it again: trigger promote_model for this version.",
        )
