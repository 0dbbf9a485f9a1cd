"""What the release tasks of a DAG call: register, judge, require, promote, reject. Ids in, small dictionaries out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.config import Settings, load_params, load_settings
from endcap.data.locks import locked, scratch
from endcap.errors import GatesFailed, ReleaseError, TrainingError
from endcap.pipeline import workspace as workspaces

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from endcap.data.versions import DatasetRepository
    from endcap.release.audit import AuditLog
    from endcap.release.registry import Registry
    from endcap.release.signing import Keys

log = logging.getLogger(__name__)


def register_candidate(workspace: str | Path) -> dict[str, Any]:
    """Register the model that a workspace trained; the same workspace again gives the same version.

    Returns {"model_version", "kind", "dataset_version", "page_url"}.

    Raises:
        TrainingError: the workspace holds no trained model.
        ServiceUnavailable: MLflow does not answer.
    """
    from endcap.release.candidate import read_curves, read_metrics

    root = Path(workspace)
    card = workspaces.read(root)
    model, evaluation = root / "work" / "model", root / "work" / "evaluation"
    if not (model / "config.json").exists():
        raise TrainingError("there is no trained model", field=str(model), action="Run the stages of dvc.yaml first.")
    registry = registry_of(load_settings())
    version = registry.register(
        model,
        kind=card.kind,
        dataset_version=card.dataset_version,
        code_commit=card.code_commit,
        code_tree=card.code_tree,
        params_hash=card.params_hash,
        parent_version=card.parent_version,
        metrics=read_metrics(evaluation / "metrics.json"),
        curves=read_curves(evaluation / "curves.csv"),
        plots=evaluation / "plots",
        params_file=root / "params.yaml",
        tags={"workspace": card.run_id} | ({"tuned": card.tuned} if card.tuned else {}),
    )
    log.info("candidate registered", extra={"model_version": version.version, "dataset_version": version.dataset_version})
    return {
        "model_version": version.version,
        "kind": version.kind,
        "dataset_version": version.dataset_version,
        "page_url": registry.page(version.version),
    }


def evaluate_gates(model_version: str) -> dict[str, Any]:
    """Judge a version on the newest days of the newest dataset version, publish the scorecard, sign the outcome.

    A rerun judges again, on what is newest then.

    Returns {"model_version", "passed", "failed", "report_url", "summary_markdown"}; a refusal is an answer, not an error.

    Raises:
        RegistryError, DatasetError: the version or its dataset is not there.
        ServiceUnavailable: MLflow or the DVC remote does not answer.
    """
    from endcap.data.versions import DatasetRepository
    from endcap.release import publication
    from endcap.release.gates import Exam, judge
    from endcap.release.promotion import incumbent
    from endcap.release.scorecard import summary_markdown

    settings, params = load_settings(), load_params()
    registry, keys = registry_of(settings), keys_of(settings)
    candidate = registry.get(model_version)
    datasets = DatasetRepository(settings.paths, settings.dvc_remote_url)
    champion = incumbent(registry, keys)
    if champion is not None and champion.version == candidate.version:
        champion = None  # a champion judged again is compared with the baselines alone
    with scratch(settings.home / "scratch") as folder:
        exam = Exam(
            package=registry.download_package(candidate, folder),
            champion=registry.download(champion, settings.paths.models) if champion else None,
            dataset=_checkout_newest(datasets, folder),
            dataset_version=candidate.dataset_version,
            learnt_from=datasets.get(candidate.dataset_version).to_json(),
            holdout_days=params.prepare.holdout_days,
            recent_days=params.recent_days,
        )
        scorecard = judge(exam, params.gates, params.evaluate)
    report_url = publication.publish(registry, keys, settings, candidate, champion, scorecard, params.gates)
    log.info(
        "gates evaluated", extra={"model_version": candidate.version, "passed": scorecard.passed, "failed": scorecard.failed}
    )
    return {
        "model_version": candidate.version,
        "passed": scorecard.passed,
        "failed": scorecard.failed,
        "report_url": report_url,
        "summary_markdown": summary_markdown(scorecard, candidate.version, report_url),
    }


def set_aside(model_versions: Sequence[str], newest: str) -> list[str]:
    """Mark candidates that waited while `newest` came as superseded; returns those it marked. A rerun marks nothing more.

    What was judged, promoted or rejected meanwhile is left as it is.
    """
    from endcap.release import promotion

    older = [version for version in dict.fromkeys(model_versions) if version and version != newest]
    if not older:
        return []
    settings = load_settings()
    with one_at_a_time(settings):
        return [version for version in older if promotion.supersede(registry_of(settings), version, newest)]


def require_gates(model_version: str) -> dict[str, Any]:
    """Go on only with a signed record that every gate was passed.

    Raises:
        GatesFailed: the record says that they were not.
        RecordInvalid: there is no record, or it does not verify.
    """
    from endcap.release.records import GATE, verified_gate

    settings = load_settings()
    candidate = registry_of(settings).get(model_version)
    told = json.loads(candidate.tags.get(GATE) or "{}")
    if told and told.get("passed") is False:
        failed = [name for name, passed in told.get("checks", {}).items() if not passed]
        refused = ", ".join(name for name in failed if name not in told.get("warnings", []))
        raise GatesFailed(
            f"did not earn its place, refused by: {refused}",
            field=f"model {candidate.version}",
            action=f"Scorecard: {candidate.tags.get('scorecard', '')}. See docs/runbooks/gates-refused.md.",
        )
    record = verified_gate(candidate, keys_of(settings))
    return {
        "model_version": candidate.version,
        "judged_at": record["judged_at"],
        "report_url": candidate.tags.get("scorecard", ""),
    }


def promote(model_version: str, approved_by: str) -> dict[str, Any]:
    """Make a version champion on a person's word; see release.promotion.promote. Returns {"model_version", "approved_by"}."""
    from endcap.release import promotion

    settings = load_settings()
    registry, keys = registry_of(settings), keys_of(settings)
    with one_at_a_time(settings), audit_of(settings, keys) as audit:
        champion = promotion.promote(registry, keys, model_version, approved_by, audit)
    return {"model_version": champion.version, "approved_by": champion.tags.get("promoted_by", approved_by)}


