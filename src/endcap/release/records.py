"""Gate and promotion records: what they say, and the proof that they speak of this very model.

Not here: who may promote (promotion.py), how a signature is made (signing.py).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from endcap.contracts import MODEL_NAME
from endcap.errors import RecordInvalid

if TYPE_CHECKING:
    from endcap.contracts import ModelVersion
    from endcap.release.signing import Keys

GATE, PROMOTION, CANARY = "gate_record", "promotion_record", "canary_record"  # the tags that hold them
_FORMAT = 1
_APPROVE = "Let promote_model judge and approve this version (docs/runbooks/record-does-not-verify.md)."


def now() -> str:
    """The present in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def identity(version: ModelVersion) -> dict[str, Any]:
    """What binds a record to one model version."""
    return {
        "format": _FORMAT,
        "model": MODEL_NAME,
        "model_version": version.version,
        "digest": version.digest,
        "dataset_version": version.dataset_version,
        "params_hash": version.params_hash,
        "code_commit": version.code_commit,
    }


def gate_record(
    version: ModelVersion, *, passed: bool, champion: str | None, checks: dict[str, bool], **more: Any
) -> dict[str, Any]:
    """The outcome of the gates, to be signed. `champion` is the version that the candidate was compared with."""
    return {
        "record": "gate",
        **identity(version),
        "passed": passed,
        "champion_version": champion,
        "checks": checks,
        "judged_at": now(),
        **more,
    }


def promotion_record(version: ModelVersion, gate: dict[str, Any], approved_by: str) -> dict[str, Any]:
    """A person's approval of one gate record, to be signed."""
    return {
        "record": "promotion",
        **identity(version),
        "gate": gate,
        "approved_by": approved_by,
        "approved_at": now(),
    }


def canary_record(version: ModelVersion, gate: dict[str, Any], approved_by: str, state: dict[str, Any]) -> dict[str, Any]:
    """A person's approval of one gate record for a canary, and where that stands (`canary_state.py`), to be signed."""
    return {"record": "canary", **identity(version), "gate": gate, "approved_by": approved_by, "state": state}


def to_tag(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)


def verified_gate(version: ModelVersion, keys: Keys) -> dict[str, Any]:
    """The newest gate record of a version, proved: signed, of this model, digest and dataset version, and passed.

    Raises:
        RecordInvalid: any of that does not hold.
    """
    return _passed(_bound(keys.verify(_tag(version, GATE, "gate")), version, "gate"), version)


def verified_promotion(version: ModelVersion, keys: Keys) -> dict[str, Any]:
    """The promotion record of a version, proved: signed, of this model, by somebody, upon a proved gate record that passed.

    It carries the gate record that was approved, so judging the version again later does not undo the approval; but a
    `gate_record` tag that is gone or was tampered with does.

    Raises:
        RecordInvalid: any of that does not hold.
    """
    return _approved(version, keys, PROMOTION, "promotion")


def verified_canary(version: ModelVersion, keys: Keys) -> dict[str, Any]:
    """The canary record of a version, proved as a promotion record is: nobody sees an answer of what has not earned it.

    Raises:
        RecordInvalid: it does not verify.
    """
    return _approved(version, keys, CANARY, "canary")


def _approved(version: ModelVersion, keys: Keys, tag: str, kind: str) -> dict[str, Any]:
    _bound(keys.verify(_tag(version, GATE, "gate")), version, "gate")
    record = _bound(keys.verify(_tag(version, tag, kind)), version, kind)
    _passed(_bound(keys.verify(record.get("gate")), version, "gate"), version)
    if not record.get("approved_by"):
        raise RecordInvalid("names nobody who approved", field=f"{kind} record of model {version.version}", action=_APPROVE)
    return record


def _tag(version: ModelVersion, tag: str, kind: str) -> Any:
    text, where = version.tags.get(tag, ""), f"{kind} record of model {version.version}"
    if not text:
        raise RecordInvalid("there is none", field=where, action=_APPROVE)
    try:
        return json.loads(text)
    except ValueError as error:
        raise RecordInvalid("is no JSON", field=where, value=text, action=_APPROVE) from error


def _bound(record: dict[str, Any], version: ModelVersion, kind: str) -> dict[str, Any]:
    for name, value in {"record": kind, **identity(version)}.items():
        if record.get(name) != value:
            raise RecordInvalid(
                f"is bound to another {name}: expected {value!r}",
                field=f"{kind} record of model {version.version}",
                value=record.get(name),
                action="A record cannot be carried over to another model. " + _APPROVE,
            )
    return record


def _passed(record: dict[str, Any], version: ModelVersion) -> dict[str, Any]:
    if record.get("passed") is not True:
        raise RecordInvalid(
            "says that the gates were not passed",
            field=f"gate record of model {version.version}",
            value=[name for name, passed in record.get("checks", {}).items() if not passed],
            action="Read its scorecard and train a better candidate (docs/runbooks/gates-refused.md).",
        )
    return record
