"""What the tags of a model version say of where it came from, as plain dictionaries. Nothing is contacted.

Not here: what lies behind other ids, and what has to be asked for (pipeline/lineage.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from endcap.errors import RecordInvalid
from endcap.release.records import GATE, PROMOTION, verified_gate, verified_promotion

if TYPE_CHECKING:
    from endcap.contracts import ModelVersion
    from endcap.release.signing import Keys


def origin(model: ModelVersion, page: str) -> dict[str, Any]:
    """The keys model, code and params; `page` is the version's address in MLflow."""
    tags = model.tags
    return {
        "model": {
            "version": model.version,
            "kind": model.kind,
            "digest": model.digest,
            "run_id": model.run_id,
            "status": tags.get("status", ""),
            "page": page,
        },
        "code": {"commit": model.code_commit, "tree": tags.get("code_tree", "")},
        "params": {
            "hash": model.params_hash,
            "file": f"params.yaml in the code tree {tags.get('code_tree', '')[:12]}",
            "tuned": tags.get("tuned", ""),
        },
    }


def gates(model: ModelVersion, keys: Keys) -> dict[str, Any]:
    """The gate record and whether it verifies; {"missing": why} where there is none."""
    try:
        verified_gate(model, keys)
        verified: Any = True
    except RecordInvalid as error:
        if not model.tags.get(GATE):
            return {"missing": str(error)}
        verified = str(error)
    record = _json(model.tags[GATE])
    kept = {key: record.get(key) for key in ("passed", "judged_at", "champion_version", "checks")}
    return {**kept, "scorecard": model.tags.get("scorecard", ""), "verified": verified}


def approval(model: ModelVersion, keys: Keys) -> dict[str, Any]:
    """Who approved or rejected the version; {"missing": why} where nobody did."""
    try:
        record = verified_promotion(model, keys)
    except RecordInvalid as error:
        if model.tags.get("rejected_by"):
            return {"rejected_by": model.tags["rejected_by"], "rejected_at": model.tags.get("rejected_at", "")}
        return {"missing": str(error)} if not model.tags.get(PROMOTION) else {"verified": str(error)}
    return {"approved_by": record["approved_by"], "approved_at": record["approved_at"], "verified": True}


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