def reject(model_version: str, rejected_by: str, reason: str = "") -> dict[str, Any]:
    """Write the rejection down, then fail, so that the run is red.

    Raises:
        ReleaseError: always.
    """
    from endcap.release import promotion

    settings = load_settings()
    with one_at_a_time(settings), audit_of(settings, keys_of(settings)) as audit:
        candidate = promotion.reject(registry_of(settings), model_version, rejected_by, reason, audit)
    raise ReleaseError(
        f"was rejected by {candidate.tags['rejected_by']}",
        field=f"model {candidate.version}",
        value=reason or None,
        action="The champion stays. Train another candidate or trigger promote_model for this one again.",
    )


def rollback(by: str) -> dict[str, Any]:
    """Return to the previous verified champion. Returns {"model_version", "from_version"}."""
    from endcap.release import promotion

    settings = load_settings()
    registry, keys = registry_of(settings), keys_of(settings)
    with one_at_a_time(settings), audit_of(settings, keys) as audit:
        left = registry.champion()
        champion = promotion.rollback(registry, keys, by, audit)
    return {"model_version": champion.version, "from_version": left.version if left else ""}


def verify_champion() -> dict[str, Any]:
    """Prove the champion as serving does: records, then the digest of its files.

    Raises:
        ReleaseError: there is no champion.
        RecordInvalid, RegistryError: it has no right to serve.
    """
    from endcap.release import promotion
    from endcap.release.records import verified_promotion

    settings = load_settings()
    registry, keys = registry_of(settings), keys_of(settings)
    champion = promotion.verified_champion(registry, keys)
    if champion is None:
        raise ReleaseError("there is no champion", field="@champion", action="Run retrain_full, then approve promote_model.")
    registry.download(champion, settings.paths.models)
    record = verified_promotion(champion, keys)
    return {
        "model_version": champion.version,
        "digest": champion.digest,
        "dataset_version": champion.dataset_version,
        "approved_by": record["approved_by"],
        "approved_at": record["approved_at"],
        "gates": record["gate"]["checks"],
    }


def _checkout_newest(datasets: DatasetRepository, folder: Path) -> Path:
    datasets.checkout(datasets.get("latest").version, folder / "dataset")
    return folder / "dataset"


def one_at_a_time(settings: Settings) -> AbstractContextManager[None]:
    """Whoever moves the champion, or rules a model out, holds this lock: what was checked still holds when the alias moves."""
    return locked(settings.home / "release" / "champion.lock")


@contextmanager
def audit_of(settings: Settings, keys: Keys) -> Iterator[AuditLog]:
    """The audit log, closed afterwards."""
    from endcap.release.audit import AuditLog

    log = AuditLog(settings.event_log_url, keys)
    try:
        yield log
    finally:
        log.close()


def registry_of(settings: Settings) -> Registry:
    from endcap.release.registry import Registry

    return Registry(settings.mlflow_url)


def keys_of(settings: Settings) -> Keys:
    from endcap.release.signing import Keys

    return Keys.load(settings.paths.secrets)
