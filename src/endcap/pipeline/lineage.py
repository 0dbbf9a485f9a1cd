"""Request id → model version → dataset version → validation → code → params → gate record → approver: the chain, read back.

Not here: how it is printed (cli/lineage.py), how a version is rebuilt (reproduce.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from endcap.config import Settings, load_settings
from endcap.data.versions import DatasetRepository
from endcap.errors import EndcapError, InputError

if TYPE_CHECKING:
    from endcap.contracts import DatasetVersion, ModelVersion
    from endcap.release.registry import Registry


def trace(name: str) -> dict[str, Any]:
    """The whole chain behind a request id (`req-…`), a model version (`3`, `model-3`) or a dataset version (`dataset-2`).

    A JSON-able dictionary with the keys of what lies behind `name`: request, model, code, params, parents, gates, approval,
    dataset. A link that is missing or does not verify is there as {"missing": why}, so that a gap is seen.

    Raises:
        InputError: the name is none of the three, or no exposure has this request id.
        RegistryError, DatasetError: no such version.
        ServiceUnavailable: the event log or MLflow does not answer.
    """
    settings = load_settings()
    if name.startswith("req-"):
        return _of_request(settings, name)
    if name.startswith("dataset-"):
        return _of_dataset(settings, name)
    if name.removeprefix("model-").isdigit():
        return _of_model(settings, name)
    action = "Give a request id (req-…), a model (3 or model-3) or a dataset version (dataset-2)."
    raise InputError("is no id of Endcap", field="name", value=name, action=action)


def _of_request(settings: Settings, request_id: str) -> dict[str, Any]:
    from endcap.data.events import EventLog

    log = EventLog(settings.event_log_url)
    try:
        rows = log.request(request_id)
    finally:
        log.close()
    if not rows:
        raise InputError("no such request", field="request_id", value=request_id, action="Ids are in the service's answers.")
    first = rows[0]
    request = {
        "request_id": request_id,
        **{key: _plain(first.get(key)) for key in ("time", "user_id", "surface", "model_version", "fallback")},
        "policy": ", ".join(dict.fromkeys(row["policy"] for row in rows)),  # and the rules of the shelf that took places
        **_arm(settings, request_id),
        "items": [{"item_id": row["item_id"], "rank": row["rank"], "score": row["score"]} for row in rows],
    }
    if first.get("fallback") or not str(first.get("model_version", "")).isdigit():
        return {"request": request, "model": {"missing": "this answer was a fallback: no model chose it"}}
    return {"request": request, **_of_model(settings, str(first["model_version"]))}


def _arm(settings: Settings, request_id: str) -> dict[str, str]:
    """The arm of the canary that the request belonged to, whoever answered it; nothing of a request outside of any."""
    from endcap.data.canary_log import CanaryLog

    log = CanaryLog(settings.event_log_url)
    try:
        log.create()  # an event log from before canaries has no such table
        found = log.arm_of(request_id)
    finally:
        log.close()
    if found is None:
        return {}
    failed = ", which failed" if found["error"] else ""
    return {"arm": f"{found['arm']} of {found['canary_id']}, step {found['step'] + 1}{failed}"}


def _of_model(settings: Settings, version: str) -> dict[str, Any]:
    from endcap.release.lineage import approval, gates, origin
    from endcap.release.registry import Registry
    from endcap.release.signing import Keys

    registry, keys = Registry(settings.mlflow_url), Keys.load(settings.paths.secrets)
    model = registry.get(version)
    return {
        **origin(model, registry.page(model.version)),
        "parents": _parents(registry, model),
        "gates": gates(model, keys),
        "approval": approval(model, keys),
        "dataset": _dataset(settings, model.dataset_version),
    }


def _of_dataset(settings: Settings, version: str) -> dict[str, Any]:
    from endcap.release.registry import Registry

    found = {"dataset": _card(DatasetRepository(settings.paths, settings.dvc_remote_url).get(version))}
    try:
        models = Registry(settings.mlflow_url).versions()
    except EndcapError as error:
        return {**found, "models": {"missing": str(error)}}
    trained = [
        {"version": one.version, "kind": one.kind} for one in models if one.dataset_version == found["dataset"]["version"]
    ]
    return {**found, "models": trained}


def _parents(registry: Registry, model: ModelVersion) -> list[dict[str, str]]:
    """The versions that this one was updated from, nearest first, down to a full training."""
    found = []
    while model.parent_version:
        model = registry.get(model.parent_version)
        found.append({"version": model.version, "kind": model.kind, "dataset_version": model.dataset_version})
    return found


def _dataset(settings: Settings, version: str) -> dict[str, Any]:
    try:
        return _card(DatasetRepository(settings.paths, settings.dvc_remote_url).get(version))
    except EndcapError as error:
        return {"version": version, "missing": str(error)}


def _card(card: DatasetVersion) -> dict[str, Any]:
    return {key: _plain(value) for key, value in card.to_json().items()}


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
