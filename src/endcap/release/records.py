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

GATE, PROMOTION = "gate_record", "promotion_record"  # the tags that hold them
_FORMAT = 1


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
        "gate_signature": gate["signature"],
        "approved_by": approved_by,
        "approved_at": now(),
    }


def to_tag(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)


def verified_gate(version: ModelVersion, keys: Keys) -> dict[str, Any]:
    """The gate record of a version, proved: signed, of this model, digest and dataset version, and passed.

    Raises:
        RecordInvalid: any of that does not hold.
    """
    record = _verified(version, keys, GATE, "gate")
    if record.get("passed") is not True:
        failed = [name for name, passed in record.get("checks", {}).items() if not passed]
        raise RecordInvalid(
            "says that the gates were not passed",
            field=f"gate record of model {version.version}",
            value=failed,
            action="Read its scorecard; train a better candidate (docs/runbooks/gates-refused.md).",
        )
    return record


def verified_promotion(version: ModelVersion, keys: Keys) -> dict[str, Any]:
    """The promotion record of a version, proved: signed, of this model, and an approval of the gate record it carries now.

    Raises:
        RecordInvalid: any of that does not hold, or the gate record does not verify.
    """
    gate = verified_gate(version, keys)
    record = _verified(version, keys, PROMOTION, "promotion")
    if record.get("gate_signature") != gate["signature"]:
        raise RecordInvalid(
            "approves another gate record than the one the model carries",
            field=f"promotion record of model {version.version}",
            action="Approve it again through promote_model.",
        )
    if not record.get("approved_by"):
        raise RecordInvalid(
            "names nobody who approved",
            field=f"promotion record of model {version.version}",
            action="Approve it through promote_model.",
        )
    return record


def _verified(version: ModelVersion, keys: Keys, tag: str, kind: str) -> dict[str, Any]:
    where = f"{kind} record of model {version.version}"
    text = version.tags.get(tag, "")
    if not text:
        raise RecordInvalid(
            "there is none",
            field=where,
            action="Let promote_model judge and approve this version; see docs/runbooks/record-does-not-verify.md.",
        )
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise RecordInvalid(
            "is no JSON", field=where, value=text, action="Run the gates again: `endcap gates MODEL`."
        ) from error
    record = keys.verify(parsed)
    expected = {"record": kind, **identity(version)}
    for name, value in expected.items():
        if record.get(name) != value:
            raise RecordInvalid(
                f"is bound to another {name}: expected {value!r}",
                field=where,
                value=record.get(name),
                action="Run the gates on this version; a record cannot be carried over.",
            )
    return record
